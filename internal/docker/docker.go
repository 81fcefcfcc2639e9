// Package docker is a Docker engine as the house sees it: five questions and our own
// plain types. It speaks through moby's client, negotiates the API version always, and
// lets none of that client's types out. It holds no state and does not reconnect: an
// engine that is away is an error, and what to do about it is the caller's. The
// registrator reads containers through it; whoever needs a command run inside a
// container uses Exec. dockertest has a fake.
package docker

import (
	"context"
	"errors"
	"io"
	"iter"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ErrNotFound says that the engine answers and knows no such container.
var ErrNotFound = errors.New("no such container")

// Engine is what can be asked of a Docker engine. All methods may be called at the same
// time from many goroutines, and end when ctx does.
type Engine interface {
	// Info says which engine this is. It negotiates the API version anew, so it is the
	// first call after a reconnect.
	Info(ctx context.Context) (Info, error)
	// Events subscribes. When it returns without error the engine has taken the
	// subscription, or is away: then the sequence begins with the error. The sequence
	// yields events as they come and ends after its first error, which is io.EOF when the
	// engine closed the stream. Events since that time
	// (the engine's clock) are replayed, as far as the engine remembers. The sequence
	// must be read, or ctx ended.
	Events(ctx context.Context, since time.Time) (iter.Seq2[Event, error], error)
	// List gives every container, whatever its state.
	List(ctx context.Context) ([]Summary, error)
	// Inspect gives one container. ErrNotFound is the one error that tells about the
	// container; every other one tells about the way to the engine.
	Inspect(ctx context.Context, id string) (*Container, error)
	// Exec runs a command inside a container, waits for its end and gives its exit code.
	// What it prints, on either stream, goes to out; only one goroutine writes at a time.
	// When ctx ends first, the command goes on: the engine cannot stop it.
	Exec(ctx context.Context, id string, cmd []string, out io.Writer) (exitCode int, err error)
}

// Info names an engine.
type Info struct {
	ID      string // survives restarts of the engine
	Name    string // its host's name
	Version string
	API     string // the version of its interface that was agreed on
}

// The events that matter, by Type and Action.
const (
	TypeContainer = "container"
	TypeNetwork   = "network"

	ActionStart   = "start"
	ActionKill    = "kill"
	ActionDie     = "die"
	ActionDestroy = "destroy"
)

// Event is one thing that the engine did.
type Event struct {
	Type      string
	Action    string // a health_status event carries its status after a colon
	Container string // the full id of the container it is about
	Signal    int    // of a kill event, else 0
	Time      time.Time
}

// Summary is a container in a list.
type Summary struct {
	ID    string
	State string
}

// States of a container, as the engine words them.
const (
	StateRunning = "running"
	StatePaused  = "paused"
	StateExited  = "exited"
)

// Container is one inspected container. It is not changed after Inspect gave it out.
type Container struct {
	ID         string // 64 hexadecimal digits
	Name       string // without the leading slash
	Image      string // as the user named it
	State      string // running, paused, restarting, exited, …
	ExitCode   int
	StartedAt  time.Time // the engine's clock
	StopSignal int       // what `docker stop` sends first
	Labels     map[string]string
	Env        []string // KEY=value
	Health     *Health  // nil without a HEALTHCHECK

	NetworkMode string              // bridge, host, none, container:<id>, or a network's name
	Networks    map[string]Endpoint // by network name
	Exposed     []Port              // declared by the image or at run time; sorted
	Published   map[Port][]Binding  // the host's side, as it is now
	Wanted      []Port              // ports for which publishing was asked; sorted

	// IngressUnknown says that a swarm's routing mesh may publish ports of this one, and
	// that this engine, no manager, cannot tell which. Elsewhere they are in Published.
	IngressUnknown bool

	Raw []byte // the engine's own JSON; only with Options.Raw
}

// Running tells whether the container's process exists: running or paused.
func (c *Container) Running() bool { return c.State == StateRunning || c.State == StatePaused }

// Short gives the first twelve digits of the id.
func (c *Container) Short() string { return Short(c.ID) }

// Short gives the first twelve digits of an id, or the id where it is shorter.
func Short(id string) string { return id[:min(len(id), 12)] }

// Health is the state of a HEALTHCHECK.
type Health struct {
	Status string // starting, healthy or unhealthy
	Output string // of the last probe
}

// The states of a HEALTHCHECK.
const (
	HealthStarting  = "starting"
	HealthHealthy   = "healthy"
	HealthUnhealthy = "unhealthy"
)

// Endpoint is a container's place in one network. Addresses may be invalid (absent).
type Endpoint struct {
	IPv4   netip.Addr
	IPv6   netip.Addr
	Driver string // bridge, overlay, macvlan, …; empty where the engine does not tell

	id string // of the network
}

// Port is a port inside a container.
type Port struct {
	Number uint16
	Proto  string // tcp, udp or sctp
}

// String gives the engine's form: "80/tcp".
func (p Port) String() string { return strconv.Itoa(int(p.Number)) + "/" + p.Proto }

// Compare orders by number, then by protocol.
func (p Port) Compare(q Port) int {
	if p.Number != q.Number {
		return int(p.Number) - int(q.Number)
	}
	return strings.Compare(p.Proto, q.Proto)
}

// Binding is the host's side of a published port.
type Binding struct {
	IP   netip.Addr // unspecified for all addresses of the host
	Port uint16
}
