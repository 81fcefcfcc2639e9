package api

import (
	"errors"
	"fmt"
)

// Kind sorts errors by what a caller can do about them; the HTTP door derives the
// status from it, and it survives the wire between agents.
type Kind uint8

// The kinds of error.
const (
	// Internal: ours to mend (500).
	Internal Kind = iota
	// Invalid: the request cannot be carried out as written (400).
	Invalid
	// NotFound: the thing named does not exist (404).
	NotFound
	// Forbidden: the token may not do this (403).
	Forbidden
	// Unauthorized: the feature wants credentials, or is off (401).
	Unauthorized
	// Conflict: a transaction was rolled back (409).
	Conflict
	// TooLarge: the body is over a limit (413).
	TooLarge
	// Busy: a limit was hit; try again later (429).
	Busy
	// Unavailable: nobody can answer at the moment (500 with Consul's text).
	Unavailable
	// OutOfReach: another datacenter does not answer (500).
	OutOfReach
)

// Error is an error whose text is meant for the client, word for word.
type Error struct {
	Kind Kind
	Text string
}

func (e *Error) Error() string { return e.Text }

// Is holds errors of the same kind and text equal, so that sentinels survive the wire.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && *t == *e
}

// Errorf makes an error of a kind.
func Errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Text: fmt.Sprintf(format, args...)}
}

// KindOf gives the kind of the first *Error in err's chain, else Internal.
func KindOf(err error) Kind {
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return Internal
}

// Errors that clients match by text.
var (
	// ErrNoLeader: the cluster has no leader, or none that answers.
	ErrNoLeader = &Error{Unavailable, "No cluster leader"}
	// ErrNotLeader: this server cannot take the write; it moves on to the leader.
	ErrNotLeader = &Error{Unavailable, "node is not the leader"}
	// ErrNoServers: this client agent knows no server.
	ErrNoServers = &Error{Unavailable, "No known Consul servers"}
	// ErrNoPath: the datacenter is unknown.
	ErrNoPath = &Error{Unavailable, "No path to datacenter"}
	// ErrPermissionDenied: the token lacks the right.
	ErrPermissionDenied = &Error{Forbidden, "Permission denied"}
)

// AsError gives err as an *Error: the one in its chain, or an Internal one with its text.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return &Error{Kind: Internal, Text: err.Error()}
}
