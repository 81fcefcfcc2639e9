package fastpath

import (
	"bytes"
	"net/http"
	"net/textproto"
	"strings"
)

var (
	lineEnd = []byte("\r\n")
	headEnd = []byte("\r\n\r\n")
	version = []byte(" HTTP/1.1")
)

// take reads one request out of the buffer into c.req, and gives how many bytes it has.
// It is not ok where the request is not plain, or not for the fast path; nothing of it is
// consumed then.
func (c *conn) take() (used int, ok bool) {
	end := bytes.Index(c.buf, headEnd)
	if end < 0 {
		return 0, false
	}
	lines := c.buf[:end+len(lineEnd)] // each with its end
	first := bytes.Index(lines, lineEnd)
	line, head := lines[:first], lines[first+len(lineEnd):]
	var method string
	switch {
	case bytes.HasPrefix(line, []byte("GET ")):
		method = http.MethodGet
	case bytes.HasPrefix(line, []byte("PUT ")):
		method = http.MethodPut
	default:
		return 0, false
	}
	raw, found := bytes.CutSuffix(line[len(method)+1:], version)
	if !found {
		return 0, false
	}
	if !c.known || method != c.req.Method || string(raw) != c.req.RequestURI {
		c.known = false
		if !plain(raw) {
			return 0, false
		}
		target := string(raw)
		var taken bool
		if taken, c.waits = c.l.cfg.Takes(method, target); !taken {
			return 0, false
		}
		c.req.Method, c.req.RequestURI, c.known = method, target, true
	}
	if !bytes.Equal(head, c.head) || c.head == nil {
		c.head = nil
		if !c.headers(head) {
			return 0, false
		}
		c.head = append([]byte{}, head...)
	}
	used = end + len(headEnd)
	size := int(c.req.ContentLength)
	if method == http.MethodGet && size > 0 || len(c.buf)-used < size {
		return 0, false
	}
	target := c.req.RequestURI
	c.url.Path, c.url.RawQuery, c.url.ForceQuery = target, "", false
	if path, query, found := strings.Cut(target, "?"); found {
		c.url.Path, c.url.RawQuery, c.url.ForceQuery = path, query, query == ""
	}
	c.req.URL, c.req.Header, c.req.Pattern = &c.url, c.header, ""
	c.req.Form, c.req.PostForm = nil, nil // what a handler read of the request before is not this one's
	c.req.Body = http.NoBody
	if size > 0 {
		c.body.rest = c.buf[used : used+size]
		c.req.Body = &c.body
	}
	return used + size, true
}

// plain reports whether a target begins with one slash and reads the same escaped and
// unescaped, as far as its path goes.
func plain(target []byte) bool {
	if len(target) == 0 || target[0] != '/' || len(target) > 1 && target[1] == '/' {
		return false
	}
	path := true
	for _, b := range target {
		switch {
		case b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9':
		case bytes.IndexByte([]byte("/-_.~$&+:=@,;"), b) >= 0:
		case b == '?':
			path = false
		case path || b <= ' ' || b >= 0x7f || b == '#':
			return false
		}
	}
	return true
}

// headers reads header lines into c.header and what the request says of itself.
func (c *conn) headers(lines []byte) bool {
	h := http.Header{}
	length, host := int64(-1), ""
	for len(lines) > 0 {
		end := bytes.Index(lines, lineEnd)
		line := lines[:end]
		lines = lines[end+len(lineEnd):]
		colon := bytes.IndexByte(line, ':')
		if colon <= 0 || !token(line[:colon]) {
			return false
		}
		value, ok := text(line[colon+1:])
		if !ok {
			return false
		}
		name := textproto.CanonicalMIMEHeaderKey(string(line[:colon]))
		switch name {
		case "Host":
			if h[name] != nil || host != "" || !hostname(value) {
				return false
			}
			host = value
			continue
		case "Content-Length":
			if length >= 0 || len(value) == 0 || len(value) > 4 {
				return false
			}
			length = 0
			for _, d := range []byte(value) {
				if d < '0' || d > '9' {
					return false
				}
				length = length*10 + int64(d-'0')
			}
		case "Connection":
			if !strings.EqualFold(value, "keep-alive") {
				return false
			}
		case "Transfer-Encoding", "Te", "Trailer", "Expect", "Upgrade", "Http2-Settings", "Pragma":
			return false
		}
		h[name] = append(h[name], value)
	}
	if host == "" {
		return false
	}
	c.header, c.req.Host, c.req.ContentLength = h, host, max(length, 0)
	return true
}

// token reports whether a header's name is one.
func token(name []byte) bool {
	for _, b := range name {
		if !(b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '-' || b == '_') {
			return false
		}
	}
	return true
}

// text gives a header's value without the white space around it; not ok with anything
// that is not printable ASCII in it.
func text(value []byte) (string, bool) {
	value = bytes.Trim(value, " \t")
	for _, b := range value {
		if b < ' ' && b != '\t' || b >= 0x7f {
			return "", false
		}
	}
	return string(value), true
}

// hostname reports whether a Host is a plain name or address, with or without a port.
func hostname(host string) bool {
	return host != "" && strings.Trim(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._:[]") == ""
}
