// Package watch keeps the latest value of everything that templates read. Each distinct
// dependency has one watch, whoever and however many use it. What is known stays known
// while the catalog is away; an error never takes a value back.
package watch

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/internal/client"
	"github.com/rollcall/rollcall/templater/internal/render"
)

// linger is how long a dependency that nobody wants any more is still watched: nested
// ranges drop and want the same ones again.
const linger = 10 * time.Second

// atOnce is how many ask at a time what is to be answered at once: the first questions of
// many watches, and those after an outage, come in a row.
const atOnce = 32

// answer is how long such a question waits.
const answer = 10 * time.Second

var errSilent = fmt.Errorf("the catalog does not answer within %s", answer)

// Config is how a pool watches.
type Config struct {
	MaxStale time.Duration // lets any server answer, if it lags no more than this; 0 asks the leader
	Block    time.Duration // how long one query waits for a change; 0 is client.Wait
	Removal  time.Duration // how long an instance that vanished stays, in case it comes back
	// StateFile keeps the values, for a start while the catalog is away; "" is none.
	StateFile string
	// Tries is after how many failures in a row of one question Lost says so; 0 never.
	Tries int
}

// Pool holds the watches. It is a render.Source.
type Pool struct {
	asking chan struct{} // atOnce
	client *consul.Client
	cfg    Config
	log    *slog.Logger
	wake   chan struct{} // 1: some value changed
	memory *memory       // nil without a StateFile

	mu      sync.Mutex
	entries map[render.Dependency]*entry // guarded by mu
	clock   uint64                       // guarded by mu; counts changes of values
	down    bool                         // guarded by mu; the last word of the catalog was an error
	since   time.Time                    // guarded by mu; of down
	back    time.Time                    // guarded by mu; when the first answer after lost contact last brought a change
	reset   time.Time                    // guarded by mu; when an index last went back
	lost    error                        // guarded by mu; of Lost
	group   sync.WaitGroup
}

// entry is one dependency. Its fields are guarded by the pool's mu.
type entry struct {
	stop    context.CancelFunc
	value   any
	known   bool
	changed uint64 // the pool's clock when value last changed, 0 while it is not known
	index   uint64
	at      time.Time // of the last answer
	err     error
	unused  time.Time // since when nobody wants it, zero while somebody does
	wanted  time.Time // since when somebody does
	gone    departed  // instances that vanished lately
	old     bool      // value is the state file's
	hidden  bool      // the latest answer left out what the token may not see
	failed  int       // how often in a row it was asked in vain
}

// State is a dependency as the status page shows it.
type State struct {
	Name    string
	Known   bool
	Index   uint64
	Age     time.Duration
	Error   string        `json:",omitempty"`
	Hidden  bool          `json:",omitempty"` // the token may not see all of it
	Old     bool          `json:",omitempty"` // the value is the state file's: the catalog has not answered yet
	Waiting time.Duration `json:",omitempty"` // how long it has been wanted without an answer
}

// New makes a pool; it reads the state file, and watches nothing yet.
func New(c *consul.Client, cfg Config, log *slog.Logger) *Pool {
	p := &Pool{
		client: c, cfg: cfg, log: log.With("room", "watch"),
		asking: make(chan struct{}, atOnce), wake: make(chan struct{}, 1), entries: map[render.Dependency]*entry{},
	}
	if cfg.StateFile != "" {
		p.memory = recall(cfg.StateFile, p.log)
	}
	return p
}

// Changed gives a channel that receives when values have changed since it last did.
func (p *Pool) Changed() <-chan struct{} { return p.wake }

// Get gives a value, false where it is not known yet.
func (p *Pool) Get(d render.Dependency) (any, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.entries[d]
	if e == nil || !e.known {
		return nil, false
	}
	return e.value, true
}

// Clock moves on whenever a value changes.
func (p *Pool) Clock() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.clock
}

// Changes is the clock when one of the dependencies last changed. What was rendered of
// them when the clock was no less is up to date.
func (p *Pool) Changes(deps []render.Dependency) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var last uint64
	for _, d := range deps {
		if e := p.entries[d]; e != nil {
			last = max(last, e.changed)
		}
	}
	return last
}

// Index is the highest index among dependencies.
func (p *Pool) Index(deps []render.Dependency) uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	var index uint64
	for _, d := range deps {
		if e := p.entries[d]; e != nil {
			index = max(index, e.index)
		}
	}
	return index
}

