// Package gossip is the membership of a datacenter, or of all datacenters' servers: who
// is alive, as Serf's gossip tells it, and the tags that say what each member is. Members
// come and go as events; what the room gives is the whole list and a channel that closes
// when it changes.
//
// It promises that a name belongs to one living member, and that members of another
// datacenter, or a second server that elects itself, are not let in; into a pool between
// datacenters, only servers. The composition root opens it; leader and agent use it.
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
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/logging"
)

// Config is what Open needs.
type Config struct {
	Name, ID, Datacenter string
	// WAN is a pool of the servers of all datacenters: with timers for long ways. A member's
	// name ends in its datacenter's (WANName).
	WAN           bool
	Bind          string // IP to listen on
	Port          int    // UDP and TCP
	Advertise     string // IP that others reach us at; Bind if empty
	AdvertisePort int    // Port if 0
	Tags          map[string]string
	Key           []byte // 16, 24 or 32 bytes; nil sends clear text
	// Keyring is a file that keeps the keys over a restart, "" for none. Where it is, Key
	// does not count.
	Keyring string
	// Snapshot is a file that remembers members over a restart, "" for none.
	Snapshot string
	// Rejoin joins the remembered members also after a leave.
	Rejoin bool
	// ReconnectTimeout is how long a failed member is remembered. Default 72h.
	ReconnectTimeout time.Duration
	// Fast takes short timers, for -dev and tests.
	Fast bool
	// NoCoordinates measures no distances.
	NoCoordinates bool
	Tuning        Tuning
	// Event takes each user event that comes in, one at a time. It must not block. May be nil.
	Event func(*api.UserEvent)
	// Transport replaces real sockets, for tests.
	Transport memberlist.NodeAwareTransport
	Log       *slog.Logger
}

// Pool is this agent's part in the gossip. Its methods may be called concurrently.
type Pool struct {
	cfg    Config
	log    *slog.Logger
	serf   *serf.Serf
	opened atomic.Pointer[serf.Serf] // serf, for who is called before Open returns
	events chan serf.Event
	ended  chan struct{}  // closed when no event is wanted any longer
	taking sync.WaitGroup // takeEvents
	// joining holds a token while a join is under way.
	joining chan struct{}

	mu      sync.Mutex
	changed chan struct{} // guarded by mu; closed at the next change
	closed  bool          // guarded by mu
	leaves  int           // guarded by mu; calls of Leave under way
	refused string        // guarded by mu; the last refusal, said once
}

// reclaimAfter is how long a member must have been dead before another with its name may
// take its place: a container that was made anew need not wait, for death itself is only
// believed after the suspicion of several.
const reclaimAfter = time.Second

// eventBuffer takes a storm of joins while the log is slow; Serf must not block.
const eventBuffer = 2048

// Open begins to gossip, alone. Close ends it.
func Open(cfg Config) (*Pool, error) {
	p := &Pool{
		cfg: cfg, log: cfg.Log.With("room", "gossip", "pool", cfg.label()), events: make(chan serf.Event, eventBuffer),
		ended: make(chan struct{}), changed: make(chan struct{}), joining: make(chan struct{}, 1),
	}
	if n := len(cfg.Key); n != 0 && n != 16 && n != 24 && n != 32 { // Serf would leave goroutines behind
		return nil, fmt.Errorf("gossip key of %d bytes: it must have 16, 24 or 32", n)
	}
	if err := p.bind(); err != nil {
		return nil, err
	}
	var err error
	if p.serf, err = p.create(); err != nil {
		return nil, errors.Join(err, p.cfg.Transport.Shutdown())
	}
	p.opened.Store(p.serf)
	p.taking.Go(p.takeEvents)
	return p, nil
}

