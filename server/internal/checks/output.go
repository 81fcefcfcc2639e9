package checks

import "strings"

// tail is a writer that keeps the last bytes of what is written to it: they say how
// something ended. It is used by one goroutine at a time.
type tail struct {
	limit int
	buf   []byte
	total int64
}

// Write never fails. The buffer grows to twice the limit at most.
func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	t.total += int64(n)
	if len(p) > t.limit {
		p = p[len(p)-t.limit:]
	}
	if len(t.buf)+len(p) > 2*t.limit {
		keep := min(t.limit-len(p), len(t.buf))
		t.buf = t.buf[:copy(t.buf, t.buf[len(t.buf)-keep:])]
	}
	t.buf = append(t.buf, p...)
	return n, nil
}

// String gives what was kept, as text.
func (t *tail) String() string {
	return strings.ToValidUTF8(string(t.buf[max(0, len(t.buf)-t.limit):]), "")
}

// cut reports whether something was not kept.
func (t *tail) cut() bool { return t.total > int64(t.limit) }
