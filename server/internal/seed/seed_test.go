package seed

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/internal/docker/dockertest"
)

// nameserver answers SRV questions from a table, until the test ends.
func nameserver(t *testing.T, records func() []string) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		for _, r := range records() {
			rr, err := dns.NewRR(r)
			if err != nil {
				t.Error(err)
				continue
			}
			if rr.Header().Name == q.Question[0].Name && rr.Header().Rrtype == q.Question[0].Qtype {
				m.Answer = append(m.Answer, rr)
			}
		}
		if len(m.Answer) == 0 {
			m.Rcode = dns.RcodeNameError
		}
		w.WriteMsg(m)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.ActivateAndServe() }()
	t.Cleanup(func() {
		conn.Close()
		<-done
	})
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

func want(t *testing.T, f Finder, entries []string, addrs ...string) {
	t.Helper()
	got, err := f.Find(t.Context(), entries)
	slices.Sort(got)
	if err != nil || !slices.Equal(got, addrs) {
		t.Errorf("Find(%q) = %q, %v; want %q", entries, got, err, addrs)
	}
}

// An SRV name is asked anew each time, and its failure leaves the other entries alone.
func TestSRV(t *testing.T) {
	t.Parallel()
	both := []string{"_r._tcp.example. 1 IN SRV 1 1 8301 a.example.", "_r._tcp.example. 1 IN SRV 2 1 9301 b.example."}
	var records atomic.Pointer[[]string]
	records.Store(&both)
	f := Finder{Resolver: nameserver(t, func() []string { return *records.Load() })}
	want(t, f, []string{"_r._tcp.example", "10.0.0.1", "name.example:8301"}, "10.0.0.1", "a.example:8301", "b.example:9301", "name.example:8301")
	second := both[1:]
	records.Store(&second)
	want(t, f, []string{"_r._tcp.example"}, "b.example:9301")
	got, err := f.Find(t.Context(), []string{"_none._tcp.example", "10.0.0.1"})
	if err == nil || !strings.Contains(err.Error(), "_none._tcp.example") || !slices.Equal(got, []string{"10.0.0.1"}) {
		t.Errorf("with a name that is not there: %q, %v", got, err)
	}
}

// Containers are found by label, running ones only, and never this agent itself.
func TestDocker(t *testing.T) {
	t.Parallel()
	engine := &dockertest.Engine{}
	on := func(id, state, role string, networks map[string]string) {
		c := docker.Container{ID: id, State: state, Labels: map[string]string{"role": role}, Networks: map[string]docker.Endpoint{}}
		for name, ip := range networks {
			c.Networks[name] = docker.Endpoint{IPv4: netip.MustParseAddr(ip)}
		}
		engine.Put(c)
	}
	on("a", docker.StateRunning, "server", map[string]string{"lan": "172.18.0.2", "other": "172.19.0.2"})
	on("b", docker.StateRunning, "server", map[string]string{"lan": "172.18.0.3"})
	on("c", docker.StateExited, "server", map[string]string{"lan": "172.18.0.4"})
	on("d", docker.StateRunning, "web", map[string]string{"lan": "172.18.0.5"})
	asked := ""
	f := Finder{Self: "172.18.0.3:8301", Engine: func(host string) (docker.Engine, func() error, error) {
		asked = host
		return engine, func() error { return nil }, nil
	}}
	want(t, f, []string{"provider=docker label_key=role label_value=server network=lan host=tcp://x:1"}, "172.18.0.2:8301")
	if asked != "tcp://x:1" {
		t.Errorf("the engine at %q was asked", asked)
	}
	want(t, f, []string{"provider=docker label_key=role port=7"}, "172.18.0.2:7", "172.18.0.3:7", "172.18.0.5:7", "172.19.0.2:7")
	engine.Away(true)
	if got, err := f.Find(t.Context(), []string{"provider=docker label_key=role", "10.0.0.1"}); err == nil || len(got) != 1 {
		t.Errorf("without the engine: %q, %v", got, err)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for entry, want := range map[string]string{
		"10.0.0.1": "", "_r._tcp.example": "", "provider=docker label_key=a label_value=b network=c port=1 host=unix:///x": "",
		"provider=docker":                       "label_key",
		"provider=docker label_key=a labl=b":    `"labl=b"`,
		"provider=docker label_key=a port=none": "port=none",
		"provider=aws tag_key=x":                "not built in",
	} {
		err := Check(entry)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("Check(%q) = %v, want %q", entry, err, want)
		}
	}
	if !errors.Is(Check("provider=gce x=y"), ErrCloud) {
		t.Error("a cloud's provider is not told as one")
	}
}