// bind opens the pool's sockets, unless it was given others.
func (p *Pool) bind() error {
	if p.cfg.Transport != nil {
		return nil
	}
	s, err := listen(p.cfg.Bind, p.cfg.Port, p.log)
	if err != nil {
		return explain(p.cfg, fmt.Errorf("listen on %s: %w", net.JoinHostPort(p.cfg.Bind, strconv.Itoa(p.cfg.Port)), err))
	}
	p.cfg.Transport, p.cfg.Port = s, s.port()
	return nil
}

func (p *Pool) create() (*serf.Serf, error) {
	if dir := filepath.Dir(p.cfg.Snapshot); p.cfg.Snapshot != "" {
		if err := os.MkdirAll(dir, 0o750); err != nil {
			return nil, fmt.Errorf("data directory is not writable: %w", err)
		}
	}
	ring, err := p.cfg.keyring()
	if err != nil {
		return nil, err
	}
	s, err := serf.Create(p.serfConfig(ring))
	if err != nil {
		return nil, explain(p.cfg, err)
	}
	return s, nil
}

// label is what the pool is called in logs and errors.
func (c *Config) label() string {
	if c.WAN {
		return "WAN"
	}
	return "LAN"
}

// serfConfig turns our settings into Serf's, with Consul's timers for a LAN or a WAN.
func (p *Pool) serfConfig(ring *memberlist.Keyring) *serf.Config {
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
	c.ReconnectTimeoutOverride = patience{}
	c.DisableCoordinates = cfg.NoCoordinates
	c.MinQueueDepth = 4096
	c.QueueDepthWarning = 1_000_000
	c.Merge = merge{p}
	c.Logger = log.New(&lines{log: p.log, spared: logging.Sparing{Pause: repeated}}, "", 0)
	m := memberlist.DefaultLANConfig()
	if cfg.WAN {
		m = memberlist.DefaultWANConfig()
	}
	// Packets hold as much before as after; on a LAN, bytes cost less than a compressor for
	// each of them. What others compress is read all the same.
	m.EnableCompression = cfg.WAN
	m.Name = cfg.Name
	m.BindAddr, m.BindPort = cfg.Bind, cfg.Port
	m.AdvertiseAddr, m.AdvertisePort = cfg.Advertise, cfg.AdvertisePort
	if m.AdvertisePort == 0 {
		m.AdvertisePort = cfg.Port
	}
	if m.Keyring = ring; ring != nil {
		m.SecretKey, c.KeyringFile = ring.GetPrimaryKey(), cfg.Keyring
	}
	m.DeadNodeReclaimTime = reclaimAfter
	m.Logger = c.Logger
	m.LogOutput = nil
	m.Transport = cfg.Transport
	m.Conflict = nil
	if cfg.Fast {
		m.ProbeInterval, m.ProbeTimeout = 100*time.Millisecond, 50*time.Millisecond
		m.GossipInterval, m.SuspicionMult = 20*time.Millisecond, 3
		m.PushPullInterval = 2 * time.Second
		c.LeavePropagateDelay = 100 * time.Millisecond
		c.ReconnectInterval = 500 * time.Millisecond
	}
	cfg.Tuning.apply(m)
	c.MemberlistConfig = m
	return c
}

