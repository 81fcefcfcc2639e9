// Package gossip is the membership of a datacenter: who is alive, as Serf's gossip
// tells it, and the tags that say what each member is. Members come and go as events;
// what the room gives is the whole list and a channel that closes when it changes.
//
// It promises that a name belongs to one living member, and that members of another
// datacenter, or a second server that elects itself, are not let in. The composition
// root opens it; leader and agent use it.
package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/rollcall/rollcall/internal/api"
)

// Config is what Open needs.
type Config struct {
	Name, ID, Datacenter string
	Bind                 string // IP to listen on
	Port                 int    // UDP and TCP
	Advertise            string // IP that others reach us at; Bind if empty
	AdvertisePort        int    // Port if 0
	Tags                 map[string]string
	Key                  []byte // 16, 24 or 32 bytes; nil sends clear text
	// Snapshot is a file that remembers members over a restart, "" for none.
	Snapshot string
	// Rejoin joins the remembered members also after a leave.
	Rejoin bool
	// ReconnectTimeout is how long a failed member is remembered. Default 72h.
	ReconnectTimeout time.Duration
	// Fast takes short timers, for -dev and tests.
	Fast bool
	// Transport replaces real sockets, for tests.
	Transport memberlist.NodeAwareTransport
	Log       *slog.Logger
}

// Pool is this agent's part in the gossip. Its methods may be called concurrently.
type Pool struct {
	cfg    Config
	log    *slog.Logger
	serf   *serf.Serf
	events chan serf.Event
	ended  chan struct{}  // closed when no event is wanted any longer
	taking sync.WaitGroup // takeEvents

	mu      sync.Mutex
	changed chan struct{} // guarded by mu; closed at the next change
	closed  bool          // guarded by mu
	refused string        // guarded by mu; the last refusal, said once
}

// eventBuffer takes a storm of joins while the log is slow; Serf must not block.
const eventBuffer = 2048

// Open begins to gossip, alone. Close ends it.
func Open(cfg Config) (*Pool, error) {
	p := &Pool{
		cfg: cfg, log: cfg.Log.With("room", "gossip"), events: make(chan serf.Event, eventBuffer),
		ended: make(chan struct{}), changed: make(chan struct{}),
	}
	if n := len(cfg.Key); n != 0 && n != 16 && n != 24 && n != 32 { // Serf would leave goroutines behind
		return nil, fmt.Errorf("gossip key of %d bytes: it must have 16, 24 or 32", n)
	}
	if err := p.busy(); err != nil {
		return nil, err
	}
	if cfg.Snapshot != "" {
		if err := os.MkdirAll(filepath.Dir(cfg.Snapshot), 0o750); err != nil {
			return nil, fmt.Errorf("data directory is not writable: %w", err)
		}
	}
	s, err := serf.Create(p.serfConfig())
	if err != nil {
		return nil, explain(cfg, err)
	}
	p.serf = s
	p.taking.Go(p.takeEvents)
	return p, nil
}

// serfConfig turns our settings into Serf's, with Consul's timers for a LAN.
func (p *Pool) serfConfig() *serf.Config {
	cfg := p.cfg
	c := serf.DefaultConfig()
	c.Init()
	c.NodeName, c.Tags, c.EventCh = cfg.Name, cfg.Tags, p.events
	c.SnapshotPath, c.RejoinAfterLeave = cfg.Snapshot, cfg.Rejoin
	c.EnableNameConflictResolution = false // the one who has the name keeps it
	c.LeavePropagateDelay = 3 * time.Second
	c.ReconnectTimeout = cfg.ReconnectTimeout
	if c.ReconnectTimeout == 0 {
		c.ReconnectTimeout = 72 * time.Hour
	}
	c.TombstoneTimeout = c.ReconnectTimeout
	c.MinQueueDepth = 4096
	c.QueueDepthWarning = 1_000_000
	c.Merge = merge{p}
	c.Logger = log.New(&lines{log: p.log}, "", 0)
	m := memberlist.DefaultLANConfig()
	m.Name = cfg.Name
	m.BindAddr, m.BindPort = cfg.Bind, cfg.Port
	m.AdvertiseAddr, m.AdvertisePort = cfg.Advertise, cfg.AdvertisePort
	if m.AdvertisePort == 0 {
		m.AdvertisePort = cfg.Port
	}
	m.SecretKey = cfg.Key
	m.DeadNodeReclaimTime = 30 * time.Second
	m.Logger = c.Logger
	m.LogOutput = nil
	m.Transport = nil
	if cfg.Transport != nil {
		m.Transport = cfg.Transport
	}
	m.Conflict = nil
	if cfg.Fast {
		m.ProbeInterval, m.ProbeTimeout = 100*time.Millisecond, 50*time.Millisecond
		m.GossipInterval, m.SuspicionMult = 20*time.Millisecond, 3
		m.PushPullInterval = 2 * time.Second
		c.LeavePropagateDelay = 100 * time.Millisecond
		c.ReconnectInterval = 500 * time.Millisecond
	}
	c.MemberlistConfig = m
	return c
}

// busy tells a port that is taken before Serf does so in many words.
func (p *Pool) busy() error {
	if p.cfg.Transport != nil || p.cfg.Port == 0 {
		return nil
	}
	at := net.JoinHostPort(p.cfg.Bind, strconv.Itoa(p.cfg.Port))
	l, err := net.Listen("tcp", at)
	if err == nil {
		err = l.Close()
	}
	if err == nil {
		var c net.PacketConn
		if c, err = net.ListenPacket("udp", at); err == nil {
			err = c.Close()
		}
	}
	if err != nil {
		return explain(p.cfg, fmt.Errorf("listen on %s: %w", at, err))
	}
	return nil
}

