package lock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var errAway = errors.New("connection refused")

// store is one key in memory, with sessions that end when they are not renewed.
type store struct {
	mu       sync.Mutex
	sessions map[string]time.Time // their ends
	made     int
	holder   string
	value    string
	index    uint64
	wake     chan struct{}
	away     map[string]bool // by the session's maker: cannot reach the store
}

func newStore() *store {
	return &store{sessions: map[string]time.Time{}, index: 1, wake: make(chan struct{}), away: map[string]bool{}}
}

func (s *store) changed() { s.index++; close(s.wake); s.wake = make(chan struct{}) }

// expire ends sessions that are over; mu is held.
func (s *store) expire() {
	for id, end := range s.sessions {
		if !time.Now().Before(end) {
			delete(s.sessions, id)
			if s.holder == id {
				s.holder = ""
				s.changed()
			}
		}
	}
}

// as is the store as one contender sees it.
type as struct {
	*store
	name string
}

func (a as) enter() (func(), error) {
	a.mu.Lock()
	a.expire()
	if a.away[a.name] {
		a.mu.Unlock()
		return nil, errAway
	}
	return a.mu.Unlock, nil
}

func (a as) Session(_ context.Context, _ string, ttl time.Duration) (string, error) {
	leave, err := a.enter()
	if err != nil {
		return "", err
	}
	defer leave()
	a.made++
	id := fmt.Sprintf("%s-%d", a.name, a.made)
	a.sessions[id] = time.Now().Add(ttl)
	return id, nil
}

func (a as) Renew(_ context.Context, session string) error {
	leave, err := a.enter()
	if err != nil {
		return err
	}
	defer leave()
	if _, ok := a.sessions[session]; !ok {
		return ErrNoSession
	}
	a.sessions[session] = time.Now().Add(15 * time.Second)
	return nil
}

func (a as) Destroy(_ context.Context, session string) error {
	leave, err := a.enter()
	if err != nil {
		return err
	}
	defer leave()
	delete(a.sessions, session)
	return nil
}

func (a as) Acquire(_ context.Context, _, session, value string) (bool, error) {
	leave, err := a.enter()
	if err != nil {
		return false, err
	}
	defer leave()
	if _, ok := a.sessions[session]; !ok || a.holder != "" {
		return false, nil
	}
	a.holder, a.value = session, value
	a.changed()
	return true, nil
}

func (a as) Release(_ context.Context, _, session string) error {
	leave, err := a.enter()
	if err != nil {
		return err
	}
	defer leave()
	if a.holder == session {
		a.holder = ""
		a.changed()
	}
	return nil
}

func (a as) Get(ctx context.Context, _ string, index uint64) (string, string, uint64, error) {
	end := time.NewTimer(time.Minute)
	defer end.Stop()
	for {
		leave, err := a.enter()
		if err != nil {
			return "", "", 0, err
		}
		holder, value, at, wake := a.holder, a.value, a.index, a.wake
		leave()
		if index == 0 || at != index {
			return holder, value, at, nil
		}
		select {
		case <-wake:
		case <-end.C:
			return holder, value, at, nil
		case <-ctx.Done():
			return "", "", 0, ctx.Err()
		}
	}
}

// contender is one Lock that runs in a bubble.
type contender struct {
	mu   sync.Mutex
	says string
	stop func()
}

func (c *contender) active() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.says == "" }

func contend(t *testing.T, s *store, name string) *contender {
	t.Helper()
	c := &contender{says: "not yet"}
	l := New(Config{Key: "k", Name: name}, as{s, name}, slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(t.Context())
	done, ended := make(chan struct{}), make(chan struct{})
	go func() { // the reconciler takes a moment to end
		<-ctx.Done()
		time.Sleep(500 * time.Millisecond)
		close(done)
	}()
	go func() {
		defer close(ended)
		if err := l.Run(ctx, func(by string) { c.mu.Lock(); c.says = by; c.mu.Unlock() }, done); err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	}()
	c.stop = sync.OnceFunc(func() { cancel(); <-ended })
	t.Cleanup(c.stop)
	return c
}

func (s *store) cut(name string, away bool) { s.mu.Lock(); s.away[name] = away; s.mu.Unlock() }

func TestOneIsActive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a := contend(t, s, "a")
		time.Sleep(3 * time.Second)
		b := contend(t, s, "b")
		time.Sleep(time.Hour)
		if !a.active() || b.active() {
			t.Fatalf("a %q, b %q; want a active", a.says, b.says)
		}
		if !strings.Contains(b.says, `"a" holds`) {
			t.Errorf("b says %q, want the holder's name", b.says)
		}
		began := time.Now()
		a.stop()
		if took := time.Since(began); took < 500*time.Millisecond {
			t.Errorf("the lock was given up after %v, before the last writes", took)
		}
		synctest.Wait()
		if !b.active() {
			t.Errorf("a has gone, b says %q; want active at once", b.says)
		}
	})
}

// A holder that cannot reach the catalog stands by before another one may take over, and
// at no moment two are active.
func TestHolderCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a := contend(t, s, "a")
		time.Sleep(3 * time.Second)
		b := contend(t, s, "b")
		time.Sleep(time.Minute)
		s.cut("a", true)
		took := time.Duration(0)
		for range 1200 {
			time.Sleep(100 * time.Millisecond)
			s.mu.Lock()
			s.expire() // a real store does so by itself
			s.mu.Unlock()
			synctest.Wait()
			if a.active() && b.active() {
				t.Fatalf("both are active after %v", took)
			}
			if took += 100 * time.Millisecond; b.active() {
				break
			}
		}
		if !b.active() || took > 20*time.Second {
			t.Errorf("b is active: %v, after %v; want within the session's time", b.active(), took)
		}
		s.cut("a", false)
		time.Sleep(time.Minute)
		if a.active() || !b.active() {
			t.Errorf("a is back: a %q, b %q; want b active", a.says, b.says)
		}
	})
}

// What ends the holding from outside is noticed, and the lock is contended for again.
func TestTakenAway(t *testing.T) {
	for name, take := range map[string]func(*store){
		"the key":     func(s *store) { s.holder = ""; s.changed() },
		"the session": func(s *store) { clear(s.sessions); s.holder = ""; s.changed() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newStore()
				a := contend(t, s, "a")
				time.Sleep(3 * time.Second)
				s.mu.Lock()
				was := s.holder
				take(s)
				s.mu.Unlock()
				time.Sleep(time.Minute)
				s.mu.Lock()
				is := s.holder
				s.mu.Unlock()
				if !a.active() || is == was || is == "" {
					t.Errorf("holder %q, was %q; a says %q", is, was, a.says)
				}
			})
		})
	}
}

// A store that is away at first is asked again.
func TestStoreAwayAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		s.cut("a", true)
		a := contend(t, s, "a")
		time.Sleep(time.Minute)
		if a.active() {
			t.Error("active without a lock")
		}
		s.cut("a", false)
		time.Sleep(10 * time.Second)
		if !a.active() {
			t.Errorf("the store is back, a says %q", a.says)
		}
	})
}
