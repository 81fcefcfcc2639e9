package httpapi

import (
	"bytes"
	"fmt"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"weak"

	"github.com/klauspost/compress/gzip"
)

// minGzip is the body size above which compression is worth it, as Consul has it.
const minGzip = 1400

// acceptsGzip reports whether the client takes gzip.
func acceptsGzip(r *http.Request) bool {
	accepted := r.Header["Accept-Encoding"]
	if len(accepted) == 0 {
		return false
	}
	for part := range strings.SplitSeq(accepted[0], ",") {
		name, params, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			q, given := strings.CutPrefix(strings.TrimSpace(params), "q=")
			weight, err := strconv.ParseFloat(q, 64)
			return !given || err == nil && weight > 0
		}
	}
	return false
}

// writers are costly to make: each has windows and tables of some hundred kilobytes.
var writers = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level is a valid one
	return z
}}

// compress gives body in gzip.
func compress(body []byte) ([]byte, error) {
	z := writers.Get().(*gzip.Writer)
	defer writers.Put(z)
	b := bytes.NewBuffer(make([]byte, 0, len(body)/8+512))
	z.Reset(b)
	if _, err := z.Write(body); err != nil {
		return nil, fmt.Errorf("compress answer: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress answer: %w", err)
	}
	return b.Bytes(), nil
}

// packer remembers the compressed form of bodies that many clients share, for as long
// as the body itself is in use: a change that wakes thousands of watchers is compressed
// once. It holds bodies weakly, so it keeps none alive.
type packer struct {
	mu   sync.Mutex
	made map[shared]*packed // guarded by mu
}

// shared tells bodies apart. Bodies never change.
type shared struct {
	first weak.Pointer[byte]
	size  int
}

type packed struct {
	once  sync.Once
	bytes []byte
	err   error
}

// pack compresses a body, or waits for whoever is already at it.
func (p *packer) pack(body []byte) ([]byte, error) {
	key := shared{weak.Make(&body[0]), len(body)}
	p.mu.Lock()
	out := p.made[key]
	if out == nil {
		out = &packed{}
		if p.made == nil {
			p.made = map[shared]*packed{}
		}
		p.made[key] = out
		runtime.AddCleanup(&body[0], p.forget, key)
	}
	p.mu.Unlock()
	out.once.Do(func() { out.bytes, out.err = compress(body) })
	return out.bytes, out.err
}

func (p *packer) forget(key shared) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.made, key)
}