// explain says what to do where the port is taken.
func explain(cfg Config, err error) error {
	at := net.JoinHostPort(cfg.Bind, strconv.Itoa(cfg.Port))
	if errors.Is(err, syscall.EADDRINUSE) || strings.Contains(err.Error(), "address already in use") {
		return fmt.Errorf("ports.serf_lan: %s is in use by another process: stop that one, or choose another port (-serf-lan-port)", at)
	}
	return err
}

// Run watches over the gossip until ctx ends or the pool is closed; an error tells that
// it ended by itself.
func (p *Pool) Run(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-p.serf.ShutdownCh():
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil
	}
	return errors.New("gossip has ended by itself")
}

// takeEvents takes what Serf tells, from Open to Close whether or not the pool runs:
// Serf sends under the lock that every question takes, so an event left lying would
// hold up everything.
func (p *Pool) takeEvents() {
	for {
		select {
		case <-p.ended:
			return
		case e := <-p.events:
			if m, ok := e.(serf.MemberEvent); ok {
				for _, x := range m.Members {
					p.log.Info(e.EventType().String(), "node", x.Name, "addr", x.Addr.String())
				}
				p.notify()
			}
		}
	}
}

func (p *Pool) notify() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.changed)
	p.changed = make(chan struct{})
}

// Watch gives a channel that closes at the next change of members, their tags or
// states. Take it before looking.
func (p *Pool) Watch() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.changed
}

// Join joins the agents at addrs (host or host:port; names are resolved) and gives how
// many answered; an error only where none did, or ctx ended.
func (p *Pool) Join(ctx context.Context, addrs []string) (int, error) {
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1) // Serf knows no context: what comes late is dropped
	go func() {
		n, err := p.serf.Join(addrs, true)
		done <- result{n, err}
	}()
	select {
	case r := <-done:
		if r.n > 0 {
			return r.n, nil
		}
		return 0, tidy(r.err)
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

// tidy makes one line of what memberlist says in several.
func tidy(err error) error {
	if err == nil {
		return nil
	}
	var parts []string
	for l := range strings.Lines(err.Error()) {
		if l = strings.TrimLeft(strings.TrimSpace(l), "* "); l != "" && !strings.HasSuffix(l, "occurred:") {
			parts = append(parts, l)
		}
	}
	return errors.New(strings.Join(parts, "; "))
}

// Leave tells the others that this agent goes on purpose, and waits until word is out.
func (p *Pool) Leave() error { return p.serf.Leave() }

// ForceLeave declares a failed member to have left; prune also forgets it.
func (p *Pool) ForceLeave(name string, prune bool) error {
	if _, ok := p.Member(name); !ok {
		return api.Errorf(api.Internal, "agent: No node found with name '%s'", name)
	}
	if prune {
		return p.serf.RemoveFailedNodePrune(name)
	}
	return p.serf.RemoveFailedNode(name)
}

// Members gives everyone by name, also who failed or left a while ago.
func (p *Pool) Members() []api.Member {
	all := p.serf.Members()
	out := make([]api.Member, 0, len(all))
	for _, m := range all {
		out = append(out, member(m))
	}
	slices.SortFunc(out, func(a, b api.Member) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Member gives one member by name.
func (p *Pool) Member(name string) (api.Member, bool) {
	for _, m := range p.serf.Members() {
		if m.Name == name {
			return member(m), true
		}
	}
	return api.Member{}, false
}

// Local is this agent as a member.
func (p *Pool) Local() api.Member { return member(p.serf.LocalMember()) }

// SetTags replaces this member's tags.
func (p *Pool) SetTags(tags map[string]string) error { return p.serf.SetTags(tags) }

// Stats gives Serf's numbers under the names that /v1/agent/self shows.
func (p *Pool) Stats() map[string]string { return p.serf.Stats() }

// Close ends gossiping without a word to the others.
func (p *Pool) Close() error {
	p.mu.Lock()
	closed := p.closed
	p.closed = true
	p.mu.Unlock()
	if closed {
		return nil
	}
	err := p.serf.Shutdown()
	close(p.ended)
	p.taking.Wait()
	return err
}

func member(m serf.Member) api.Member {
	return api.Member{
		Name: m.Name, Addr: m.Addr.String(), Port: m.Port, Tags: m.Tags, Status: status(m.Status),
		ProtocolMin: m.ProtocolMin, ProtocolMax: m.ProtocolMax, ProtocolCur: m.ProtocolCur,
		DelegateMin: m.DelegateMin, DelegateMax: m.DelegateMax, DelegateCur: m.DelegateCur,
	}
}

func status(s serf.MemberStatus) api.MemberStatus {
	switch s {
	case serf.StatusAlive:
		return api.StatusAlive
	case serf.StatusLeaving:
		return api.StatusLeaving
	case serf.StatusLeft:
		return api.StatusLeft
	case serf.StatusFailed:
		return api.StatusFailed
	}
	return api.StatusNone
}

// lines turns Serf's log lines ("[WARN] serf: …") into ours.
type lines struct{ log *slog.Logger }

func (l *lines) Write(b []byte) (int, error) {
	text := strings.TrimSpace(string(b))
	level := slog.LevelDebug
	if rest, ok := strings.CutPrefix(text, "["); ok {
		word, after, _ := strings.Cut(rest, "] ")
		text = after
		switch word {
		case "WARN":
			level = slog.LevelWarn
		case "ERR", "ERROR":
			level = slog.LevelError
		}
	}
	l.log.Log(context.Background(), level, text)
	return len(b), nil
}

var _ io.Writer = (*lines)(nil)
