// Package announce makes the registrators and templaters beside a catalog known in it: each
// keeps a key below Prefix that says how it is, bound to a session, so that the key goes
// when its owner does. Writes wait for changes and are at most two a second; neither DNS
// nor the lists of services show anything of it. It works with Consul as well.
//
// A catalog that is away or refuses changes nothing for the caller: it is tried again.
package announce

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// Prefix is where the keys are.
const Prefix = "rollcall/agents/"

// Kinds of programs.
const (
	Registrator = "registrator"
	Templater   = "templater"
)

// Report is how one program is. Lists hold the newest last.
type Report struct {
	Kind    string
	Node    string // of the agent that it talks to
	Host    string // where it runs
	Version string
	Started time.Time
	Fault   string  `json:",omitempty"` // what keeps it from its work at present
	Standby string  `json:",omitempty"` // why it leaves the work to another
	Facts   []Fact  `json:",omitempty"`
	Groups  []Group `json:",omitempty"` // of a templater
	Births  []Birth `json:",omitempty"` // of a registrator
	Ends    []End   `json:",omitempty"` // of a registrator
	Applies []Apply `json:",omitempty"` // of a templater
}

// Fact is a number with its name.
type Fact struct {
	Name  string
	Value int
}

// Group is a set of files that go live together.
type Group struct {
	Name     string
	Ready    bool
	Files    string `json:",omitempty"` // generation of the live ones
	Index    uint64 // of the catalog that the live files reflect
	Applied  time.Time
	Servers  int
	Services []string  `json:",omitempty"` // in the live files
	Places   []string  `json:",omitempty"` // address:port of the servers in the live files; none where they are too many
	Behind   time.Time `json:",omitzero"`  // since when newer files wait; zero where none have for a while
	Fault    string    `json:",omitempty"` // what went wrong with the newest files
	Held     string    `json:",omitempty"` // why a guard keeps them back
}

// MaxPlaces is up to how many servers a report names them: some 20 bytes each, written
// with every apply.
const MaxPlaces = 1000

// Birth is when a container started and when its service was registered.
type Birth struct {
	Service             string // id
	Started, Registered time.Time
}

// End is when a service was deregistered, and why.
type End struct {
	Service string // id
	At      time.Time
	Why     string
}

// Apply is files that went live: nginx served them at At.
type Apply struct {
	Group        string
	Index        uint64
	Rendered, At time.Time
	Reload       bool
}

const (
	ttl     = 15 * time.Second // of the session; a program that dies is shown for twice as long at most
	look    = 500 * time.Millisecond
	patient = time.Minute // between attempts after a refusal
	bound   = 5 * time.Second
	maxSize = 128 << 10
)

// Run keeps the key right until ctx ends, and takes it away then. report is asked twice a
// second; Node, Host and Version are filled in.
func Run(ctx context.Context, c *consul.Client, kind, version string, report func() Report, log *slog.Logger) error {
	a := &announcer{client: c, log: log.With("room", "announce")}
	a.base = Report{Kind: kind, Version: version, Started: time.Now().UTC().Truncate(time.Millisecond)}
	a.base.Host, _ = os.Hostname() // "" says enough
	tick := time.NewTicker(look)
	defer tick.Stop()
	var next time.Time
	told := ""
	for {
		select {
		case <-ctx.Done():
			a.end()
			return nil
		case <-tick.C:
		}
		if time.Now().Before(next) {
			continue
		}
		err := a.step(ctx, report())
		switch {
		case err == nil:
			if told != "" {
				a.log.Info("announced again")
			}
			told = ""
		case ctx.Err() == nil:
			if told == "" {
				a.log.Info("not announced in the catalog; it is tried again", "key", Prefix+"…", "err", err)
			}
			told, next = err.Error(), time.Now().Add(patient)
			if !refusal(err) {
				next = time.Now().Add(bound)
			}
		}
	}
}

// announcer is one program's key. It belongs to Run.
type announcer struct {
	client  *consul.Client
	log     *slog.Logger
	base    Report
	session string
	renewed time.Time
	written []byte
}

func refusal(err error) bool {
	status, ok := err.(consul.StatusError)
	return ok && status.Code < 500
}

// step makes the key what the report says.
func (a *announcer) step(ctx context.Context, r Report) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	opts := new(consul.WriteOptions).WithContext(ctx)
	if a.base.Node == "" {
		var self struct{ Config struct{ NodeName string } }
		if _, err := a.client.Raw().Query("/v1/agent/self", &self, new(consul.QueryOptions).WithContext(ctx)); err != nil {
			return fmt.Errorf("the agent does not say who it is: %w", err)
		}
		a.base.Node = self.Config.NodeName
	}
	r.Kind, r.Node, r.Host, r.Version, r.Started = a.base.Kind, a.base.Node, a.base.Host, a.base.Version, a.base.Started
	if a.session != "" && time.Since(a.renewed) > ttl/3 {
		s, _, err := a.client.Session().Renew(a.session, opts)
		if err != nil {
			return err
		}
		if a.renewed = time.Now(); s == nil {
			a.session = ""
		}
	}
	if a.session == "" {
		id, _, err := a.client.Session().CreateNoChecks(&consul.SessionEntry{
			Name: a.base.Kind, TTL: ttl.String(), Behavior: consul.SessionBehaviorDelete, LockDelay: time.Millisecond,
		}, opts)
		if err != nil {
			return err
		}
		a.session, a.renewed, a.written = id, time.Now(), nil
	}
	body, err := json.Marshal(r)
	if err != nil || bytes.Equal(body, a.written) {
		return err
	}
	if len(body) > maxSize {
		return fmt.Errorf("the report has %d bytes, and may have %d", len(body), maxSize)
	}
	ok, _, err := a.client.KV().Acquire(&consul.KVPair{Key: a.key(), Value: body, Session: a.session}, opts)
	switch {
	case err != nil:
		a.session = "" // it may be over
		return err
	case !ok:
		return fmt.Errorf("the key %s is held by another session", a.key())
	}
	a.written = body
	return nil
}

// key tells several programs on a host apart.
func (a *announcer) key() string {
	return fmt.Sprintf("%s%s/%s/%s-%d", Prefix, a.base.Kind, a.base.Node, a.base.Host, os.Getpid())
}

// end takes the key away.
func (a *announcer) end() {
	if a.session == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if _, err := a.client.Session().Destroy(a.session, new(consul.WriteOptions).WithContext(ctx)); err != nil {
		a.log.Info("still announced until its session ends", "within", 2*ttl, "err", err)
	}
}

// Read decodes a key's value; false where it is none of ours.
func Read(value []byte) (*Report, bool) {
	var r Report
	if json.Unmarshal(value, &r) != nil || r.Kind == "" {
		return nil, false
	}
	return &r, true
}
