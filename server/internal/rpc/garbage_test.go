package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"flag"
	"io"
	"log/slog"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/certificate"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/msgpack"
	"github.com/rollcall/rollcall/server/internal/servertest"
)

// counting is an endpoint that counts the calls which reach it.
type counting struct{ calls atomic.Int64 }

func (c *counting) Read(context.Context, *endpoint.Query) (*endpoint.Answer, error) {
	c.calls.Add(1)
	return &endpoint.Answer{}, nil
}

func (c *counting) Write(context.Context, *endpoint.Write) (*command.Result, error) {
	c.calls.Add(1)
	return &command.Result{}, nil
}

// port is a whole server on a net in memory.
type port struct {
	net *servertest.Net
	log bytes.Buffer // read after stop
	counting
	end func()
}

func newPort(t testing.TB, peers *certificate.Peers) *port {
	t.Helper()
	p := &port{net: servertest.NewNet()}
	l, err := p.net.Listen("one:8300")
	if err != nil {
		t.Fatal(err)
	}
	s := New(Config{Listener: l, Peers: peers, Log: slog.New(slog.NewTextHandler(&p.log, nil))})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx, &p.counting) })
	running.Go(func() { // the log is fed and answers nothing
		for {
			c, err := s.raft.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				io.Copy(io.Discard, io.LimitReader(c, 1<<16))
				c.Close()
			})
		}
	})
	p.end = func() { cancel(); s.raft.Close(); running.Wait() }
	return p
}

// send sends bytes on a connection of their own, and reads until the server closes it, or
// says nothing for a while.
func (p *port) send(t testing.TB, b []byte) {
	t.Helper()
	c, err := p.net.Dialer("client")(context.Background(), "one:8300")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Second))
	if _, err := c.Write(b); err == nil {
		io.Copy(io.Discard, io.LimitReader(c, 1<<20))
	}
}

// aFrame is a frame that is nearly right: of any kind, with a head that is one or nearly,
// with lengths that are right or not.
func aFrame(dice *rand.Rand) []byte {
	heads := []any{
		&endpoint.Query{Kind: endpoint.KVGet, Name: "a"}, writeHead{"dc1", "t"}, api.QueryOptions{MinIndex: 3}, answerHead{}, api.Errorf(api.Invalid, "x"), nil,
	}
	head, _ := msgpack.Encode(heads[dice.Intn(len(heads))]) // plain fields
	body, _ := command.Append(nil, &command.KV{Verb: command.Set, Pair: api.KVPair{Key: "a"}})
	if dice.Intn(3) == 0 {
		dice.Read(body)
	}
	for range dice.Intn(4) {
		if len(head) > 0 {
			head[dice.Intn(len(head))] ^= byte(1 << dice.Intn(8))
		}
	}
	b := binary.BigEndian.AppendUint32(nil, uint32(fixed+len(head)+len(body)))
	b = append(b, byte(dice.Intn(16)))
	b = binary.BigEndian.AppendUint64(b, uint64(dice.Intn(4)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(head)))
	b = append(append(b, head...), body...)
	if dice.Intn(50) == 0 {
		b[dice.Intn(len(b))] = byte(dice.Intn(256))
	}
	return b
}

var frames = flag.Int("frames", 20_000, "random frames to send")

// Random connections, with random frames on them, are answered or closed: no panic, nothing
// left behind, and a log that does not grow with them.
func TestRandomFrames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		first []byte // begins a connection, mostly
		share int
	}{{"calls", []byte{callsByte}, 80}, {"streams", []byte{streamByte}, 5}, {"tls", []byte{tlsByte}, 5}, {"raft", []byte{raftByte}, 5}, {"any", nil, 5}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				dice := rand.New(rand.NewSource(1))
				p := newPort(t, peersOf(t))
				connections := 0
				for sent := 0; sent < *frames*c.share/100; {
					b := bytes.Clone(c.first)
					if c.first == nil {
						b = []byte{byte(dice.Intn(256))}
					}
					connections++
					for range 20 {
						b = append(b, aFrame(dice)...)
						sent++
					}
					p.send(t, b)
				}
				p.end()
				if n := p.calls.Load(); c.name == "calls" && int(n) < *frames/100 {
					t.Errorf("only %d frames were calls", n)
				}
				if n := bytes.Count(p.log.Bytes(), []byte("\n")); n > connections/2 || strings.Contains(p.log.String(), "panic") {
					t.Errorf("%d lines in the log:\n%.2000s", n, p.log.String())
				}
			})
		})
	}
}

// peersOf are those of a server with a certificate.
func peersOf(t testing.TB) *certificate.Peers {
	t.Helper()
	ca, err := certificate.NewCA(certificate.CA{Domain: "consul", Valid: 100 * 365 * 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(certificate.Leaf{CommonName: "server.dc1.consul", DNS: []string{"server.dc1.consul"}, Valid: 24 * time.Hour, Server: true, Client: true})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files := map[string][]byte{"ca.pem": ca.Cert, "cert.pem": pair.Cert, "key.pem": pair.Key}
	for name, b := range files {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	peers, err := certificate.OpenPeers(certificate.PeerConfig{Server: true, Domain: "consul.", Config: certificate.Config{
		CAFile: filepath.Join(dir, "ca.pem"), CertFile: filepath.Join(dir, "cert.pem"), KeyFile: filepath.Join(dir, "key.pem"),
	}})
	if err != nil {
		t.Fatal(err)
	}
	return peers
}

// Whatever begins a connection is answered or closed, and never a panic.
func FuzzConnection(f *testing.F) {
	dice := rand.New(rand.NewSource(2))
	for first := range byte(8) {
		f.Add(append([]byte{first}, aFrame(dice)...))
	}
	p := newPort(f, nil)
	f.Cleanup(p.end)
	f.Fuzz(func(t *testing.T, b []byte) { p.send(t, b) })
}
