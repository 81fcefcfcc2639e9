package api

// UserEvent is something that somebody fired for all agents to see.
type UserEvent struct {
	ID            string // a UUID
	Name          string
	Payload       []byte
	NodeFilter    string // regular expressions that choose who takes it; empty is everybody
	ServiceFilter string
	TagFilter     string // of a service's tags; only with ServiceFilter
	Version       int    // of the event's format: 1
	LTime         uint64 // the Lamport time at which it was received
}
