// Package seed finds whom an agent may join. Addresses and host names pass as they are,
// gossip resolves those itself; a name that begins with an underscore stands for what its
// SRV records say, and "provider=docker …" for containers of the local engine. Every call
// asks anew, so that a cluster whose addresses have all changed is found again. It keeps
// nothing; agent calls it before each try to join.
package seed

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall/rollcall/internal/docker"
)

// Finder finds addresses. The zero value uses the host's resolver and engine.
type Finder struct {
	// Resolver answers for SRV names; nil is the host's.
	Resolver *net.Resolver
	// Engine opens the Docker engine at host, "" for the local one; nil is the real one.
	// The caller calls close when done.
	Engine func(host string) (engine docker.Engine, close func() error, err error)
	// Self is this agent's own address, which is not worth joining; "" for none.
	Self string
}

// Check says what is wrong with an entry of a list of addresses to join, nil if nothing is
// as far as one can tell without asking anybody.
func Check(entry string) error {
	if !strings.Contains(entry, "provider=") {
		return nil
	}
	_, err := parseDocker(entry)
	return err
}

// Find gives the addresses that entries stand for, and what could not be found out: an
// entry that fails does not keep the others from being joined.
func (f Finder) Find(ctx context.Context, entries []string) ([]string, error) {
	var out []string
	var errs []error
	for _, e := range entries {
		var found []string
		var err error
		switch {
		case strings.Contains(e, "provider="):
			found, err = f.docker(ctx, e)
		case strings.HasPrefix(e, "_"):
			found, err = f.srv(ctx, e)
		default:
			found = []string{e}
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e, err))
		}
		for _, a := range found {
			if a != f.Self && !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out, errors.Join(errs...)
}

// srv gives targets and ports of a name's SRV records, by priority.
func (f Finder) srv(ctx context.Context, name string) ([]string, error) {
	r := f.Resolver
	if r == nil {
		r = net.DefaultResolver
	}
	_, records, err := r.LookupSRV(ctx, "", "", name)
	var out []string
	for _, s := range records { // those that are well formed come also with an error
		out = append(out, net.JoinHostPort(strings.TrimSuffix(s.Target, "."), strconv.Itoa(int(s.Port))))
	}
	return out, err
}

// query is what "provider=docker …" asks an engine for.
type query struct{ host, key, value, network, port string }

// ErrCloud: an entry asks a cloud's API.
var ErrCloud = errors.New("finding servers through a cloud's API is not built in: give addresses, a DNS name of several, or provider=docker")

func parseDocker(entry string) (query, error) {
	q := query{port: "8301"}
	fields := map[string]*string{
		"label_key": &q.key, "label_value": &q.value, "network": &q.network, "port": &q.port, "host": &q.host, "provider": new(string),
	}
	for part := range strings.FieldsSeq(entry) {
		k, v, _ := strings.Cut(part, "=")
		if k == "provider" && v != "docker" {
			return q, ErrCloud
		}
		to, known := fields[k]
		if !known {
			return q, fmt.Errorf("%q is not known: provider=docker takes label_key, label_value, network, port and host", part)
		}
		*to = v
	}
	if q.key == "" {
		return q, errors.New("give label_key=…, the label that containers to join carry")
	}
	if n, err := strconv.ParseUint(q.port, 10, 16); err != nil || n == 0 {
		return q, fmt.Errorf("port=%s is not a port", q.port)
	}
	return q, nil
}

// docker gives the addresses of running containers that carry the label.
func (f Finder) docker(ctx context.Context, entry string) ([]string, error) {
	q, err := parseDocker(entry)
	if err != nil {
		return nil, err
	}
	open := f.Engine
	if open == nil {
		open = local
	}
	engine, closeEngine, err := open(q.host)
	if err != nil {
		return nil, err
	}
	defer closeEngine()
	list, err := engine.List(ctx)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range list {
		if s.State != docker.StateRunning {
			continue
		}
		c, err := engine.Inspect(ctx, s.ID)
		if errors.Is(err, docker.ErrNotFound) {
			continue // it has ended since
		}
		if err != nil {
			return out, err
		}
		out = append(out, q.addresses(c)...)
	}
	slices.Sort(out)
	return out, nil
}

// addresses are those of a container that the query is about.
func (q query) addresses(c *docker.Container) []string {
	value, has := c.Labels[q.key]
	if !has || q.value != "" && value != q.value {
		return nil
	}
	var out []string
	for name, n := range c.Networks {
		if q.network != "" && name != q.network {
			continue
		}
		if ip := n.IPv4; ip.IsValid() {
			out = append(out, net.JoinHostPort(ip.String(), q.port))
		} else if ip := n.IPv6; ip.IsValid() {
			out = append(out, net.JoinHostPort(ip.String(), q.port))
		}
	}
	return out
}

func local(host string) (docker.Engine, func() error, error) {
	c, err := docker.New(docker.Options{Host: host})
	if err != nil {
		return nil, nil, err
	}
	return c, c.Close, nil
}
