package store

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/rollcall/rollcall/internal/api"
)

// Topic names something that can be watched. Topics of equal meaning are equal values.
type Topic struct {
	kind topicKind
	name string
}

type topicKind uint8

const (
	nodesTopic topicKind = iota
	nodeTopic
	servicesTopic
	serviceTopic
	stateTopic
	keyTopic
	prefixTopic
	aclTopic
	queriesTopic
	placesTopic
	autopilotTopic
	catalogTopic
	sessionsTopic
	sessionTopic
)

// TopicNodes is the list of nodes.
func TopicNodes() Topic { return Topic{kind: nodesTopic} }

// TopicNode is one node with its services and checks.
func TopicNode(name string) Topic { return Topic{nodeTopic, strings.ToLower(name)} }

// TopicServices is the list of service names and their tags.
func TopicServices() Topic { return Topic{kind: servicesTopic} }

// TopicService is one service: its instances, their nodes and the state of their checks.
func TopicService(name string) Topic { return Topic{serviceTopic, strings.ToLower(name)} }

// TopicState is the checks in a state; api.Any are all.
func TopicState(state string) Topic {
	if state == "" {
		state = api.Any
	}
	return Topic{stateTopic, state}
}

// TopicKey is one key.
func TopicKey(key string) Topic { return Topic{keyTopic, key} }

// TopicPrefix is all keys below a prefix.
func TopicPrefix(prefix string) Topic { return Topic{prefixTopic, prefix} }

// TopicACL is everything of ACLs: tokens, policies, roles, auth methods, binding rules.
func TopicACL() Topic { return Topic{kind: aclTopic} }

// TopicSessions is the list of sessions.
func TopicSessions() Topic { return Topic{kind: sessionsTopic} }

// TopicSession is one session.
func TopicSession(id string) Topic { return Topic{sessionTopic, id} }

// Watch waits for the first commit that touches one of its topics.
type Watch struct {
	// C closes at that commit.
	C <-chan struct{}

	registry *registry
	topics   []Topic
	c        chan struct{}
	over     atomic.Bool // set with registry.mu held: it is in no set any more
	restored bool        // set before C closes
}

// Restored reports whether it was a restore that ended the wait. C must be closed.
func (w *Watch) Restored() bool { return w.restored }

// Stop releases the watch. It may be called more than once.
func (w *Watch) Stop() {
	if w.over.Load() { // thousands may be woken at once, and need not wait for each other
		return
	}
	w.registry.mu.Lock()
	defer w.registry.mu.Unlock()
	if !w.over.Load() {
		w.registry.remove(w)
		w.over.Store(true)
	}
}

// registry knows who watches what.
type registry struct {
	mu sync.Mutex
	// watchers are by topic; guarded by mu.
	watchers map[Topic]map[*Watch]struct{}
	// lengths counts the watched prefixes of each length, so that a changed key looks up
	// as many as there are lengths in use; guarded by mu.
	lengths map[int]int
}

func (r *registry) init() {
	r.watchers, r.lengths = map[Topic]map[*Watch]struct{}{}, map[int]int{}
}

func (r *registry) watch(topics []Topic) *Watch {
	c := make(chan struct{})
	w := &Watch{C: c, c: c, registry: r, topics: topics}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range topics {
		set := r.watchers[t]
		if set == nil {
			set = map[*Watch]struct{}{}
			r.watchers[t] = set
			if t.kind == prefixTopic {
				r.lengths[len(t.name)]++
			}
		}
		set[w] = struct{}{}
	}
	return w
}

// remove takes w from its topics. Called with mu held.
func (r *registry) remove(w *Watch) {
	for _, t := range w.topics {
		set := r.watchers[t]
		if set == nil {
			continue
		}
		if delete(set, w); len(set) == 0 {
			r.drop(t)
		}
	}
}

func (r *registry) drop(t Topic) {
	delete(r.watchers, t)
	if t.kind == prefixTopic {
		if r.lengths[len(t.name)]--; r.lengths[len(t.name)] == 0 {
			delete(r.lengths, len(t.name))
		}
	}
}

// fire wakes the watchers of what was touched. A touched key stands for every watched
// prefix of it.
func (r *registry) fire(touched map[Topic]struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.watchers) == 0 {
		return
	}
	for t := range touched {
		r.wake(t, false)
		if t.kind != keyTopic {
			continue
		}
		for n := range r.lengths {
			if n <= len(t.name) {
				r.wake(TopicPrefix(t.name[:n]), false)
			}
		}
	}
}

func (r *registry) fireAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for t := range r.watchers {
		r.wake(t, true)
	}
}

// wake ends every watch on t. Called with mu held.
func (r *registry) wake(t Topic, restored bool) {
	set := r.watchers[t]
	if set == nil {
		return
	}
	r.drop(t)
	for w := range set {
		w.restored = restored
		w.over.Store(true)
		r.remove(w) // from its other topics
		close(w.c)
	}
}
