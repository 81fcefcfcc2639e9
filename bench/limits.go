package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/miekg/dns"
)

// The names under which this program starts itself as what the machine can do at all: a
// server of one file written with net/http; one that sends packets back; one that knows
// nothing of HTTP but where a request ends, and has one answer; and one that knows as little
// and answers when Raft's log has the request's body.
const (
	static = "serve-static"
	echo   = "serve-echo"
	answer = "serve-answer"
	logged = "serve-log"
)

// children are those that this program is when it is started by their names.
var children = []string{static, echo, answer, logged}

// serve is the child's half. It prints its address. file holds the answer's body, or is the
// folder of the log.
func serve(kind, file string) error {
	if kind == echo {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println(c.LocalAddr())
		buf := make([]byte, 64<<10)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return err
			}
			if _, err := c.WriteTo(buf[:n], from); err != nil {
				return err
			}
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if kind == logged {
		return serveLog(l, file)
	}
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	if kind == answer {
		return serveAnswer(l, fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nX-Consul-Index: 5\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
	}
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body) // who asked is gone: nobody to tell
	}))
}

// serveAnswer gives each request of l the same answer: those that have an index when the
// next PUT comes, from as many goroutines as there are processors.
func serveAnswer(l net.Listener, answer []byte) error {
	var mu sync.Mutex
	var held []net.Conn // guarded by mu
	wake := func() {
		mu.Lock()
		all := held
		held = nil
		mu.Unlock()
		var group sync.WaitGroup
		for part := range runtime.NumCPU() {
			group.Go(func() {
				for i := part; i < len(all); i += runtime.NumCPU() {
					_, _ = all[i].Write(answer) // who asked is gone: nobody to tell
				}
			})
		}
		group.Wait()
	}
	return serveEach(l, func(c net.Conn) func(request, _ []byte) error {
		return func(request, _ []byte) error {
			switch {
			case bytes.HasPrefix(request, []byte("PUT")):
				wake()
			case bytes.Contains(request, []byte("index=")):
				mu.Lock()
				held = append(held, c)
				mu.Unlock()
				return nil
			}
			_, err := c.Write(answer)
			return err
		}
	})
}

// serveLog answers each request of l when its body is in a log of Raft's in a folder.
func serveLog(l net.Listener, dir string) error {
	log, err := startRaft(dir)
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	done := []byte("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\ntrue")
	return serveEach(l, func(c net.Conn) func(_, body []byte) error {
		out := make(chan error, 1)
		return func(_, body []byte) error {
			log.items <- item{body, out}
			err := <-out
			if err == nil {
				_, err = c.Write(done)
			}
			return err
		}
	})
}

// serveEach calls what is made for each connection of l for each of its requests, until it errs.
func serveEach(l net.Listener, newConn func(net.Conn) func(request, body []byte) error) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		take := newConn(c)
		go func() {
			defer c.Close()
			buf := make([]byte, 4<<10)
			for have := 0; ; {
				n, err := c.Read(buf[have:])
				if err != nil {
					return
				}
				have += n
				head, body, whole := bytes.Cut(buf[:have], []byte("\r\n\r\n"))
				if _, size, ok := bytes.Cut(head, []byte("Content-Length: ")); whole && ok {
					size, _, _ = bytes.Cut(size, []byte("\r"))
					n, err := strconv.Atoi(string(size))
					whole = err == nil && len(body) >= n
				}
				if !whole && have < len(buf) {
					continue
				}
				have = 0
				if take(head, body) != nil {
					return
				}
			}
		}()
	}
}

// child runs this program as one of the limits.
func (s *suite) child(kind, file string) (*peer, func(), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, self, kind, file)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, nil, err
	}
	end := func() {
		cancel()
		_ = cmd.Wait()
	}
	var addr string
	if _, err := fmt.Fscanln(out, &addr); err != nil {
		end()
		return nil, nil, fmt.Errorf("%s: %w", kind, err)
	}
	return &peer{name: kind, http: addr, dns: addr, cmd: cmd}, end, nil
}

