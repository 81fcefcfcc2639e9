// Package event keeps the user events that an agent has received: whether one is meant
// for this agent, the last ones in a ring, and who waits for the next. Events come over
// gossip, at least once and in no strict order; nothing is kept over a restart. The
// composition root hands in what gossip brings; httpapi lists and waits.
package event

import (
	"encoding/binary"
	"log/slog"
	"regexp"
	"slices"
	"sync"

	"github.com/google/uuid"

	"github.com/rollcall/rollcall/internal/api"
)

// kept is how many events an agent remembers.
const kept = 256

// Version of the events that we fire.
const Version = 1

// Config is what New needs.
type Config struct {
	Node string
	// Services are this agent's, by id. It may be called at any time and must not block.
	Services func() map[string]*api.Service
	// Special takes events of certain names instead of the list. May be nil. Its
	// functions must not block.
	Special map[string]func(*api.UserEvent)
	Log     *slog.Logger
}

// Log is the list of an agent's events. Its methods may be called concurrently.
type Log struct {
	cfg Config
	log *slog.Logger

	mu      sync.Mutex
	events  []*api.UserEvent // guarded by mu; the oldest first
	changed chan struct{}    // guarded by mu; closed at the next event
}

// New makes an empty list.
func New(cfg Config) *Log {
	return &Log{cfg: cfg, log: cfg.Log.With("room", "event"), changed: make(chan struct{})}
}

// Check reports what keeps an event from being fired.
func Check(e *api.UserEvent) error {
	switch {
	case e.Name == "":
		return api.Errorf(api.Invalid, "Missing name")
	case e.TagFilter != "" && e.ServiceFilter == "":
		return api.Errorf(api.Internal, "Cannot provide tag filter without service filter")
	}
	for _, f := range [][2]string{{"node", e.NodeFilter}, {"service", e.ServiceFilter}, {"tag", e.TagFilter}} {
		if _, err := regexp.Compile(f[1]); err != nil {
			return api.Errorf(api.Internal, "Invalid %s filter: %v", f[0], err)
		}
	}
	return nil
}

// Take receives an event from gossip. One that is not for this agent, or not of our
// version, is left alone.
func (l *Log) Take(e *api.UserEvent) {
	if e.Version > Version {
		l.log.Warn("event left alone: its version is newer than this agent's", "event", e.Name, "id", e.ID, "version", e.Version)
		return
	}
	wanted, err := l.wants(e)
	if err != nil {
		l.log.Warn("event left alone", "event", e.Name, "id", e.ID, "err", err)
		return
	}
	if !wanted {
		return
	}
	if f := l.cfg.Special[e.Name]; f != nil {
		f(e)
		return
	}
	l.log.Debug("event", "event", e.Name, "id", e.ID)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.events) == kept {
		l.events = slices.Delete(l.events, 0, 1)
	}
	l.events = append(l.events, e)
	close(l.changed)
	l.changed = make(chan struct{})
}

// wants reports whether an event is for this agent: its name, and one of its services.
func (l *Log) wants(e *api.UserEvent) (bool, error) {
	node, err := regexp.Compile(e.NodeFilter)
	if err != nil {
		return false, err
	}
	if !node.MatchString(l.cfg.Node) {
		return false, nil
	}
	if e.ServiceFilter == "" {
		return true, nil
	}
	service, err := regexp.Compile(e.ServiceFilter)
	if err != nil {
		return false, err
	}
	tag, err := regexp.Compile(e.TagFilter)
	if err != nil {
		return false, err
	}
	for _, s := range l.cfg.Services() {
		if service.MatchString(s.Service) && (e.TagFilter == "" || slices.ContainsFunc(s.Tags, tag.MatchString)) {
			return true, nil
		}
	}
	return false, nil
}

// List gives the events of a name, or with "" all, the oldest first; their index; and a
// channel that closes at the next event. The index says which event is the last one. It
// does not grow: compare it for being another.
func (l *Log) List(name string) (events []*api.UserEvent, index uint64, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	events = make([]*api.UserEvent, 0, len(l.events))
	for _, e := range l.events {
		if name == "" || e.Name == name {
			events = append(events, e)
		}
	}
	index = 1
	if n := len(events); n > 0 {
		index = Index(events[n-1].ID)
	}
	return events, index, l.changed
}

// Index is what the id of an event is as an index: the one half of it, and the other.
func Index(id string) uint64 {
	u, err := uuid.Parse(id)
	if err != nil { // not one of ours; it must be something, and not 0
		return 1
	}
	return max(binary.BigEndian.Uint64(u[:8])^binary.BigEndian.Uint64(u[8:]), 1)
}
