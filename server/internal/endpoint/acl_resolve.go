package endpoint

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/store"
)

// merged bounds how many merged sets of policies are remembered.
const merged = 1024

// authorizers remembers what sets of policies mean: tokens with the same share one.
type authorizers struct {
	mu   sync.Mutex
	sets map[string]*acl.Authorizer // guarded by mu
	rows map[*api.SealedToken]given // guarded by mu; what a row was last found to give
	key  string                     // of seal; guarded by mu
	seal *acl.Seal                  // guarded by mu
}

func newAuthorizers() *authorizers {
	return &authorizers{sets: map[string]*acl.Authorizer{}, rows: map[*api.SealedToken]given{}}
}

// given is what a token's row gives while policies and roles stay as they are.
type given struct {
	policies, roles uint64 // their tables' indexes
	holder          *acl.Holder
}

// sealer gives the seal of a state's key. Before the leader has made one there is nobody
// to ask: that is told as having no leader, so that requests wait.
func (a *authorizers) sealer(st *store.State) (*acl.Seal, error) {
	key := string(st.ACL().Key)
	if key == "" {
		return nil, api.ErrNoLeader
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seal == nil || a.key != key {
		seal, err := acl.NewSeal([]byte(key))
		if err != nil {
			return nil, err
		}
		a.key, a.seal = key, seal
	}
	return a.seal, nil
}

// holder finds who presents a secret.
func (l *Local) holder(secret string) (*acl.Holder, error) {
	if l.atPrimary != nil {
		return l.asPrimary(secret)
	}
	st := l.cfg.Store.State()
	tok, err := l.token(st, secret)
	if err != nil {
		return nil, err
	}
	return l.authorizers.holder(st, tok, l.cfg.Datacenter, l.cfg.ACLs.DefaultAllow)
}

// holder gives who holds a token, from what the same row gave before if nothing has changed
// since: a row is immutable, and the indexes say the rest.
func (a *authorizers) holder(st *store.State, tok *api.SealedToken, dc string, allow bool) (*acl.Holder, error) {
	head := st.ACL()
	a.mu.Lock()
	last, ok := a.rows[tok]
	a.mu.Unlock()
	if ok && last.policies == head.Policies && last.roles == head.Roles {
		return last.holder, nil
	}
	may, err := a.of(st, &tok.Token, dc, allow)
	if err != nil {
		return nil, err
	}
	h := &acl.Holder{Authorizer: may, Accessor: tok.AccessorID, Local: tok.Local}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.rows) >= merged {
		clear(a.rows)
	}
	a.rows[tok] = given{head.Policies, head.Roles, h}
	return h, nil
}

// token finds the token of a secret; that of "" is the anonymous one.
func (l *Local) token(st *store.State, secret string) (*api.SealedToken, error) {
	seal, err := l.authorizers.sealer(st)
	if err != nil {
		return nil, err
	}
	var tok *api.SealedToken
	if secret == "" {
		if tok = st.TokenByAccessor(acl.AnonymousID); tok == nil {
			tok = &api.SealedToken{Token: api.Token{AccessorID: acl.AnonymousID}}
		}
		return tok, nil
	}
	tok = st.TokenByHash(seal.Hash(secret))
	if tok == nil || tok.Expired(time.Now()) {
		if st.ACL().Bootstrapped == 0 && !l.cfg.ACLs.secondary(l.cfg.Datacenter) {
			return nil, api.Errorf(api.Forbidden, "ACL system must be bootstrapped before making any requests that require authorization: %v", api.ErrACLNotFound)
		}
		return nil, api.ErrACLNotFound
	}
	return tok, nil
}

// grants are a token's sources of rights, roles unfolded.
type grants struct {
	policies []*store.Policy
	services []api.ServiceIdentity
	nodes    []api.NodeIdentity
}

func grantsOf(st *store.State, tok *api.Token, dc string) grants {
	var g grants
	seen := map[string]bool{}
	add := func(links []api.Link, services []api.ServiceIdentity, nodes []api.NodeIdentity) {
		for _, l := range links {
			p := st.ACLPolicy(l.ID)
			if p != nil && !seen[p.ID] && holdsIn(p.Datacenters, dc) {
				seen[p.ID] = true
				g.policies = append(g.policies, p)
			}
		}
		for _, s := range services {
			if holdsIn(s.Datacenters, dc) {
				g.services = append(g.services, s)
			}
		}
		for _, n := range nodes {
			if strings.EqualFold(n.Datacenter, dc) {
				g.nodes = append(g.nodes, n)
			}
		}
	}
	add(tok.Policies, tok.ServiceIdentities, tok.NodeIdentities)
	for _, l := range tok.Roles {
		if r := st.ACLRole(l.ID); r != nil {
			add(r.Policies, r.ServiceIdentities, r.NodeIdentities)
		}
	}
	return g
}

func holdsIn(datacenters []string, dc string) bool {
	for _, d := range datacenters {
		if strings.EqualFold(d, dc) {
			return true
		}
	}
	return len(datacenters) == 0
}

// id is equal for grants that give the same.
func (g grants) id(rules string) string {
	var b strings.Builder
	for _, p := range g.policies {
		fmt.Fprintf(&b, "p%x\n", p.Hash)
	}
	for _, s := range g.services {
		fmt.Fprintf(&b, "s%q\n", s.ServiceName)
	}
	for _, n := range g.nodes {
		fmt.Fprintf(&b, "n%q\n", n.NodeName)
	}
	b.WriteString(rules)
	return b.String()
}

// rules gives what the grants say. They were checked when they were written: an error means
// that another version wrote them, and then nothing may be granted.
func (g grants) rules(tok *api.Token) ([]acl.Policy, error) {
	var out []acl.Policy
	for _, p := range g.policies {
		rules, err := acl.Parse(p.Rules)
		if err != nil {
			return nil, fmt.Errorf("policy %q: %w", p.Name, err)
		}
		out = append(out, rules)
	}
	for _, s := range g.services {
		out = append(out, acl.ServiceIdentity(s.ServiceName))
	}
	for _, n := range g.nodes {
		out = append(out, acl.NodeIdentity(n.NodeName))
	}
	if tok.Legacy {
		rules, err := acl.ParseLegacy(tok.Rules)
		if err != nil {
			return nil, fmt.Errorf("rules of token %s: %w", tok.AccessorID, err)
		}
		out = append(out, rules)
	}
	return out, nil
}

// of gives what a token's grants allow.
func (a *authorizers) of(st *store.State, tok *api.Token, dc string, allow bool) (*acl.Authorizer, error) {
	g := grantsOf(st, tok, dc)
	id := g.id(tok.Rules)
	a.mu.Lock()
	found := a.sets[id]
	a.mu.Unlock()
	if found != nil {
		return found, nil
	}
	policies, err := g.rules(tok)
	if err != nil {
		return nil, err
	}
	found = acl.New(allow, policies...)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.sets) >= merged {
		clear(a.sets)
	}
	a.sets[id] = found
	return found, nil
}