// explain says what to do where the port is taken.
func explain(cfg Config, err error) error {
	at := net.JoinHostPort(cfg.Bind, strconv.Itoa(cfg.Port))
	if errors.Is(err, syscall.EADDRINUSE) || strings.Contains(err.Error(), "address already in use") {
		pool := strings.ToLower(cfg.label())
		return fmt.Errorf("ports.serf_%s: %s is in use by another process: stop that one, or choose another port (-serf-%s-port)", pool, at, pool)
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
			switch e := e.(type) {
			case serf.MemberEvent:
				for _, x := range e.Members {
					p.log.Info(e.EventType().String(), "node", x.Name, "addr", x.Addr.String())
				}
				p.notify()
			case serf.UserEvent:
				if u, ok := fired(e); ok && p.cfg.Event != nil {
					p.cfg.Event(u)
				}
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
	select { // one at a time, as Serf has it; but Serf knows no context
	case p.joining <- struct{}{}:
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
	done := make(chan result, 1) // what comes late is dropped
	go func() {
		defer func() { <-p.joining }()
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
	return errors.New(explained(strings.Join(parts, "; ")))
}

// explained adds to what memberlist says about encryption what to do about it.
func explained(text string) string {
	for _, e := range []struct{ said, todo string }{
		{"no installed keys could decrypt", "the gossip keys differ: compare encrypt, or rollcall keyring -list, on both sides"},
		{"but remote state is not encrypted", "the other side has no gossip key: give it encrypt"},
		{"is encrypted and encryption is not configured", "the other side has a gossip key, this one none: give encrypt"},
		{"eof", "the other side closed the connection: its log says why"},
	} {
		if strings.Contains(strings.ToLower(text), e.said) {
			return text + " (" + e.todo + ")"
		}
	}
	return text
}

// Leave tells the others that this agent goes on purpose, and waits until word is out. It is
// an error once the pool is closed.
func (p *Pool) Leave() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return errors.New("gossip has ended")
	}
	p.leaves++
	p.mu.Unlock()
	err := p.serf.Leave()
	p.mu.Lock()
	p.leaves--
	last := p.closed && p.leaves == 0
	p.mu.Unlock()
	if last {
		err = errors.Join(err, p.end())
	}
	return err
}

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

// Answers asks a member itself whether it lives, for word of its death may come from one
// that was cut off. It waits as long as a probe does; a lost packet is no answer.
func (p *Pool) Answers(m api.Member) bool {
	_, err := p.serf.Memberlist().Ping(m.Name, &net.UDPAddr{IP: net.ParseIP(m.Addr), Port: int(m.Port)})
	return err == nil
}

// Recall tells a member itself that it counts as failed, so that it can object.
func (p *Pool) Recall(ctx context.Context, m api.Member) error {
	_, err := p.Join(ctx, []string{m.Name + "/" + net.JoinHostPort(m.Addr, strconv.Itoa(int(m.Port)))})
	return err
}

// Local is this agent as a member.
func (p *Pool) Local() api.Member { return member(p.serf.LocalMember()) }

// SetTags replaces this member's tags.
func (p *Pool) SetTags(tags map[string]string) error { return p.serf.SetTags(tags) }

// Stats gives Serf's numbers under the names that /v1/agent/self shows.
func (p *Pool) Stats() map[string]string { return p.serf.Stats() }

// Close ends gossiping without a word to the others. While Leave is under way it does not
// wait for that, which then ends the gossiping: Serf panics if it is ended in between.
func (p *Pool) Close() error {
	p.mu.Lock()
	later := p.closed || p.leaves > 0
	p.closed = true
	p.mu.Unlock()
	if later {
		return nil
	}
	return p.end()
}

func (p *Pool) end() error {
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

// repeated is how long the same warning is not said again: each packet may bring it.
const repeated = time.Minute

// lines turns Serf's log lines ("[WARN] serf: …") into ours.
type lines struct {
	log    *slog.Logger
	spared logging.Sparing
}

// number is what differs between warnings of one kind: of a byte that garbage begins with.
var number = regexp.MustCompile(`\b\d+\b`)

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
	if level < slog.LevelWarn {
		l.log.Log(context.Background(), level, text)
		return len(b), nil
	}
	what, from, ok := strings.Cut(text, " from=") // who can be anybody, from any port
	if !ok {
		l.spared.Log(l.log, level, "", text)
		return len(b), nil
	}
	host, _, err := net.SplitHostPort(from)
	if err != nil {
		host = from
	}
	l.spared.Log(l.log, level, host, explained(number.ReplaceAllString(what, "N")), "from", from)
	return len(b), nil
}

var _ io.Writer = (*lines)(nil)
