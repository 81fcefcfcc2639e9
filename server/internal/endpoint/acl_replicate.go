package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

// ReplicationStatus is how far a secondary datacenter has copied the primary's ACLs.
type ReplicationStatus struct {
	Enabled, Running                                           bool
	SourceDatacenter, ReplicationType                          string // policies, or tokens too
	ReplicatedIndex, ReplicatedRoleIndex, ReplicatedTokenIndex uint64 // of the primary
	LastSuccess, LastError                                     time.Time
	LastErrorMessage                                           string `json:",omitempty"`
}

// replicateWait is how long a read waits for a change at the primary.
const replicateWait = 5 * time.Minute

// replicateAtOnce is how many writes of a round are under way at a time.
const replicateAtOnce = 64

// replication copies the primary's ACLs while this server leads a secondary datacenter.
type replication struct {
	mu     sync.Mutex
	status ReplicationStatus // guarded by mu
}

// copied are the tables that are copied, in the order of what refers to what.
var copied = []Kind{ACLPolicies, ACLRoles, ACLTokens}

// replicate keeps policies, roles and, if wanted, tokens equal to the primary's whenever
// this server leads, until ctx ends. A round compares whole tables; what cannot be done is
// tried again, and what was copied stays.
func (l *Local) replicate(ctx context.Context) {
	if !l.cfg.ACLs.secondary(l.cfg.Datacenter) {
		return
	}
	pause := backoff.NewExponentialBackOff()
	pause.InitialInterval, pause.MaxInterval = time.Second, time.Minute
	failing := false
	for {
		changed := l.cfg.Raft.Watch()
		wait := time.Duration(0)
		if l.cfg.Raft.IsLeader() {
			indexes, err := l.copyRound(ctx)
			l.replication.note(indexes, err)
			switch {
			case ctx.Err() != nil:
				return
			case err != nil:
				if !failing {
					l.cfg.Log.Warn("ACLs not copied; what was copied before holds", "primary", l.cfg.ACLs.Primary, "err", err)
				}
				failing, wait = true, pause.NextBackOff()
			default:
				if failing {
					l.cfg.Log.Info("ACLs are copied again", "primary", l.cfg.ACLs.Primary)
				}
				failing = false
				pause.Reset()
				l.awaitPrimary(ctx, changed, indexes)
				wait = time.Millisecond // whatever moves all the time is not followed faster
			}
		}
		var timer <-chan time.Time
		if wait > 0 {
			timer = time.After(wait)
			changed = nil
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-timer:
		}
	}
}

// note keeps the outcome of a round.
func (r *replication) note(indexes map[Kind]uint64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now().UTC().Truncate(time.Second)
	if err != nil {
		r.status.LastError, r.status.LastErrorMessage = now, err.Error()
		return
	}
	r.status.LastSuccess = now
	r.status.ReplicatedIndex, r.status.ReplicatedRoleIndex, r.status.ReplicatedTokenIndex = indexes[ACLPolicies], indexes[ACLRoles], indexes[ACLTokens]
}

// replicationStatus is that of this server, which has to lead to know more than that.
func (l *Local) replicationStatus() *ReplicationStatus {
	a := &l.cfg.ACLs
	if !a.secondary(l.cfg.Datacenter) {
		return &ReplicationStatus{}
	}
	l.replication.mu.Lock()
	defer l.replication.mu.Unlock()
	out := l.replication.status
	out.Enabled, out.Running, out.SourceDatacenter, out.ReplicationType = true, l.cfg.Raft.IsLeader(), a.Primary, "policies"
	if a.Replicate {
		out.ReplicationType = "tokens"
	}
	return &out
}

// askPrimary reads with the token for replication; Index of the options makes it wait.
func (l *Local) askPrimary(ctx context.Context, kind Kind, name string, o api.QueryOptions) (*Answer, error) {
	if l.cfg.ACLs.ReplicationToken != nil {
		o.Token = l.cfg.ACLs.ReplicationToken()
	}
	return primary{l}.Read(ctx, &Query{Kind: kind, Name: name, QueryOptions: o})
}

// tables are those to copy.
func (l *Local) tables() []Kind {
	if l.cfg.ACLs.Replicate {
		return copied
	}
	return copied[:2]
}

// awaitPrimary waits until one of the tables has another index, or leadership may have
// changed.
func (l *Local) awaitPrimary(ctx context.Context, changed <-chan struct{}, indexes map[Kind]uint64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	news := make(chan struct{}, len(copied))
	for _, kind := range l.tables() {
		asking.Go(func() {
			_, _ = l.askPrimary(ctx, kind, "", api.QueryOptions{MinIndex: indexes[kind], MaxWait: replicateWait}) // the round says what is wrong
			news <- struct{}{}
		})
	}
	select {
	case <-news:
	case <-changed:
	case <-ctx.Done():
	}
}

// copyRound makes the tables equal to the primary's, and gives the primary's indexes.
func (l *Local) copyRound(ctx context.Context) (map[Kind]uint64, error) {
	if l.cfg.Store.State().ACL().Key == nil {
		return nil, errors.New("ACLs are not yet set up here")
	}
	indexes := map[Kind]uint64{}
	for _, kind := range l.tables() {
		a, err := l.askPrimary(ctx, kind, "", api.QueryOptions{})
		if err != nil {
			return nil, fmt.Errorf("read %s of %q: %w", kind, l.cfg.ACLs.Primary, err)
		}
		indexes[kind] = a.Meta.Index
		var set []*command.ACLSet
		var gone command.ACLDelete
		st := l.cfg.Store.State()
		switch kind {
		case ACLPolicies:
			set, gone.Policies, err = l.policyChanges(ctx, st, a)
		case ACLRoles:
			set, gone.Roles, err = l.roleChanges(st, a)
		case ACLTokens:
			set, gone.Tokens, err = l.tokenChanges(ctx, st, a)
		}
		if err == nil {
			err = l.copyOver(ctx, set, &gone)
		}
		if err != nil {
			return nil, fmt.Errorf("copy %s: %w", kind, err)
		}
	}
	return indexes, nil
}

