package endpoint

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
)

// silent is a leader that was cut off: it answers nothing.
type silent struct{ asked chan struct{} }

func (s silent) Read(ctx context.Context, _ *Query) (*Answer, error) {
	s.asked <- struct{}{}
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

func (s silent) Write(ctx context.Context, _ *Write) (*command.Result, error) {
	s.asked <- struct{}{}
	<-ctx.Done()
	return nil, context.Cause(ctx)
}

// A call to a leader that was cut off ends when another leads: a read is asked there, a
// write says that its fate is open.
func TestCallsLeaveTheOldLeader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r, o := setup()
		old := silent{make(chan struct{}, 2)}
		l.cfg.At = func(addr string) Endpoint {
			if addr == "10.0.0.1:8300" {
				return old
			}
			return o
		}
		r.set(func() { r.leading = false })
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = l.Run(ctx) }()
		defer func() { cancel(); <-done }()

		began := time.Now()
		read, wrote := make(chan string, 1), make(chan string, 1)
		go func() {
			a, err := l.Read(t.Context(), &Query{Kind: Nodes, QueryOptions: api.QueryOptions{MinIndex: 5, MaxWait: time.Minute}})
			if err != nil {
				read <- err.Error()
				return
			}
			b, _ := a.JSON()
			read <- string(b)
		}()
		go func() {
			_, err := l.Write(t.Context(), &Write{Command: &command.KV{Verb: command.Set, Pair: api.KVPair{Key: "a"}}})
			wrote <- err.Error()
		}()
		<-old.asked
		<-old.asked
		time.Sleep(5 * time.Second)
		r.set(func() { r.leader = "" }) // nobody leads for a while: the old one may come back
		time.Sleep(5 * time.Second)
		r.set(func() { r.leader = "10.0.0.2:8300" })
		if got := <-read; got != `["elsewhere"]` {
			t.Errorf("the read: %s", got)
		}
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("the read ended after %s, want 10s", took)
		}
		if got := <-wrote; !strings.Contains(got, "may or may not have happened") {
			t.Errorf("the write: %s", got)
		}
		if took := time.Since(began); took != 11*time.Second {
			t.Errorf("the write ended after %s, want 11s", took)
		}
		if n := len(l.forwards.calls); n != 0 {
			t.Errorf("%d calls are still noted", n)
		}
	})
}

// says is another server, that knows who leads.
type says struct {
	leader string
	at     *other // what is asked of it
}

func (s says) Read(ctx context.Context, q *Query) (*Answer, error) {
	if q.Kind != Leader {
		return s.at.Read(ctx, q)
	}
	return &Answer{Found: true, Value: s.leader}, nil
}

func (s says) Write(ctx context.Context, w *Write) (*command.Result, error) {
	return s.at.Write(ctx, w)
}

// A server whose disk hangs, and which thus hears of no new leader, asks the others who leads; one
// that still takes it for the leader does not send it in a circle, and one that hangs too does not
// hold it up.
func TestDiskHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, r, o := setup()
		const self, behind, ahead, hung = "10.0.0.1:8300", "10.0.0.2:8300", "10.0.0.3:8300", "10.0.0.4:8300"
		l.cfg.At = func(addr string) Endpoint {
			return map[string]Endpoint{behind: says{leader: self}, ahead: says{leader: ahead, at: o}, hung: silent{make(chan struct{}, 9)}}[addr]
		}
		r.set(func() { r.leading, r.leader, r.others = false, "", []string{behind, hung, ahead} })
		began := time.Now()
		if _, err := l.Write(t.Context(), &Write{Command: &command.KV{Verb: command.Set, Pair: api.KVPair{Key: "a"}}}); err != nil || o.writes != 1 {
			t.Errorf("a write: %v, %d made by the leader", err, o.writes)
		}
		if _, err := l.Read(t.Context(), &Query{Kind: Nodes}); err != nil || len(o.reads) != 1 {
			t.Errorf("a read: %v, %d made by the leader", err, len(o.reads))
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("both took %s", took)
		}
		r.set(func() { r.others = []string{behind, hung} })
		if _, err := l.Read(t.Context(), &Query{Kind: Nodes}); !errors.Is(err, api.ErrNoLeader) {
			t.Errorf("nobody knows a leader: %v", err)
		}
	})
}
