// Package lock lets one of several registrators be active: the one that holds a key of
// the catalog with its session. The others wait on the key, without cost, and one of them
// takes over when the holder gives it up or is not heard for the session's time. It only
// says who is active; what that means is up to the reconciler.
package lock

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/rollcall/rollcall/internal/delay"
)

// ErrNoSession says that the catalog answers and knows no such session.
var ErrNoSession = errors.New("no such session")

// Keys is what a lock needs of the catalog. Methods end when ctx does. An error tells
// that nothing is known, ErrNoSession excepted.
type Keys interface {
	// Session makes a session whose end releases its keys.
	Session(ctx context.Context, name string, ttl time.Duration) (id string, err error)
	// Renew keeps a session alive.
	Renew(ctx context.Context, session string) error
	// Destroy ends a session.
	Destroy(ctx context.Context, session string) error
	// Acquire takes the key with a session, if it is free.
	Acquire(ctx context.Context, key, session, value string) (bool, error)
	// Release gives the key up, if the session holds it.
	Release(ctx context.Context, key, session string) error
	// Get gives the session that holds the key, "" where none does, and what it wrote. It
	// waits until that differs from what it was at index, or for the time of one query.
	Get(ctx context.Context, key string, index uint64) (session, value string, next uint64, err error)
}

// Config is the lock.
type Config struct {
	Key  string        // in the catalog's key-value store
	Name string        // of this registrator, told to the others
	TTL  time.Duration // the holder not heard for so long is not the holder any more; 15s when 0
}

// Times that nobody needs to set.
const (
	retryMin = 250 * time.Millisecond
	retryMax = 5 * time.Second
	lastWord = time.Second // for giving the key up at the end
)

// Lock is one contender for a key.
type Lock struct {
	cfg  Config
	keys Keys
	log  *slog.Logger
}

// New makes a contender.
func New(cfg Config, keys Keys, log *slog.Logger) *Lock {
	if cfg.TTL == 0 {
		cfg.TTL = 15 * time.Second
	}
	return &Lock{cfg: cfg, keys: keys, log: log.With("room", "lock", "key", cfg.Key)}
}

// Run contends until ctx ends. It calls turn with "" when this one becomes active, and
// with the reason when it is not; it starts as one that is not. When ctx ends it waits for done before it gives the key up, so that
// the last writes are made by the holder.
func (l *Lock) Run(ctx context.Context, turn func(standby string), done <-chan struct{}) error {
	wait, fault := retryMin, ""
	for ctx.Err() == nil {
		err := l.contend(ctx, turn, done)
		if err == nil || ctx.Err() != nil {
			wait, fault = retryMin, ""
			continue
		}
		if fault != err.Error() {
			fault = err.Error()
			l.log.Warn("the lock cannot be asked for; it is tried again", "err", err)
		}
		if !delay.For(ctx, wait/2+rand.N(wait/2)) {
			break
		}
		wait = min(2*wait, retryMax)
	}
	return nil
}

// contend waits until the key is free, takes it, and holds it as long as it can.
func (l *Lock) contend(ctx context.Context, turn func(string), done <-chan struct{}) error {
	if err := l.free(ctx, turn); err != nil {
		return err
	}
	session, err := l.keys.Session(ctx, "registrator "+l.cfg.Name, l.cfg.TTL)
	if err != nil {
		return fmt.Errorf("make a session: %w", err)
	}
	defer l.end(ctx, session)
	heard := time.Now()
	got, err := l.keys.Acquire(ctx, l.cfg.Key, session, l.cfg.Name)
	if err != nil {
		return fmt.Errorf("take the lock: %w", err)
	}
	if !got { // somebody was quicker, or a lost holder's delay is not over
		delay.For(ctx, time.Second/2+rand.N(time.Second))
		return nil
	}
	l.log.Info("lock taken: active")
	turn("")
	why := l.hold(ctx, session, heard)
	if ctx.Err() != nil {
		<-done
		return nil
	}
	l.log.Warn("lock lost: standing by", "why", why)
	turn("the lock was lost: " + why)
	return nil
}

// free waits until nobody holds the key, and says who does meanwhile.
func (l *Lock) free(ctx context.Context, turn func(string)) error {
	index, holder := uint64(0), ""
	for {
		session, value, next, err := l.keys.Get(ctx, l.cfg.Key, index)
		switch {
		case err != nil:
			return fmt.Errorf("read the lock: %w", err)
		case session == "":
			return nil
		case session != holder:
			holder = session
			l.log.Info("standing by", "holder", value)
			turn(fmt.Sprintf("standing by: %q holds the lock %s", value, l.cfg.Key))
		}
		if next < index {
			next = 0 // the catalog began anew
		}
		index = next
	}
}

// hold keeps the session alive and returns why it was given up. Without an answer for the
// session's time somebody else may have the key.
func (l *Lock) hold(ctx context.Context, session string, heard time.Time) string {
	for {
		if !delay.For(ctx, l.cfg.TTL/3) {
			return "the registrator ends"
		}
		began := time.Now()
		within, cancel := context.WithTimeout(ctx, l.cfg.TTL/3)
		err := l.keys.Renew(within, session)
		if err == nil {
			var holder string
			if holder, _, _, err = l.keys.Get(within, l.cfg.Key, 0); err == nil && holder != session {
				cancel()
				return "the key was taken away"
			}
		}
		cancel()
		switch {
		case err == nil:
			heard = began
		case errors.Is(err, ErrNoSession):
			return "the session has ended"
		case time.Since(heard)+l.cfg.TTL/3 >= l.cfg.TTL: // before the next attempt it would be over
			return fmt.Sprintf("the catalog does not answer: %v", err)
		}
	}
}

// end gives the key up at once: a session that only ends leaves it taken for a while.
func (l *Lock) end(ctx context.Context, session string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastWord)
	defer cancel()
	err := errors.Join(l.keys.Release(ctx, l.cfg.Key, session), l.keys.Destroy(ctx, session))
	if err != nil && !errors.Is(err, ErrNoSession) {
		l.log.Debug("lock not given up; the session's end will do it", "err", err)
	}
}
