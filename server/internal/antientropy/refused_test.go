package antientropy

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// nodeless is a catalog where the agent may not write its node.
type nodeless struct{ *fakeCatalog }

func (c nodeless) Register(ctx context.Context, r *api.Registration) error {
	if r.Service == nil {
		return api.Errorf(api.Forbidden, "Permission denied: node:write")
	}
	return c.fakeCatalog.Register(ctx, r)
}

// A node that may not be written does not hold up services that may.
func TestRefusedNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, c := newLocal(), newCatalog()
		c.node = &api.Node{Node: "n1"}
		l.services["web"] = svc("web")
		s := New(Config{
			Node: func() api.Registration { return api.Registration{Node: "n1", Address: "10.0.0.1"} }, Size: func() int { return 1 },
			Log: slog.New(slog.DiscardHandler),
		}, l, nodeless{c})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		if c.service("web") == nil {
			t.Error("the service waits for its node")
		}
		stop()
		<-done
	})
}

// First there is no leader, then the right is missing: the log says each once.
func TestNewReasonsAreTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l, c := newLocal(), newCatalog()
		c.fail = api.ErrNoLeader
		s := New(Config{
			Node: func() api.Registration { return api.Registration{Node: "n1", Address: "10.0.0.1"} }, Size: func() int { return 1 },
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		}, l, c)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Minute)
		c.set(func() { c.fail = api.Errorf(api.Forbidden, "Permission denied: node:write") })
		time.Sleep(time.Minute)
		stop()
		<-done
		for _, reason := range []string{"No cluster leader", "Permission denied"} {
			if n := strings.Count(log.String(), reason); n != 1 {
				t.Errorf("%q is told %d times, want once:\n%s", reason, n, log.String())
			}
		}
	})
}

// keeper is a catalog that lets nothing go while it is told so.
type keeper struct {
	*fakeCatalog
	keeps atomic.Bool
}

func (c *keeper) Deregister(ctx context.Context, d *api.Deregistration) error {
	if c.keeps.Load() {
		return api.Errorf(api.Forbidden, "Node name n1 is reserved")
	}
	return c.fakeCatalog.Deregister(ctx, d)
}

// What the catalog has and the agent does not know is said to be removed when it is, and
// once, however often it was tried.
func TestStrangersAreToldWhenGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l, c := newLocal(), &keeper{fakeCatalog: newCatalog()}
		c.node = &api.Node{Node: "n1", Address: "10.0.0.1"}
		c.services["stranger"] = svc("stranger")
		c.keeps.Store(true)
		s := New(Config{
			Node: func() api.Registration { return api.Registration{Node: "n1", Address: "10.0.0.1"} }, Size: func() int { return 1 },
			Log: slog.New(slog.NewTextHandler(&log, nil)),
		}, l, c)
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		time.Sleep(time.Minute)
		synctest.Wait()
		kept := strings.Count(log.String(), "service stranger")
		c.keeps.Store(false)
		time.Sleep(time.Minute)
		stop()
		<-done
		if gone := strings.Count(log.String(), "service stranger"); kept != 0 || gone != 1 || c.service("stranger") != nil {
			t.Errorf("told %d times while it was kept, %d times in all, want 0 and 1:\n%s", kept, gone, log.String())
		}
	})
}
