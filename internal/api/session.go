package api

import (
	"encoding/json"
	"errors"
	"time"
)

// What becomes of the keys that a session holds when it ends.
const (
	ReleaseKeys = "release"
	DeleteKeys  = "delete"
)

// Session ties locks to the health of a node: it ends when one of its checks turns
// critical or goes away, when its node does, or when nobody renewed it for its TTL.
type Session struct {
	ID            string
	Name          string
	Node          string
	LockDelay     time.Duration // printed in nanoseconds, as Consul does
	Behavior      string        // ReleaseKeys or DeleteKeys
	TTL           string        // "" or a Go duration
	NodeChecks    []string
	ServiceChecks []SessionCheck
	CreateIndex   uint64
	ModifyIndex   uint64
}

// SessionCheck names a check of a service on the session's node.
type SessionCheck struct {
	ID        string
	Namespace string `json:",omitempty"`
}

// SessionEnd is why a session is no more. It is remembered for a while, so that whoever
// lost a lock can learn the reason.
type SessionEnd struct {
	ID     string
	Node   string
	Reason string
	Index  uint64
}

// SessionDefinition is the body of a request to create a session.
type SessionDefinition struct {
	Name          string
	Node          string
	LockDelay     *LockDelay
	Behavior      string
	TTL           string
	Checks        []string // an old name of NodeChecks
	NodeChecks    []string
	ServiceChecks []SessionCheck
}

// LockDelay reads a Go duration string, or a number: of nanoseconds, but below 1000 of
// seconds, as clients of Consul's first versions sent it.
type LockDelay time.Duration

// UnmarshalJSON reads both forms.
func (d *LockDelay) UnmarshalJSON(b []byte) error {
	var v any
	if err := json.Unmarshal(b, &v); err != nil {
		return err
	}
	switch v := v.(type) {
	case nil:
	case string:
		t, err := time.ParseDuration(v)
		if err != nil {
			return err
		}
		*d = LockDelay(t)
	case float64:
		if v < 1000 {
			v *= float64(time.Second)
		}
		*d = LockDelay(v)
	default:
		return errors.New("a lock delay is a string like \"15s\" or a number")
	}
	return nil
}
