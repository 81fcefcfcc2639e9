package fastpath

import (
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"
)

// small is up to what size a body is copied behind its head, in bytes; beyond, the system
// collects the two.
const small = 16 << 10

// response is an http.ResponseWriter. Its answers always have a length.
type response struct {
	conn   net.Conn
	header http.Header
	code   int    // 0 before WriteHeader
	out    []byte // the head and what is yet to be sent
	names  []string
	sized  bool  // the handler gave the length
	left   int64 // of the length, what is still to come
	broken bool
	until  time.Time // the write deadline
}

func (r *response) begin() {
	clear(r.header)
	r.code, r.sized, r.left = 0, false, 0
	if cap(r.out) > 4*small {
		r.out = nil
	}
	r.out = r.out[:0]
}

func (r *response) Header() http.Header { return r.header }

// WriteHeader takes the header as it is now. It is sent with the body.
func (r *response) WriteHeader(code int) {
	if r.code != 0 {
		return
	}
	r.code = code
	if v := r.header["Content-Length"]; len(v) == 1 {
		if n, err := strconv.ParseInt(v[0], 10, 64); err == nil && n >= 0 {
			r.sized, r.left = true, n
			r.head()
		}
	}
}

// head writes the header.
func (r *response) head() {
	out := append(r.out, "HTTP/1.1 "...)
	out = strconv.AppendInt(out, int64(r.code), 10)
	out = append(out, ' ')
	if text := http.StatusText(r.code); text != "" {
		out = append(out, text...)
	} else {
		out = append(append(out, "status code "...), strconv.Itoa(r.code)...)
	}
	out = append(out, "\r\n"...)
	r.names = r.names[:0]
	for name := range r.header {
		r.names = append(r.names, name)
	}
	slices.Sort(r.names)
	for _, name := range r.names {
		for _, v := range r.header[name] {
			out = append(append(out, name...), ": "...)
			at := len(out)
			out = append(out, v...)
			for i := at; i < len(out); i++ {
				if out[i] == '\r' || out[i] == '\n' {
					out[i] = ' '
				}
			}
			out = append(out, "\r\n"...)
		}
	}
	if r.header["Date"] == nil {
		out = append(append(append(out, "Date: "...), date()...), "\r\n"...)
	}
	r.out = append(out, "\r\n"...)
}

// Write sends a part of the body; without a length it is kept until the end.
func (r *response) Write(b []byte) (int, error) {
	if r.code == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if !r.sized {
		r.out = append(r.out, b...)
		return len(b), nil
	}
	if int64(len(b)) > r.left {
		return 0, http.ErrContentLength
	}
	if r.broken {
		return 0, net.ErrClosed
	}
	r.left -= int64(len(b))
	if len(r.out)+len(b) <= small {
		r.out = append(r.out, b...)
		if r.left > 0 {
			return len(b), nil
		}
		return len(b), r.flush()
	}
	pieces := net.Buffers{r.out, b}
	_, err := pieces.WriteTo(r.conn)
	r.out, r.broken = r.out[:0], err != nil
	return len(b), err
}

func (r *response) flush() error {
	_, err := r.conn.Write(r.out)
	r.out, r.broken = r.out[:0], err != nil
	return err
}

// finish sends what is left, and reports whether the connection is good for more.
func (r *response) finish() bool {
	if r.code == 0 {
		r.WriteHeader(http.StatusOK)
	}
	if !r.sized {
		body := append([]byte(nil), r.out...)
		r.header["Content-Length"] = []string{strconv.Itoa(len(body))}
		if len(body) > 0 && r.header["Content-Type"] == nil && r.header["Content-Encoding"] == nil {
			r.header["Content-Type"] = []string{http.DetectContentType(body)}
		}
		r.out = r.out[:0]
		r.head()
		r.out = append(r.out, body...)
	}
	if len(r.out) > 0 && !r.broken {
		r.flush()
	}
	return !r.broken && r.left == 0 && r.header.Get("Connection") != "close"
}

// SetWriteDeadline is for http.ResponseController. Moving a deadline costs as much as a
// small answer, so one that would move by less than half of what is left stays.
func (r *response) SetWriteDeadline(t time.Time) error {
	if ahead := t.Sub(r.until); !t.IsZero() && ahead >= 0 && ahead < time.Until(r.until)/2 {
		return nil
	}
	r.until = t
	return r.conn.SetWriteDeadline(t)
}

// SetReadDeadline is for http.ResponseController: the whole request is here.
func (r *response) SetReadDeadline(time.Time) error { return nil }

// stamp is the date as headers have it, made once a second.
type stamp struct {
	second int64
	text   string
}

var stamped atomic.Pointer[stamp]

func date() string {
	now := time.Now()
	s := stamped.Load()
	if s == nil || s.second != now.Unix() {
		s = &stamp{now.Unix(), now.UTC().Format(http.TimeFormat)}
		stamped.Store(s)
	}
	return s.text
}
