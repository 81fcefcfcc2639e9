package main

import (
	"fmt"
	"math/bits"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// histogram counts latencies in buckets that are 1/32 of a power of two wide: within 3%.
type histogram [64 * 32]uint64

func (h *histogram) add(d time.Duration) {
	v := uint64(max(d, 32))
	e := bits.Len64(v) - 1
	h[e*32+int(v>>(e-5)&31)]++
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o {
		h[i] += n
	}
}

func (h *histogram) count() (all uint64) {
	for _, n := range h {
		all += n
	}
	return all
}

// quantile gives the latency that a share q of all stays below, 0 if there are none.
func (h *histogram) quantile(q float64) time.Duration {
	all, seen := h.count(), uint64(0)
	for i, n := range h {
		if seen += n; n > 0 && float64(seen) >= q*float64(all) {
			return time.Duration((32 + uint64(i%32)) << (i / 32) >> 5)
		}
	}
	return 0
}

// request is the bytes of one request.
func request(verb, path string, body []byte) []byte {
	return appendRequest(nil, verb, path, body)
}

func appendRequest(b []byte, verb, path string, body []byte) []byte {
	b = append(b, verb...)
	b = append(b, ' ')
	b = append(b, path...)
	b = append(b, " HTTP/1.1\r\nHost: a\r\n"...)
	if verb != "GET" {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(body)), 10)
		b = append(b, "\r\n"...)
	}
	b = append(b, "\r\n"...)
	return append(b, body...)
}

// traffic is what the clients of a load ask for.
type traffic struct {
	addr string
	udp  bool
	next func(b []byte, number, i int) []byte // appends a client's i-th request
	seen func(c *conn) error                  // looks at each answer, body included; may be nil
}

// over asks for what next makes of the number of the client and of its request, or of
// everybody's where their count is bounded.
func over(addr string, next func(b []byte, number, i int) []byte) traffic {
	return traffic{addr: addr, next: next}
}

// always asks for the same.
func always(addr, verb, path string) traffic {
	bytes := request(verb, path, nil)
	return over(addr, func(b []byte, _, _ int) []byte { return append(b, bytes...) })
}

// asking sends the same packet over and over, and takes any answer.
func asking(addr string, packet []byte) traffic {
	return traffic{addr: addr, udp: true, next: func(b []byte, _, _ int) []byte { return append(b, packet...) }}
}

// asker carries out a worker's operations, one at a time.
type asker interface {
	do(i int) error // i counts this worker's operations
	Close() error
}

// sample is one measurement.
type sample struct {
	Value   float64 `json:"value"` // in the scenario's unit
	P50     float64 `json:"p50,omitempty"`
	P99     float64 `json:"p99,omitempty"`
	P999    float64 `json:"p999,omitempty"`    // milliseconds all three
	CPU     float64 `json:"cpu,omitempty"`     // milliseconds of the server's processor per operation
	Written float64 `json:"written,omitempty"` // bytes per operation, as the server gave them to the kernel for its disk
	Memory  float64 `json:"memory,omitempty"`  // resident when it was over, in MB
}

// meter measures what is done to a peer.
type meter struct {
	peer     *peer
	mu       sync.Mutex
	whole    histogram // guarded by mu
	failure  error     // guarded by mu; the first
	began    time.Time
	used     time.Duration
	written  float64
	deadline time.Time
}

func (m *meter) start(during time.Duration) {
	m.used, m.written = m.peer.usage()
	m.began = time.Now()
	m.deadline = m.began.Add(during)
}

func (m *meter) add(h *histogram, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.whole.merge(h)
	if m.failure == nil {
		m.failure = err
	}
}

func (m *meter) result() (sample, error) {
	took := time.Since(m.began)
	if m.failure != nil {
		return sample{}, m.failure
	}
	used, written := m.peer.usage()
	n := float64(m.whole.count())
	return sample{
		Value: n / took.Seconds(), P50: ms(m.whole.quantile(0.5)), P99: ms(m.whole.quantile(0.99)), P999: ms(m.whole.quantile(0.999)),
		CPU: ms(used-m.used) / n, Written: (written - m.written) / n,
	}, nil
}

// drive has so many clients ask, each when it has its answer, for a while, or count times
// all together if count is not 0, and measures.
func drive(p *peer, clients int, during time.Duration, count int64, t traffic) (sample, error) {
	loops := make([]*loop, min(runtime.NumCPU(), clients))
	for at := range loops {
		var err error
		if loops[at], err = newLoop(t.addr, t.udp, at, len(loops), clients); err != nil {
			return sample{}, err
		}
		defer loops[at].Close()
	}
	var (
		m     = meter{peer: p}
		taken atomic.Int64
		group sync.WaitGroup
	)
	m.start(during)
	for _, l := range loops {
		group.Go(func() {
			h := new(histogram)
			made := make([]int, clients)
			var buf []byte
			// ask sends a client's next request, if there is to be one
			ask := func(c *conn, now time.Time) (asked int, err error) {
				n := made[c.number]
				if count > 0 {
					if n = int(taken.Add(1)) - 1; n >= int(count) {
						return 0, nil
					}
				} else if !now.Before(m.deadline) {
					return 0, nil
				}
				made[c.number]++
				buf = t.next(buf[:0], c.number, n)
				return 1, c.send(buf)
			}
			asked := 0
			for _, c := range l.clients {
				c.keep = t.seen != nil
				n, err := ask(c, time.Now())
				if err != nil {
					m.add(h, err)
					return
				}
				asked += n
			}
			m.add(h, l.answers(asked, func(c *conn) (int, error) {
				now := time.Now()
				h.add(now.Sub(c.sent))
				if t.seen != nil {
					if err := t.seen(c); err != nil {
						return 0, err
					}
				}
				return ask(c, now)
			}))
		})
	}
	group.Wait()
	return m.result()
}

// work has workers do their operations for a while, and measures.
func work(p *peer, workers int, during time.Duration, open func(worker int) (asker, error)) (sample, error) {
	all := make([]asker, workers)
	for w := range all {
		var err error
		if all[w], err = open(w); err != nil {
			return sample{}, err
		}
		defer all[w].Close()
	}
	m := meter{peer: p}
	var group sync.WaitGroup
	m.start(during)
	for w, a := range all {
		group.Go(func() {
			h := new(histogram)
			before := m.began
			for i := 0; before.Before(m.deadline); i++ {
				if err := a.do(i); err != nil {
					m.add(h, fmt.Errorf("worker %d, operation %d: %w", w, i, err))
					return
				}
				now := time.Now()
				h.add(now.Sub(before))
				before = now
			}
			m.add(h, nil)
		})
	}
	group.Wait()
	return m.result()
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
