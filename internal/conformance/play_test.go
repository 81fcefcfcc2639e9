package conformance

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// answer is what came back for one step, as it came.
type answer struct {
	status int
	header http.Header
	body   []byte        // unpacked
	took   time.Duration // until it was there
	err    error
}

// player plays one scenario against one agent.
type player struct {
	agent *agent
	kept  map[string]string
}

// do carries out a step, again and again if it says so, and keeps what it says.
func (p *player) do(st *step) *answer {
	var a *answer
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		a = p.once(st)
		if st.until == "" || strings.Contains(string(a.body), fill(st.until, p.kept)) || st.until == strconv.Itoa(a.status) {
			break
		}
		if time.Now().After(end) {
			a.err = fmt.Errorf("within 10 s, no answer was %q; the last was %d %.300s", st.until, a.status, a.body)
			break
		}
	}
	for _, k := range st.keep {
		p.kept[k[0]] = a.find(k[1])
	}
	return a
}

// once sends a step's request, and the one that shall wake it.
func (p *player) once(st *step) *answer {
	if st.wake == nil {
		return p.send(st)
	}
	waiting := make(chan *answer)
	go func() { waiting <- p.send(st) }()
	select {
	case a := <-waiting: // it did not wait
		p.send(st.wake)
		return a
	case <-time.After(100 * time.Millisecond):
	}
	p.send(st.wake)
	return <-waiting
}

// send writes the request as it stands, over a connection of its own: clients' libraries
// would mend what is odd in it.
func (p *player) send(st *step) *answer {
	begun := time.Now()
	conn, err := net.Dial("tcp", p.agent.http)
	if err != nil {
		return &answer{err: err}
	}
	defer conn.Close()
	conn.SetDeadline(begun.Add(20 * time.Second))
	body := fill(st.body, p.kept)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", st.method, fill(st.target, p.kept))
	for _, h := range st.header {
		fmt.Fprintf(&b, "%s\r\n", fill(h, p.kept))
	}
	if body != "" || st.method == http.MethodPut || st.method == http.MethodPost {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	fmt.Fprintf(&b, "\r\n%s", body)
	go conn.Write(b.Bytes()) // a server that refuses a body need not read it
	resp, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: st.method})
	if err != nil {
		return &answer{err: err}
	}
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, header: resp.Header}
	a.body, a.err = io.ReadAll(resp.Body)
	if resp.Header.Get("Content-Encoding") == "gzip" && len(a.body) > 0 && a.err == nil {
		var z *gzip.Reader
		if z, a.err = gzip.NewReader(bytes.NewReader(a.body)); a.err == nil {
			a.body, a.err = io.ReadAll(z)
		}
	}
	a.took = time.Since(begun)
	return a
}

// find gives a header, or a value of a JSON body by its path: .A.B[0].C
func (a *answer) find(path string) string {
	if !strings.HasPrefix(path, ".") {
		return a.header.Get(path)
	}
	var v any
	d := json.NewDecoder(bytes.NewReader(a.body))
	d.UseNumber()
	if d.Decode(&v) != nil {
		return "no-json"
	}
	for _, key := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		switch in := v.(type) {
		case map[string]any:
			v = in[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(in) {
				return "no-" + key
			}
			v = in[i]
		default:
			return "no-" + key
		}
	}
	return fmt.Sprint(v)
}
