package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"github.com/miekg/dns"
)

// static and echo are the names under which this program starts itself as what the machine
// can do at all: a server of one file written with net/http, and one that sends packets
// back.
const (
	static = "serve-static"
	echo   = "serve-echo"
)

// serve is the child's half. It prints its address.
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
	body, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body) // who asked is gone: nobody to tell
	}))
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
	puts := &scenario{Name: "limit-put", What: "KV put of 100 bytes, 64 connections, beside Raft's log alone, in this process, 64 writers sharing entries", Unit: "/s", Only: []string{ours, alone}}
	if !s.wants(health.Name, packets.Name, puts.Name) {
		return nil
	}
	s.compare = append(s.compare, static, echo, alone)
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
	log, err := startRaft(s.scratch)
	if err != nil {
		return err
	}
	running[alone] = &peer{name: alone}
	puts.run = func(p *peer, _ int) (sample, error) {
		if p.name == alone {
			return work(p, 64, s.during, log.writers)
		}
		return drive(p, 64, s.during, 0, over(p.http, putKey))
	}
	err = s.measure(puts, running)
	return errors.Join(err, log.Close())
}
