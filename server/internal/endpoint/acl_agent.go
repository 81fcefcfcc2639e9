package endpoint

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
)

// Down is what an agent does about tokens while no server answers.
type Down string

// The down policies.
const (
	DownAllow  Down = "allow"
	DownDeny   Down = "deny"
	DownExtend Down = "extend-cache" // what was known goes on
	DownAsync  Down = "async-cache"  // the same, and what is known is renewed aside
)

// ResolverConfig is what a Resolver needs.
type ResolverConfig struct {
	Enabled    bool
	Datacenter string // of the servers to ask
	// Scope is the datacenter that answers are for, if it is another.
	Scope string
	// Node is this agent's name, and Recovery its agent_recovery token, "" for none.
	Node     string
	Recovery func() string
	// DefaultAllow is this agent's own default policy, for when no server answers.
	DefaultAllow bool
	Down         Down
	TTL          time.Duration // how long an answer holds
}

// Resolver finds, for an agent, what tokens may that come with requests about the agent
// itself. It asks the servers and remembers their answers for a while; operations on the
// catalog need none, as the servers decide there. Its methods may be called concurrently.
type Resolver struct {
	cfg ResolverConfig
	ep  Endpoint

	mu    sync.Mutex
	known map[[sha256.Size]byte]*resolved // guarded by mu; by the hash of the secret
}

// resolved is what was found for a token.
type resolved struct {
	holder  *acl.Holder
	at      time.Time
	renewal bool // is under way; guarded by Resolver.mu
}

// resolvable bounds how many tokens are remembered.
const resolvable = 4096

// resolveTime bounds how long a server may take; then the down policy decides.
const resolveTime = 10 * time.Second

// NewResolver makes a resolver that asks ep.
func NewResolver(cfg ResolverConfig, ep Endpoint) *Resolver {
	return &Resolver{cfg: cfg, ep: ep, known: map[[sha256.Size]byte]*resolved{}}
}

// Resolve gives who holds a secret; "" is the anonymous token.
func (r *Resolver) Resolve(ctx context.Context, secret string) (*acl.Holder, error) {
	if !r.cfg.Enabled {
		return acl.Unbound(), nil
	}
	if rec := r.cfg.Recovery(); rec != "" && subtle.ConstantTimeCompare([]byte(rec), []byte(secret)) == 1 {
		return &acl.Holder{Authorizer: acl.New(false, acl.AgentRecovery(r.cfg.Node)), Accessor: "agent-recovery:" + r.cfg.Node}, nil
	}
	key := sha256.Sum256([]byte(secret))
	r.mu.Lock()
	have := r.known[key]
	fresh := have != nil && time.Since(have.at) < r.cfg.TTL
	aside := have != nil && !fresh && r.cfg.Down == DownAsync
	renew := aside && !have.renewal
	if renew {
		have.renewal = true
	}
	r.mu.Unlock()
	switch {
	case renew:
		go func() { // bounded by resolveTime
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), resolveTime)
			defer cancel()
			_, _ = r.ask(ctx, secret, key, have) // what failed is tried again by whoever asks next
		}()
		return have.holder, nil
	case fresh || aside:
		return have.holder, nil
	}
	return r.ask(ctx, secret, key, have)
}

// ask has a server resolve a secret; have is what was known, nil for nothing.
func (r *Resolver) ask(ctx context.Context, secret string, key [sha256.Size]byte, have *resolved) (*acl.Holder, error) {
	bound, cancel := context.WithTimeout(ctx, resolveTime)
	defer cancel()
	q := &Query{Kind: ACLResolve, QueryOptions: api.QueryOptions{
		Datacenter: r.cfg.Datacenter, Token: secret, Consistency: api.Stale, MaxStale: r.cfg.TTL,
	}}
	if r.cfg.Scope != "" {
		q.Args = map[string]string{argScope: r.cfg.Scope}
	}
	a, err := r.ep.Read(bound, q)
	var res *Resolution
	if err == nil {
		res, err = Into[*Resolution](a)
	}
	if err == nil && res == nil {
		err = errors.New("the servers resolved a token to nothing")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if have != nil {
		have.renewal = false
	}
	switch kind := api.KindOf(err); {
	case err == nil:
		if len(r.known) >= resolvable {
			clear(r.known)
		}
		h := res.Holder()
		r.known[key] = &resolved{holder: h, at: time.Now()}
		return h, nil
	case kind == api.Unauthorized: // the servers do not enforce ACLs
		return acl.Unbound(), nil
	case kind == api.Forbidden: // there is no such token any more
		delete(r.known, key)
		return nil, err
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	switch {
	case r.cfg.Down == DownAllow:
		return acl.Unbound(), nil
	case have != nil && r.cfg.Down != DownDeny:
		return have.holder, nil
	}
	return nil, api.Errorf(api.Forbidden, "Permission denied: no server answers to say what the token may (%v), and acl.down_policy is %s", err, r.cfg.Down)
}
