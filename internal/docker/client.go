package docker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
)

// Options say where the engine is.
type Options struct {
	// Host is unix:///path, tcp://host:port, or empty: DOCKER_HOST, else the first socket
	// that exists among the usual places.
	Host string
	// Timeout bounds every single request, and the wait for a subscription to be taken;
	// 10 s when 0. The stream of events itself is not bounded.
	Timeout time.Duration
	// Raw keeps the engine's JSON in each Container.
	Raw bool
}

// Client speaks to a real engine.
type Client struct {
	api     *client.Client
	timeout time.Duration
	raw     bool
	pinned  bool // DOCKER_API_VERSION forbids negotiation
}

var _ Engine = (*Client)(nil)

// New makes a client; it does not connect. TLS comes from DOCKER_CERT_PATH and
// DOCKER_TLS_VERIFY, as for Docker's own tools.
func New(o Options) (*Client, error) {
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	host := o.Host
	if host == "" {
		host = os.Getenv(client.EnvOverrideHost)
	}
	if host == "" {
		host = "unix://" + firstSocket()
	}
	api, err := client.New(client.WithTLSClientConfigFromEnv(), client.WithHost(host), client.WithAPIVersionFromEnv())
	if err != nil {
		return nil, fmt.Errorf("docker host %q: %w; use unix:///path/to/docker.sock or tcp://host:port", host, err)
	}
	return &Client{api: api, timeout: o.Timeout, raw: o.Raw, pinned: os.Getenv(client.EnvOverrideAPIVersion) != ""}, nil
}

// firstSocket gives the first that exists of the places where an engine's socket is
// found: the usual one, gliderlabs's mount point, rootless Docker, Podman.
func firstSocket() string {
	paths := []string{"/var/run/docker.sock", "/tmp/docker.sock"}
	if run := os.Getenv("XDG_RUNTIME_DIR"); run != "" {
		paths = append(paths, filepath.Join(run, "docker.sock"), filepath.Join(run, "podman", "podman.sock"))
	}
	paths = append(paths, "/run/podman/podman.sock")
	for _, p := range paths {
		if _, err := os.Stat(p); err == nil {
			return p
		}
	}
	return paths[0]
}

// Host says where the engine is looked for.
func (c *Client) Host() string { return c.api.DaemonHost() }

// Close lets go of idle connections.
func (c *Client) Close() error { return c.api.Close() }

func (c *Client) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no answer within %s", c.timeout))
}

// told gives an error its cause where the bound ended the request.
func told(ctx context.Context, what string, err error) error {
	if cause := context.Cause(ctx); cause != nil && ctx.Err() != nil {
		err = cause
	}
	if errdefs.IsNotFound(err) {
		err = ErrNotFound
	}
	return fmt.Errorf("docker: %s: %w", what, err)
}

// Info implements Engine.
func (c *Client) Info(ctx context.Context) (Info, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	if !c.pinned { // an engine that was away may come back as another version
		if _, err := c.api.Ping(ctx, client.PingOptions{NegotiateAPIVersion: true, ForceNegotiate: true}); err != nil {
			return Info{}, told(ctx, "ping", err)
		}
	}
	r, err := c.api.Info(ctx, client.InfoOptions{})
	if err != nil {
		return Info{}, told(ctx, "info", err)
	}
	return Info{ID: r.Info.ID, Name: r.Info.Name, Version: r.Info.ServerVersion}, nil
}

// wanted are the events asked for; whatever else the engine does (a probe of a
// HEALTHCHECK is three events) stays off the wire.
var wanted = []string{ActionStart, ActionKill, ActionDie, ActionDestroy, "pause", "unpause", "health_status", "rename", "update", "connect", "disconnect"}

// Events implements Engine.
func (c *Client) Events(ctx context.Context, since time.Time) (iter.Seq2[Event, error], error) {
	opts := client.EventsListOptions{Filters: client.Filters{}.Add("type", TypeContainer, TypeNetwork).Add("event", wanted...)}
	if !since.IsZero() {
		opts.Since = fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(c.timeout, func() { cancel(fmt.Errorf("the subscription was not taken within %s", c.timeout)) })
	stream := c.api.Events(ctx, opts) // returns once the engine has answered, or failed
	if !late.Stop() {
		err := told(ctx, "events", <-stream.Err)
		return nil, err
	}
	select {
	case err := <-stream.Err:
		cancel(nil)
		return nil, told(ctx, "events", cmpErr(err))
	default:
	}
	return func(yield func(Event, error) bool) {
		defer cancel(nil)
		for {
			select {
			case m := <-stream.Messages:
				if e, ok := event(m); ok && !yield(e, nil) {
					return
				}
			case err := <-stream.Err:
				yield(Event{}, fmt.Errorf("docker: events: %w", cmpErr(err)))
				return
			}
		}
	}, nil
}

// cmpErr stands in for the nil of a closed error channel.
func cmpErr(err error) error {
	if err == nil {
		return io.EOF
	}
	return err
}

// event translates, and tells whether the event is about a container.
func event(m events.Message) (Event, bool) {
	e := Event{Type: string(m.Type), Action: string(m.Action), Container: m.Actor.ID, Time: time.Unix(0, m.TimeNano)}
	switch e.Type {
	case TypeNetwork:
		e.Container = m.Actor.Attributes["container"]
	case TypeContainer:
		if e.Action == ActionKill {
			e.Signal, _ = strconv.Atoi(m.Actor.Attributes["signal"])
		}
	}
	return e, e.Container != ""
}

// List implements Engine.
func (c *Client) List(ctx context.Context) ([]Summary, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	r, err := c.api.ContainerList(ctx, client.ContainerListOptions{All: true})
	if err != nil {
		return nil, told(ctx, "list containers", err)
	}
	out := make([]Summary, len(r.Items))
	for i, s := range r.Items {
		out[i] = Summary{ID: s.ID, State: string(s.State)}
	}
	return out, nil
}

// Inspect implements Engine.
func (c *Client) Inspect(ctx context.Context, id string) (*Container, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	r, err := c.api.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return nil, told(ctx, "inspect "+Short(id), err)
	}
	out := translate(&r.Container)
	if c.raw {
		out.Raw = r.Raw
	}
	return out, nil
}

// Exec implements Engine. The caller's context bounds it, not Options.Timeout.
func (c *Client) Exec(ctx context.Context, id string, cmd []string) (Result, error) {
	what := fmt.Sprintf("exec %s in %s", strings.Join(cmd, " "), Short(id))
	made, err := c.api.ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: cmd, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return Result{}, told(ctx, what, err)
	}
	att, err := c.api.ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return Result{}, told(ctx, what, err)
	}
	defer att.Close()
	defer context.AfterFunc(ctx, att.Close)() // a hijacked connection does not know the context
	var out bytes.Buffer
	w := &limited{w: &out, left: MaxOutput}
	if _, err := stdcopy.StdCopy(w, w, att.Reader); err != nil && !errors.Is(err, io.EOF) {
		return Result{}, told(ctx, what, err)
	}
	end, err := c.api.ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	if err != nil {
		return Result{}, told(ctx, what, err)
	}
	return Result{ExitCode: end.ExitCode, Output: out.Bytes()}, nil
}

// limited passes on what fits and swallows the rest.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
