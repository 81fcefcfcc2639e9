package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// relay is a socket in front of the engine's that can be cut, and frozen.
type relay struct {
	path   string
	mu     sync.Mutex
	conns  map[net.Conn]bool
	away   bool
	frozen atomic.Bool
}

func startRelay(t *testing.T) *relay {
	t.Helper()
	r := &relay{path: filepath.Join(t.TempDir(), "docker.sock"), conns: map[net.Conn]bool{}}
	l, err := net.Listen("unix", r.path)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("unix", "/var/run/docker.sock")
			r.mu.Lock()
			refused := r.away || err != nil
			if !refused {
				r.conns[in], r.conns[out] = true, true
			}
			r.mu.Unlock()
			if refused {
				in.Close()
				if out != nil {
					out.Close()
				}
				continue
			}
			wg.Go(func() { _, _ = io.Copy(out, in); out.Close() })
			wg.Go(func() { r.copy(in, out); in.Close() })
		}
	})
	t.Cleanup(func() { l.Close(); r.cut(false); wg.Wait() })
	return r
}

// copy passes answers on; while frozen it swallows them.
func (r *relay) copy(to, from net.Conn) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 && !(r.frozen.Load() && strings.Contains(string(buf[:n]), `"Actor"`)) { // events, and only those
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut ends all connections; with away no new ones come.
func (r *relay) cut(away bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away = away
	for c := range r.conns {
		c.Close()
		delete(r.conns, c)
	}
}

func (r *relay) back() { r.mu.Lock(); defer r.mu.Unlock(); r.away = false }

func TestEngineCutAndFrozen(t *testing.T) {
	engine(t)
	if _, err := os.Stat("/var/run/docker.sock"); err != nil {
		t.Skip("the engine is not on its usual socket")
	}
	for _, bin := range agents(t) {
		c, r := startCatalog(t, bin), startRelay(t)
		reg := registrar(t, c, "-docker=unix://"+r.path, "-resync=2s")
		a, b := start(t, "plain", "-e", "SERVICE_NAME=web"), start(t, "plain", "-e", "SERVICE_NAME=web")
		both := []string{published(t, a), published(t, b)}
		eventually(t, 5*time.Second, "registered", c.has("web", both...))

		r.cut(true)
		dockerCmd(t, "rm", "-f", a)
		d := start(t, "plain", "-e", "SERVICE_NAME=web")
		if err := c.has("web", both...)(); err != nil {
			t.Errorf("while the engine is away: %v", err)
		}
		r.back()
		eventually(t, 8*time.Second, "right after it is back", c.has("web", published(t, b), published(t, d)))

		r.frozen.Store(true)
		dockerCmd(t, "rm", "-f", b)
		eventually(t, 10*time.Second, "found by looking", c.has("web", published(t, d)))
		r.frozen.Store(false)
		select {
		case <-reg.ends:
			t.Error("the registrator ended")
		default:
		}
		return // one agent is enough: the question is Docker's
	}
}