// Want watches exactly these dependencies until ctx ends; what is not among them any
// more is dropped by a call after a while. It reports whether something waits for that.
func (p *Pool) Want(ctx context.Context, deps map[render.Dependency]bool) (lingering bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	for d, e := range p.entries {
		if list, ok := e.value.([]*render.Instance); ok && e.gone.expire(now, p.cfg.Removal) {
			p.clock++
			e.value, e.changed = e.gone.without(list, now, p.cfg.Removal), p.clock
			p.poke()
		}
		switch {
		case deps[d]:
			e.unused = time.Time{}
		case e.unused.IsZero():
			e.unused, lingering = now, true
		case now.Sub(e.unused) < linger:
			lingering = true
		default:
			e.stop()
			delete(p.entries, d)
		}
	}
	if p.memory != nil {
		p.memory.once.Do(func() { p.group.Go(func() { p.keep(ctx) }) })
	}
	for d := range deps {
		if p.entries[d] != nil {
			continue
		}
		own, stop := context.WithCancel(ctx)
		e := &entry{stop: stop, wanted: now}
		p.entries[d] = e
		p.group.Go(func() { p.watch(own, d, e) })
	}
	return lingering
}

// Wait waits for the watches to end, after the context given to Want has.
func (p *Pool) Wait() { p.group.Wait() }

// Down reports whether the catalog's last word was an error.
func (p *Pool) Down() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down
}

// Lost is the error of a question that was put in vain as often as it may be.
func (p *Pool) Lost() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// count notes how a question went.
func (p *Pool) count(d render.Dependency, e *entry, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err == nil {
		e.failed = 0
		return
	}
	if e.failed++; e.failed == p.cfg.Tries {
		p.lost = fmt.Errorf("%s: %w", d, err)
		p.poke()
	}
}

// DownFor is how long the catalog has not answered, 0 while it does.
func (p *Pool) DownFor() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.down {
		return 0
	}
	return time.Since(p.since)
}

// Doubt tells when the catalog last gave reason to think that it is not what it was:
// reset is when an index went back, as it does where a catalog was restored or began
// anew; back is when the first answer after lost contact differed from the last before.
func (p *Pool) Doubt() (reset, back time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.reset, p.back
}

