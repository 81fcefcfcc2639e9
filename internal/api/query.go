package api

import "time"

// Consistency is how fresh an answer must be.
type Consistency uint8

// The modes of consistency.
const (
	// Default: the leader answers from its lease.
	Default Consistency = iota
	// Stale: any server answers from what it has.
	Stale
	// Consistent: the leader first proves to a quorum that it still leads.
	Consistent
)

// String gives the word of the X-Consul-Effective-Consistency header.
func (c Consistency) String() string {
	switch c {
	case Stale:
		return "stale"
	case Consistent:
		return "consistent"
	}
	return "leader"
}

// QueryOptions are the options every read takes.
type QueryOptions struct {
	Datacenter  string
	Token       string
	Consistency Consistency
	// MaxStale, when above 0, sends a stale read to the leader once the server
	// that answered has not heard from the leader for longer.
	MaxStale time.Duration
	// MinIndex above 0 makes the read block until the answer's index exceeds it
	// or MaxWait (jittered, clamped to the agent's limits) is over.
	MinIndex uint64
	MaxWait  time.Duration
}

// QueryMeta says what an answer is worth.
type QueryMeta struct {
	// Index to hand back as MinIndex; never 0.
	Index uint64
	// LastContact is how long ago the answering server heard its leader; 0 on it.
	LastContact time.Duration
	KnownLeader bool
	Consistency Consistency
	// Filtered tells that something was left out which the asker's token may not read.
	Filtered bool
}
