package apply

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// Signal tells a process of new files by a signal.
type Signal struct {
	PIDFile string
	Signal  syscall.Signal // 0 is SIGHUP
}

// Reload sends the signal.
func (s *Signal) Reload(context.Context, string) error {
	pid, err := readPID(s.PIDFile)
	if err != nil {
		return err
	}
	err = syscall.Kill(pid, orHUP(s.Signal))
	if errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%w: process %d of %s has ended", ErrNotRunning, pid, s.PIDFile)
	}
	if err != nil {
		return fmt.Errorf("signal process %d of %s: %w", pid, s.PIDFile, err)
	}
	return nil
}

func orHUP(s syscall.Signal) syscall.Signal {
	if s == 0 {
		return syscall.SIGHUP
	}
	return s
}

// Docker tells a container of new files by a signal to its first process.
type Docker struct {
	Container string
	Signal    syscall.Signal // 0 is SIGHUP
	Socket    string         // of the engine; "" is /var/run/docker.sock
}

// Reload asks the engine to send the signal.
func (d *Docker) Reload(ctx context.Context, _ string) error {
	socket := d.Socket
	if socket == "" {
		socket = "/var/run/docker.sock"
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	to := fmt.Sprintf("http://docker/containers/%s/kill?signal=%d", url.PathEscape(d.Container), orHUP(d.Signal))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("signal container %s: %w", d.Container, err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
	switch resp.StatusCode {
	case http.StatusNoContent:
		return nil
	case http.StatusConflict: // the engine's word for a container that does not run
		return fmt.Errorf("container %s is %w", d.Container, ErrNotRunning)
	}
	return fmt.Errorf("signal container %s: %s: %s", d.Container, resp.Status, strings.TrimSpace(string(text)))
}

// Splayed waits a while at random before a reload, so that many hosts do not reload at
// the same moment.
type Splayed struct {
	Reloader
	Most time.Duration
}

// Reload waits, and reloads.
func (s *Splayed) Reload(ctx context.Context, generation string) error {
	t := time.NewTimer(rand.N(s.Most + 1))
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
	return s.Reloader.Reload(ctx, generation)
}

// Verified has a reload count only when something else says so too.
type Verified struct {
	Reloader
	Verify  func(ctx context.Context, generation string) error
	Timeout time.Duration // 0 is 5 s
}

// Reload reloads, and asks until the answer is yes or the time is up.
func (v *Verified) Reload(ctx context.Context, generation string) error {
	if err := v.Reloader.Reload(ctx, generation); err != nil {
		return err
	}
	limit := v.Timeout
	if limit <= 0 {
		limit = 5 * time.Second
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	look := time.NewTicker(10 * time.Millisecond)
	defer look.Stop()
	for {
		err := v.Verify(ctx, generation)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("not verified within %s: %w", limit, err)
		case <-look.C:
		}
	}
}

// Stamp is a server block with which nginx itself says what it serves.
func Stamp(address, generation string) []byte {
	return fmt.Appendf(nil, "# which generation nginx serves, for the templater to see\nserver { listen %s; access_log off; default_type text/plain; return 200 %q; }\n",
		address, generation)
}

// Served asks nginx for the generation that it serves, at the address of the Stamp.
func Served(address string) func(context.Context, string) error {
	return func(ctx context.Context, generation string) error {
		if generation == "" { // what was before is not known by name
			return nil
		}
		network, at := "tcp", address
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			network, at = "unix", path
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, at)
		}}}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://generation/", nil)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(io.LimitReader(resp.Body, 100))
		if err != nil {
			return err
		}
		if got := string(b); got != generation {
			return fmt.Errorf("nginx serves generation %q, not %q", got, generation)
		}
		return nil
	}
}