// limits measures ours beside what the machine can do at all.
func (s *suite) limits() error {
	health := &scenario{Name: "limit-health", What: "`health/service/X?passing` of 1,000 instances beside a server of one file of as many bytes, written with net/http", Unit: "/s", Only: []string{ours, static}}
	packets := &scenario{Name: "limit-dns", What: "DNS A of 10 instances beside a server that sends packets back", Unit: "/s", Only: []string{ours, echo}}
	puts := &scenario{Name: "limit-put", What: "KV put of 100 bytes, 64 connections, beside Raft's log alone, in this process, 64 writers sharing entries; and beside a server that only hands what it is sent to such a log", Unit: "/s", Only: []string{ours, alone, logged}}
	gets := &scenario{Name: "limit-get", What: "KV get of 100 bytes, 64 connections, beside a server that sends the same bytes for whatever is asked", Unit: "/s", Only: []string{ours, consul, answer}}
	wakes := &scenario{Name: "limit-watchers", What: "5,000 blocked watchers on one service, one change, beside a server that sends as many bytes to as many connections", Unit: "ms", Less: true,
		Only: []string{ours, consul, answer}, run: s.watchers}
	if !s.wants(health.Name, packets.Name, puts.Name, gets.Name, wakes.Name) {
		return nil
	}
	s.compare = append(s.compare, static, echo, answer, alone, logged)
	p, err := s.launch(ours, "-server", "-bootstrap-expect=1")
	if err != nil {
		return err
	}
	defer p.remove()
	for i := range 1000 {
		for _, n := range []int{10, 1000} {
			if i >= n {
				continue
			}
			if err := p.put("/v1/catalog/register", fmt.Sprintf(`{"Node":"n%d","Address":"10.0.%d.%d","Service":{"Service":"s%d","Port":80}}`, i, i/250, i%250, n)); err != nil {
				return err
			}
		}
	}
	body, err := p.fetch("/v1/health/service/s1000?passing")
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(s.scratch, "body")
	if err != nil {
		return err
	}
	_, err = io.Copy(file, strings.NewReader(body))
	if cerr := file.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	running := map[string]*peer{ours: p}
	for _, kind := range []string{static, echo} {
		q, end, err := s.child(kind, file.Name())
		if err != nil {
			return err
		}
		defer end()
		running[kind] = q
	}
	if err := s.bareAnswers(p, gets, wakes); err != nil {
		return err
	}
	health.run = func(p *peer, _ int) (sample, error) {
		return drive(p, 16, s.during, 0, always(p.http, "GET", "/v1/health/service/s1000?passing"))
	}
	packets.run = func(p *peer, _ int) (sample, error) {
		packet, err := question("s10.service.consul.", dns.TypeA)
		if err != nil {
			return sample{}, err
		}
		return drive(p, 16, s.during, 0, asking(p.dns, packet))
	}
	if err := s.measure(health, running); err != nil {
		return err
	}
	if err := s.measure(packets, running); err != nil || !s.wants(puts.Name) {
		return err
	}
	log, err := startRaft(filepath.Join(s.scratch, alone))
	if err != nil {
		return err
	}
	running[alone] = &peer{name: alone}
	bare, end, err := s.child(logged, filepath.Join(s.scratch, logged))
	if err != nil {
		return errors.Join(err, log.Close())
	}
	defer end()
	running[logged] = bare
	puts.run = func(p *peer, _ int) (sample, error) {
		if p.name == alone {
			return work(p, 64, s.during, log.writers)
		}
		return drive(p, 64, s.during, 0, over(p.http, putKey))
	}
	err = s.measure(puts, running)
	return errors.Join(err, log.Close())
}

// bareAnswers measures reads of keys and watchers of ours and of Consul beside a server that
// gives as many bytes for nothing.
func (s *suite) bareAnswers(p *peer, gets, wakes *scenario) error {
	if !s.wants(gets.Name, wakes.Name) {
		return nil
	}
	running := map[string]*peer{ours: p}
	if s.programs[consul] != "" {
		q, err := s.launch(consul, "-server", "-bootstrap-expect=1")
		if err != nil {
			return err
		}
		defer q.remove()
		running[consul] = q
	}
	for _, q := range running {
		if _, err := drive(q, 64, 0, 64, over(q.http, func(b []byte, _, i int) []byte { return putKey(b, i, 0) })); err != nil {
			return err
		}
	}
	file := filepath.Join(s.scratch, "answer")
	body, err := p.fetch("/v1/kv/k/0/0")
	if err == nil {
		err = os.WriteFile(file, []byte(body), 0o600)
	}
	if err != nil {
		return err
	}
	bare, end, err := s.child(answer, file)
	if err != nil {
		return err
	}
	defer end()
	running[answer] = bare
	gets.run = func(p *peer, _ int) (sample, error) { return drive(p, 64, s.during, 0, over(p.http, getKey)) }
	if err := s.measure(gets, running); err != nil {
		return err
	}
	return s.measure(wakes, running)
}
