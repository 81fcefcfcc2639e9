package endpoint

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	_ "github.com/rollcall/rollcall/internal/oneproc"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
)

// teller answers what tokens may, as a test says.
type teller struct {
	mu    sync.Mutex
	asked int
	err   error
	rules acl.Policy
}

func (t *teller) Read(context.Context, *Query) (*Answer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked++
	return &Answer{Found: true, Value: &Resolution{Accessor: "a1", Rules: t.rules}}, t.err
}

func (*teller) Write(context.Context, *Write) (*command.Result, error) { return nil, nil }

func (t *teller) set(err error, rules acl.Policy) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.err, t.rules = err, rules
}

func (t *teller) count() int { t.mu.Lock(); defer t.mu.Unlock(); return t.asked }

func writesNode(name string) acl.Policy {
	return acl.Policy{{Resource: acl.Node, Name: name, Access: acl.Write}}
}

func TestResolverDownPolicies(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		down         Down
		known, fresh string // what may be done on node n while nobody answers: with a token known before, and with another
	}{
		{DownAllow, "all", "all"}, {DownDeny, "refused", "refused"}, {DownExtend, "known", "refused"}, {DownAsync, "known", "refused"},
	} {
		t.Run(string(c.down), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ep := &teller{rules: writesNode("n")}
				r := NewResolver(ResolverConfig{Enabled: true, Node: "n", Recovery: func() string { return "rec" }, Down: c.down, TTL: time.Minute}, ep)
				resolve := func(secret string) string {
					h, err := r.Resolve(t.Context(), secret)
					switch {
					case err != nil && api.KindOf(err) == api.Forbidden:
						return "refused"
					case err != nil:
						return err.Error()
					case h.Allowed(acl.ACL, "", acl.Write):
						return "all"
					case h.Allowed(acl.Node, "n", acl.Write):
						return "known"
					}
					return "nothing"
				}
				for range 3 {
					if got := resolve("s"); got != "known" {
						t.Fatalf("while a server answers: %s", got)
					}
				}
				if n := ep.count(); n != 1 {
					t.Errorf("asked %d times within the TTL, want once", n)
				}
				ep.set(api.ErrNoServers, nil)
				time.Sleep(2 * time.Minute)
				if got := resolve("s"); got != c.known {
					t.Errorf("a known token while nobody answers: %s, want %s", got, c.known)
				}
				if got := resolve("other"); got != c.fresh {
					t.Errorf("an unknown token while nobody answers: %s, want %s", got, c.fresh)
				}
				synctest.Wait()
				ep.set(api.ErrACLNotFound, nil)
				resolve("s")
				synctest.Wait()
				if got := resolve("s"); got != "refused" {
					t.Errorf("a token that is gone: %s", got)
				}
				h, err := r.Resolve(t.Context(), "rec")
				if err != nil || !h.Allowed(acl.Agent, "n", acl.Write) || h.Allowed(acl.Agent, "m", acl.Read) || h.Allowed(acl.ACL, "", acl.Read) {
					t.Errorf("the recovery token: %+v, %v", h, err)
				}
			})
		})
	}
}

func TestResolverOff(t *testing.T) {
	t.Parallel()
	ep := &teller{}
	r := NewResolver(ResolverConfig{}, ep)
	if h, err := r.Resolve(t.Context(), "x"); err != nil || !h.Allowed(acl.ACL, "", acl.Write) || ep.count() != 0 {
		t.Errorf("with ACLs off: %v, %v, asked %d times", h, err, ep.count())
	}
	on := NewResolver(ResolverConfig{Enabled: true, Recovery: func() string { return "" }}, ep)
	ep.set(api.ErrACLDisabled, nil)
	if h, err := on.Resolve(t.Context(), ""); err != nil || !h.Allowed(acl.Node, "n", acl.Write) {
		t.Errorf("servers without ACLs: %v", err)
	}
}