// copyOver writes what a table lacks; what is gone comes first, as its names may be used
// again.
func (l *Local) copyOver(ctx context.Context, set []*command.ACLSet, gone *command.ACLDelete) error {
	if len(gone.Policies)+len(gone.Roles)+len(gone.Tokens) > 0 {
		if _, err := l.apply(ctx, gone); err != nil {
			return err
		}
	}
	errs := make([]error, len(set))
	slots := make(chan struct{}, replicateAtOnce)
	var writing sync.WaitGroup
	for i, c := range set {
		slots <- struct{}{}
		writing.Go(func() {
			defer func() { <-slots }()
			_, errs[i] = l.apply(ctx, c)
		})
	}
	writing.Wait()
	return errors.Join(errs...)
}

func (l *Local) policyChanges(ctx context.Context, st *store.State, a *Answer) (set []*command.ACLSet, gone []string, err error) {
	list, err := Into[[]*api.PolicyEntry](a)
	if err != nil {
		return nil, nil, err
	}
	there := map[string]bool{}
	for _, e := range list {
		there[e.ID] = true
		if have := st.ACLPolicy(e.ID); have != nil && string(have.Hash) == string(e.Hash) {
			continue
		}
		a, err := l.askPrimary(ctx, ACLPolicy, e.ID, api.QueryOptions{})
		if errors.Is(err, api.ErrACLNotFound) { // gone since; the next round sees it
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		p, err := Into[*api.Policy](a)
		if err != nil {
			return nil, nil, err
		}
		set = append(set, &command.ACLSet{Policy: p})
	}
	for _, p := range st.ACLPolicies() {
		if !there[p.ID] && p.ID != acl.ManagementID && p.ID != acl.ReadOnlyID {
			gone = append(gone, p.ID)
		}
	}
	return set, gone, nil
}

func (l *Local) roleChanges(st *store.State, a *Answer) (set []*command.ACLSet, gone []string, err error) {
	list, err := Into[[]*api.Role](a)
	if err != nil {
		return nil, nil, err
	}
	there := map[string]bool{}
	for _, r := range list {
		there[r.ID] = true
		if have, ok := role(st, st.ACLRole(r.ID)).(*api.Role); !ok || roleContent(*have) != roleContent(*r) {
			set = append(set, &command.ACLSet{Role: r})
		}
	}
	for _, r := range st.ACLRoles() {
		if !there[r.ID] {
			gone = append(gone, r.ID)
		}
	}
	return set, gone, nil
}

// tokenChanges leaves out the tokens that hold in one datacenter only, here and there.
func (l *Local) tokenChanges(ctx context.Context, st *store.State, a *Answer) (set []*command.ACLSet, gone []string, err error) {
	seal, err := l.authorizers.sealer(st)
	if err != nil {
		return nil, nil, err
	}
	list, err := Into[[]*api.Token](a)
	if err != nil {
		return nil, nil, err
	}
	there := map[string]bool{}
	for _, t := range list {
		if t.Local {
			continue
		}
		there[t.AccessorID] = true
		if t.SecretID == hiddenSecret {
			return nil, nil, errors.New("the secrets are hidden: the replication token (acl.tokens.replication) needs acl = \"write\" in the primary datacenter")
		}
		have := st.TokenByAccessor(t.AccessorID)
		if have != nil && have.SecretHash == seal.Hash(t.SecretID) {
			was := have.Token
			was.Policies, was.Roles = st.PolicyLinks(have.Policies), st.RoleLinks(have.Roles)
			if was.Rules = ""; tokenContent(was) == tokenContent(*t) {
				continue
			}
		}
		if t.Legacy { // lists leave the rules out
			a, err := l.askPrimary(ctx, ACLToken, t.AccessorID, api.QueryOptions{})
			if err == nil {
				t, err = Into[*api.Token](a)
			}
			if err != nil {
				return nil, nil, err
			}
		}
		set = append(set, &command.ACLSet{Token: sealed(seal, &api.SealedToken{Token: *t})})
	}
	for _, t := range st.ACLTokens() {
		if !t.Local && !there[t.AccessorID] && t.AccessorID != acl.AnonymousID {
			gone = append(gone, t.AccessorID)
		}
	}
	return set, gone, nil
}

// tokenContent is equal for tokens that say the same, wherever they are stored.
func tokenContent(t api.Token) string {
	t.SecretID, t.Hash, t.CreateIndex, t.ModifyIndex = "", nil, 0, 0
	t.Policies, t.Roles = unnamed(t.Policies), unnamed(t.Roles)
	b, _ := json.Marshal(t) // plain fields
	return string(b)
}

func roleContent(r api.Role) string {
	r.Hash, r.CreateIndex, r.ModifyIndex = nil, 0, 0
	r.Policies = unnamed(r.Policies)
	b, _ := json.Marshal(r) // plain fields
	return string(b)
}

func unnamed(links []api.Link) []api.Link {
	out := make([]api.Link, len(links))
	for i, l := range links {
		out[i].ID = l.ID
	}
	return out
}
