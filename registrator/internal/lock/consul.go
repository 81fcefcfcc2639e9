package lock

import (
	"context"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// Consul is Keys behind the HTTP API of a Consul agent: ours, or the original.
type Consul struct{ client *consul.Client }

var _ Keys = Consul{}

// NewConsul makes Keys of a client.
func NewConsul(c *consul.Client) Consul { return Consul{c} }

func write(ctx context.Context) *consul.WriteOptions {
	return new(consul.WriteOptions).WithContext(ctx)
}

// Session implements Keys. The node's own health does not end it: a registrator may
// stand beside an agent on another host.
func (c Consul) Session(ctx context.Context, name string, ttl time.Duration) (string, error) {
	id, _, err := c.client.Session().CreateNoChecks(&consul.SessionEntry{
		Name: name, TTL: ttl.String(), Behavior: consul.SessionBehaviorRelease, LockDelay: time.Second,
	}, write(ctx))
	return id, err
}

// Renew implements Keys.
func (c Consul) Renew(ctx context.Context, session string) error {
	s, _, err := c.client.Session().Renew(session, write(ctx))
	if err == nil && s == nil {
		return ErrNoSession
	}
	return err
}

// Destroy implements Keys.
func (c Consul) Destroy(ctx context.Context, session string) error {
	_, err := c.client.Session().Destroy(session, write(ctx))
	return err
}

// Acquire implements Keys.
func (c Consul) Acquire(ctx context.Context, key, session, value string) (bool, error) {
	ok, _, err := c.client.KV().Acquire(&consul.KVPair{Key: key, Value: []byte(value), Session: session, Flags: consul.LockFlagValue}, write(ctx))
	return ok, err
}

// Release implements Keys.
func (c Consul) Release(ctx context.Context, key, session string) error {
	_, _, err := c.client.KV().Release(&consul.KVPair{Key: key, Session: session, Flags: consul.LockFlagValue}, write(ctx))
	return err
}

// Get implements Keys.
func (c Consul) Get(ctx context.Context, key string, index uint64) (session, value string, next uint64, err error) {
	opts := &consul.QueryOptions{RequireConsistent: true, WaitIndex: index, WaitTime: time.Minute}
	pair, meta, err := c.client.KV().Get(key, opts.WithContext(ctx))
	if err != nil {
		return "", "", 0, err
	}
	if pair == nil {
		return "", "", meta.LastIndex, nil
	}
	return pair.Session, string(pair.Value), meta.LastIndex, nil
}
