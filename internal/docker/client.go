package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"golang.org/x/sys/unix"
)

// Options say where the engine is.
type Options struct {
	// Host is unix:///path, tcp://host:port, or empty: DOCKER_HOST, else the first socket
	// that may be used among the usual places.
	Host string
	// Timeout bounds every single request, and the wait for a subscription to be taken;
	// 10 s when 0. The stream of events itself is not bounded.
	Timeout time.Duration
	// Raw keeps the engine's JSON in each Container.
	Raw bool
}

// Client speaks to a real engine.
type Client struct {
	host    string
	now     atomic.Pointer[client.Client]
	files   atomic.Pointer[string] // what the TLS material was like when now was made
	timeout time.Duration
	raw     bool
	pinned  bool // DOCKER_API_VERSION forbids negotiation
	drivers drivers
	same    atomic.Pointer[string] // the engine's id that was the same twice
}

var _ Engine = (*Client)(nil)

// New makes a client; it does not connect. TLS comes from DOCKER_CERT_PATH and
// DOCKER_TLS_VERIFY, as for Docker's own tools, and is read again by Info where it changed.
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
	c := &Client{host: host, timeout: o.Timeout, raw: o.Raw, pinned: os.Getenv(client.EnvOverrideAPIVersion) != ""}
	if err := c.make(); err != nil {
		return nil, fmt.Errorf("docker host %q: %w; use unix:///path/to/docker.sock or tcp://host:port", host, err)
	}
	return c, nil
}

// make makes the client underneath, with the TLS material as it is now.
func (c *Client) make() error {
	files := tlsFiles()
	api, err := client.New(client.WithTLSClientConfigFromEnv(), client.WithHost(c.host), client.WithAPIVersionFromEnv())
	if err != nil {
		return err
	}
	c.files.Store(&files)
	if old := c.now.Swap(api); old != nil {
		return old.Close() // its idle connections; those in use end with their requests
	}
	return nil
}

// tlsFiles says what the files of DOCKER_CERT_PATH are like, so that a change shows.
func tlsFiles() string {
	dir := os.Getenv(client.EnvOverrideCertPath)
	if dir == "" {
		return ""
	}
	var out strings.Builder
	for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
		if s, err := os.Stat(filepath.Join(dir, name)); err == nil {
			fmt.Fprintf(&out, "%s %d %d;", name, s.Size(), s.ModTime().UnixNano())
		}
	}
	return out.String()
}

func (c *Client) api() *client.Client { return c.now.Load() }

// firstSocket gives the first that may be used of the places where an engine's socket is
// found: the usual one, gliderlabs's mount point, rootless Docker, Podman. Beside an engine
// of root's, which a user may not use, there may be the user's own. If none may be used it
// is the first that exists, for the error to name.
func firstSocket() string {
	paths := []string{"/var/run/docker.sock", "/tmp/docker.sock"}
	run := os.Getenv("XDG_RUNTIME_DIR")
	if run == "" {
		run = filepath.Join("/run/user", strconv.Itoa(os.Getuid()))
	}
	paths = append(paths, filepath.Join(run, "docker.sock"), filepath.Join(run, "podman", "podman.sock"), "/run/podman/podman.sock")
	there := paths[0]
	for _, p := range slices.Backward(paths) {
		if _, err := os.Stat(p); err == nil {
			there = p
		}
	}
	for _, p := range paths {
		if unix.Access(p, unix.W_OK) == nil {
			return p
		}
	}
	return there
}

// Host says where the engine is looked for.
func (c *Client) Host() string { return c.api().DaemonHost() }

// Close lets go of idle connections.
func (c *Client) Close() error { return c.api().Close() }

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
	if files := tlsFiles(); files != *c.files.Load() {
		if err := c.make(); err != nil { // half-written, perhaps; the next try reads them again
			return Info{}, told(ctx, "changed TLS material", err)
		}
	}
	if !c.pinned { // an engine that was away may come back as another version
		if _, err := c.api().Ping(ctx, client.PingOptions{NegotiateAPIVersion: true, ForceNegotiate: true}); err != nil {
			return Info{}, told(ctx, "ping", c.closed(err))
		}
	}
	info, err := c.info(ctx)
	if err != nil {
		return Info{}, err
	}
	if same := c.same.Load(); same != nil && *same == info.ID {
		return info, nil
	}
	again, err := c.info(ctx)
	if err != nil {
		return Info{}, err
	}
	if again.ID != info.ID || info.ID == "" { // Podman makes one up for each answer
		info.ID = "host:" + info.Name
	} else {
		c.same.Store(&info.ID)
	}
	return info, nil
}