// States lists all dependencies by name.
func (p *Pool) States() []State {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := []State{}
	for d, e := range p.entries {
		s := State{Name: d.String(), Known: e.known, Index: e.index, Old: e.old, Hidden: e.hidden}
		if e.known {
			s.Age = time.Since(e.at)
		} else {
			s.Waiting = time.Since(e.wanted)
		}
		if e.err != nil {
			s.Error = e.err.Error()
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b State) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// put takes a new value.
func (p *Pool) put(d render.Dependency, e *entry, value any, index uint64, reset bool) {
	p.mu.Lock()
	was := p.down
	p.down = false
	e.err, e.at = nil, time.Now()
	if list, ok := value.([]*render.Instance); ok && p.cfg.Removal > 0 {
		value = p.delayed(d, e, list)
	}
	changed := !e.known || !reflect.DeepEqual(e.value, value)
	if reset && e.known && index < e.index {
		p.reset = e.at
	}
	if reset && e.known && changed {
		p.back = e.at
	}
	e.index, e.old = index, false
	if changed {
		p.clock++
		e.value, e.known, e.changed = value, true, p.clock
	}
	if p.memory != nil && d.Kind != render.File {
		p.memory.answered(d)
	}
	p.mu.Unlock()
	if was {
		p.log.Info("the catalog answers again", "dependency", d.String())
	}
	if changed || was {
		p.poke()
	}
}

func (p *Pool) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// hide notes whether the catalog left something out of an answer, and says so once.
func (p *Pool) hide(d render.Dependency, e *entry, hidden bool) {
	p.mu.Lock()
	was := e.hidden
	e.hidden = hidden
	p.mu.Unlock()
	if hidden && !was {
		p.log.Warn("the token may not see all of it; what it may not is left out", "dependency", d.String())
	}
}

// fail notes an error; what was known stays, or what the state file knows takes its place.
func (p *Pool) fail(d render.Dependency, e *entry, err error) {
	p.mu.Lock()
	if p.memory != nil && !e.known && p.memory.fill(d, e) {
		p.clock++
		e.known, e.old, e.changed = true, true, p.clock
		defer p.poke()
	}
	was := p.down
	if !was {
		p.since = time.Now()
	}
	p.down = true
	e.err = err
	p.mu.Unlock()
	if !was {
		p.log.Warn("the catalog does not answer; the last good files stay", "dependency", d.String(), "err", err)
	}
}

// watch follows one dependency until ctx ends.
func (p *Pool) watch(ctx context.Context, d render.Dependency, e *entry) {
	switch d.Kind {
	case render.File:
		p.watchFile(ctx, d, e)
	case render.Datacenters:
		p.poll(ctx, d, e, 15*time.Second, p.datacenters(d.Filter == "alive"))
	default:
		client.Watch(ctx, p.cfg.Block, p.query(d, e), func(u client.Update[any]) {
			if u.Err != nil {
				p.fail(d, e, u.Err)
				return
			}
			p.put(d, e, u.Value, u.Index, u.Reset)
		})
	}
}

// poll asks again and again what has no index to block on.
func (p *Pool) poll(ctx context.Context, d render.Dependency, e *entry, every time.Duration, ask func(context.Context) (any, error)) {
	for {
		bounded, cancel := context.WithTimeout(ctx, every)
		v, err := ask(bounded)
		cancel()
		if ctx.Err() != nil {
			return
		}
		p.count(d, e, err)
		pause := every
		if err != nil {
			p.fail(d, e, err)
			pause = time.Second
		} else {
			p.put(d, e, v, 0, false)
		}
		t := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

// datacenters lists the datacenters by name, alive only those that have a leader.
func (p *Pool) datacenters(alive bool) func(context.Context) (any, error) {
	return func(ctx context.Context) (any, error) {
		all := []string{}
		if _, err := p.client.Raw().Query("/v1/catalog/datacenters", &all, (&consul.QueryOptions{}).WithContext(ctx)); err != nil {
			return nil, err
		}
		slices.Sort(all)
		if !alive {
			return all, nil
		}
		return slices.DeleteFunc(all, func(dc string) bool {
			var leader string
			_, err := p.client.Raw().Query("/v1/status/leader", &leader, (&consul.QueryOptions{Datacenter: dc}).WithContext(ctx))
			return err != nil || leader == ""
		}), nil
	}
}

// watchFile looks at a file every second; one that cannot be read keeps its last text.
func (p *Pool) watchFile(ctx context.Context, d render.Dependency, e *entry) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	said := false
	for {
		b, err := os.ReadFile(d.Name)
		if err == nil {
			p.put(d, e, string(b), 0, false)
			said = false
		} else {
			p.mu.Lock()
			e.err = err
			p.mu.Unlock()
			if !said {
				p.log.Warn("file not readable", "dependency", d.String(), "err", err)
			}
			said = true
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// query makes the blocking query of a dependency.
func (p *Pool) query(d render.Dependency, e *entry) client.Query[any] {
	return func(o *consul.QueryOptions) (v any, meta *consul.QueryMeta, err error) {
		defer func() { p.count(d, e, err) }()
		o.Datacenter, o.Near = d.DC, d.Near
		o.AllowStale = p.cfg.MaxStale > 0
		if o.WaitIndex == 0 {
			select {
			case p.asking <- struct{}{}:
				defer func() { <-p.asking }()
			case <-o.Context().Done():
				return nil, nil, context.Cause(o.Context())
			}
			ctx, cancel := context.WithTimeoutCause(o.Context(), answer, errSilent)
			defer cancel()
			o = o.WithContext(ctx)
			defer func() {
				if err != nil && ctx.Err() != nil {
					err = context.Cause(ctx)
				}
			}()
		}
		v, meta, err = p.ask(d, o)
		if err == nil && o.AllowStale && meta.LastContact > p.cfg.MaxStale { // too far behind: the leader knows better
			o.AllowStale = false
			v, meta, err = p.ask(d, o)
		}
		if err == nil {
			p.hide(d, e, meta.ResultsFilteredByACLs)
		}
		return v, meta, err
	}
}

func (p *Pool) ask(d render.Dependency, o *consul.QueryOptions) (any, *consul.QueryMeta, error) {
	switch d.Kind {
	case render.Service:
		list, meta, err := p.client.Health().Service(d.Name, d.Tag, d.Filter == "passing", o)
		return instances(list, d), meta, err
	case render.Services:
		m, meta, err := p.client.Catalog().Services(o)
		return serviceNames(m), meta, err
	case render.Nodes:
		list, meta, err := p.client.Catalog().Nodes(o)
		return nodes(list), meta, err
	case render.Node:
		return p.node(d, o)
	case render.Key:
		pair, meta, err := p.client.KV().Get(d.Name, o)
		if pair == nil {
			return (*render.Pair)(nil), meta, err
		}
		return pairOf(pair, ""), meta, err
	case render.Keys:
		list, meta, err := p.client.KV().List(d.Name, o)
		out := make([]*render.Pair, len(list))
		for i, kv := range list {
			out[i] = pairOf(kv, d.Name)
		}
		return out, meta, err
	}
	return nil, nil, fmt.Errorf("dependency %s cannot be watched", d)
}

func (p *Pool) node(d render.Dependency, o *consul.QueryOptions) (any, *consul.QueryMeta, error) {
	name := d.Name
	if name == "" { // the agent's own
		var self struct{ Config struct{ NodeName string } }
		if _, err := p.client.Raw().Query("/v1/agent/self", &self, (&consul.QueryOptions{}).WithContext(o.Context())); err != nil {
			return nil, nil, err
		}
		name = self.Config.NodeName
	}
	n, meta, err := p.client.Catalog().Node(name, o)
	return nodeWithServices(n), meta, err
}
