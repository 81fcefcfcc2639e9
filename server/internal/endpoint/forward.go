package endpoint

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// grace is how long a server that leads no more may take to say what became of a write.
const grace = time.Second

// errMoved ends a call to a server that leads no more.
var errMoved = errors.New("endpoint: another server leads now")

// forwards are the calls under way to the leader. When another server leads, nobody waits
// for the old one: it may be gone without a word, which its connection shows only after
// many seconds.
type forwards struct {
	mu    sync.Mutex
	calls map[string]map[*forward]struct{} // guarded by mu; by the leader's address
}

type forward struct {
	read   bool
	cancel context.CancelCauseFunc
}

// begin notes a call to addr. end must be called when it is over.
func (f *forwards) begin(ctx context.Context, addr string, read bool) (_ context.Context, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	call := &forward{read, cancel}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[string]map[*forward]struct{}{}
	}
	if f.calls[addr] == nil {
		f.calls[addr] = map[*forward]struct{}{}
	}
	f.calls[addr][call] = struct{}{}
	return ctx, func() {
		cancel(nil)
		f.mu.Lock()
		defer f.mu.Unlock()
		if delete(f.calls[addr], call); len(f.calls[addr]) == 0 {
			delete(f.calls, addr)
		}
	}
}

// moved ends the calls to all but leader: reads at once, for they can be asked again,
// writes after grace.
func (f *forwards) moved(leader string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var writes []*forward
	for addr, calls := range f.calls {
		if addr == leader {
			continue
		}
		for call := range calls {
			if call.read {
				call.cancel(errMoved)
			} else {
				writes = append(writes, call)
			}
		}
	}
	if len(writes) > 0 {
		time.AfterFunc(grace, func() {
			for _, call := range writes {
				call.cancel(errMoved)
			}
		})
	}
}

// followLeader ends calls to servers that lead no more, until ctx ends.
func (l *Local) followLeader(ctx context.Context) {
	for {
		changed := l.cfg.Raft.Watch()
		if _, addr := l.cfg.Raft.Leader(); addr != "" {
			l.forwards.moved(addr)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// forwarded calls the leader at addr.
func forwarded[T any](ctx context.Context, l *Local, addr string, read bool, there func(context.Context, Endpoint) (T, error)) (T, error) {
	call, end := l.forwards.begin(ctx, addr, read)
	defer end()
	v, err := there(call, l.cfg.At(addr))
	if err == nil || ctx.Err() != nil || !errors.Is(context.Cause(call), errMoved) {
		return v, err
	}
	if read {
		return v, api.ErrNotLeader
	}
	return v, api.Errorf(api.Unavailable, "leadership moved away from %s while it had the write: the write may or may not have happened", addr)
}

// leaderOf asks other servers which of them leads, "" if none knows: what a server whose disk
// hangs cannot know, and those who come to it shall not suffer from.
func (l *Local) leaderOf(ctx context.Context, others []string) string {
	ctx, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	said := make(chan string, len(others))
	for _, addr := range others {
		go func() {
			ans, err := l.cfg.At(addr).Read(ctx, &Query{Kind: Leader, QueryOptions: api.QueryOptions{Consistency: api.Stale}})
			if err != nil {
				said <- ""
				return
			}
			leader, _ := Into[string](ans) // what is no address is none of the others'
			said <- leader
		}()
	}
	for range others {
		if leader := <-said; slices.Contains(others, leader) {
			return leader
		}
	}
	return ""
}