// closed adds to an error what to do where the socket does not open to this process.
func (c *Client) closed(err error) error {
	path, ok := strings.CutPrefix(c.Host(), "unix://")
	if !ok || unix.Access(path, unix.R_OK|unix.W_OK) != unix.EACCES {
		return err
	}
	return fmt.Errorf("%w; the socket opens to its owner and its group: run as one of them, in a container with --group-add \"$(stat -Lc %%g %s)\"", err, path)
}

func (c *Client) info(ctx context.Context) (Info, error) {
	r, err := c.api().Info(ctx, client.InfoOptions{})
	if err != nil {
		return Info{}, told(ctx, "info", err)
	}
	return Info{ID: r.Info.ID, Name: r.Info.Name, Version: r.Info.ServerVersion, API: c.api().ClientVersion()}, nil
}

// wanted are the events asked for; whatever else the engine does (a probe of a
// HEALTHCHECK is three events) stays off the wire.
var wanted = []string{ActionStart, ActionKill, ActionDie, ActionDestroy, podmanDie, podmanDestroy, "pause", "unpause", "health_status", "rename", "update", "connect", "disconnect"}

// What Podman calls the death and the end, in its filters and, depending on its version,
// in its events.
const (
	podmanDie     = "died"
	podmanDestroy = "remove"
)

// Events implements Engine.
func (c *Client) Events(ctx context.Context, since time.Time) (iter.Seq2[Event, error], error) {
	opts := client.EventsListOptions{Filters: client.Filters{}.Add("type", TypeContainer, TypeNetwork).Add("event", wanted...)}
	if !since.IsZero() {
		opts.Since = fmt.Sprintf("%d.%09d", since.Unix(), since.Nanosecond())
	}
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(c.timeout, func() { cancel(fmt.Errorf("the subscription was not taken within %s", c.timeout)) })
	stream := c.api().Events(ctx, opts) // returns once the engine has answered, or failed
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
	switch e.Action {
	case podmanDie:
		e.Action = ActionDie
	case podmanDestroy:
		e.Action = ActionDestroy
	}
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
	r, err := c.api().ContainerList(ctx, client.ContainerListOptions{All: true})
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
	r, err := c.api().ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil {
		return nil, told(ctx, "inspect "+Short(id), err)
	}
	out := translate(&r.Container)
	c.fill(ctx, out)
	c.ingress(ctx, out)
	if c.raw {
		out.Raw = r.Raw
	}
	return out, nil
}

// Exec implements Engine. The caller's context bounds it, not Options.Timeout.
func (c *Client) Exec(ctx context.Context, id string, cmd []string, out io.Writer) (int, error) {
	what := fmt.Sprintf("exec %s in %s", strings.Join(cmd, " "), Short(id))
	made, err := c.api().ExecCreate(ctx, id, client.ExecCreateOptions{Cmd: cmd, AttachStdout: true, AttachStderr: true})
	if err != nil {
		return 0, told(ctx, what, err)
	}
	att, err := c.api().ExecAttach(ctx, made.ID, client.ExecAttachOptions{})
	if err != nil {
		return 0, told(ctx, what, err)
	}
	defer att.Close()
	defer context.AfterFunc(ctx, att.Close)() // a hijacked connection does not know the context
	if _, err := stdcopy.StdCopy(out, out, att.Reader); err != nil && !errors.Is(err, io.EOF) {
		return 0, told(ctx, what, err)
	}
	end, err := c.api().ExecInspect(ctx, made.ID, client.ExecInspectOptions{})
	if err != nil {
		return 0, told(ctx, what, err)
	}
	return end.ExitCode, nil
}
