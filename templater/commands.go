package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall/rollcall/templater/internal/config"
	"github.com/rollcall/rollcall/templater/internal/status"
	"github.com/rollcall/rollcall/templater/internal/view"
)

// failing prints why, and gives the exit code.
type failing = func(code int, err error) int

// patience is how long a command that only looks waits for data.
const patience = 10 * time.Second

// differs is plan's exit code when something would change.
const differs = 2

func bounded(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, limit)
}

func orPatience(d time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return patience
}

// commands gives what carries out a command, nil for those that run.
func (p *process) commands(in *config.Invocation) func(context.Context, *running, failing) int {
	switch in.Command {
	case "plan":
		return p.plan
	case "check":
		return p.check
	case "rollback":
		return p.rollback
	case "config":
		return func(context.Context, *running, failing) int {
			fmt.Fprintln(p.stdout, "the configuration and its templates are valid")
			return 0
		}
	}
	return nil
}

func (p *process) plan(ctx context.Context, r *running, fail failing) int {
	ctx, cancel := bounded(ctx, orPatience(r.cfg.Timeout))
	defer cancel()
	changes, err := r.runner.Plan(ctx) // with an error it may give a part
	show := view.Diff
	if p.in.Redact {
		show = view.Redacted
	}
	for _, c := range changes {
		if c.Dress == "" || !bytes.Equal(c.Before, c.After) {
			fmt.Fprint(p.stdout, show(c.Dest, c.Before, c.After))
		}
		if c.Dress != "" {
			fmt.Fprintf(p.stdout, "# %s: %s\n", c.Dest, c.Dress)
		}
	}
	switch {
	case err != nil:
		return fail(1, err)
	case len(changes) > 0:
		return differs
	}
	return 0
}

func (p *process) check(ctx context.Context, r *running, fail failing) int {
	ctx, cancel := bounded(ctx, orPatience(r.cfg.Timeout))
	defer cancel()
	if err := r.runner.Check(ctx); err != nil {
		return fail(1, err)
	}
	fmt.Fprintln(p.stdout, "what would be written passes every check")
	return 0
}

func (p *process) rollback(ctx context.Context, r *running, fail failing) int {
	args, back := p.in.Args, 1
	if len(args) > 1 {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 0 {
			return fail(exitUsage, fmt.Errorf("%w: rollback %s %s: how many generations back, 1 or more; 0 follows the catalog again", config.ErrUsage, args[0], args[1]))
		}
		back = n
	}
	generation, err := r.runner.Rollback(ctx, args[0], back)
	switch {
	case err != nil:
		return fail(1, err)
	case back == 0:
		fmt.Fprintf(p.stdout, "group %s follows the catalog again\n", args[0])
	default:
		fmt.Fprintf(p.stdout, "group %s has generation %s again, and keeps it until `templater rollback %s 0`\n", args[0], generation, args[0])
	}
	return 0
}

// look is status and watch: they ask a templater that runs.
func look(in *config.Invocation, stdout io.Writer, fail failing) int {
	addr, err := in.Address()
	if err != nil {
		return fail(exitConfig, err)
	}
	// caught to the end: a second ^C must not change how it ended
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	if in.Command == "watch" {
		return live(ctx, addr, stdout, fail)
	}
	body, report, err := ask(ctx, addr)
	if err != nil {
		return fail(1, err)
	}
	switch {
	case in.JSON:
		stdout.Write(body)
	case in.Why != "":
		text, ok := view.Why(report, in.Why)
		if !ok {
			return fail(1, fmt.Errorf("no template has %q in the name of its source, destination or group: `templater status` lists the groups", in.Why))
		}
		fmt.Fprint(stdout, text)
	default:
		fmt.Fprint(stdout, view.Status(report, time.Now()))
	}
	if !report.Ready {
		return 1
	}
	return 0
}

// live shows the status again and again, until it is interrupted.
func live(ctx context.Context, addr string, stdout io.Writer, fail failing) int {
	if f, ok := stdout.(*os.File); !ok || !terminal(f) {
		return fail(1, errors.New("watch needs a terminal; `templater status` prints once"))
	}
	fmt.Fprint(stdout, "\x1b[?1049h") // a screen of its own, so that what was there comes back
	defer fmt.Fprint(stdout, "\x1b[?1049l")
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		text := ""
		if _, report, err := ask(ctx, addr); err != nil {
			text = err.Error() + "\n"
		} else {
			text = view.Status(report, time.Now())
		}
		text = strings.ReplaceAll(text, "\n", "\x1b[K\n")
		fmt.Fprintf(stdout, "\x1b[H%s\x1b[K\nat %s, ^C ends\x1b[J", text, time.Now().Format("15:04:05"))
		select {
		case <-ctx.Done():
			return 0
		case <-tick.C:
		}
	}
}

func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// ask gets the status of a templater that runs.
func ask(ctx context.Context, addr string) ([]byte, status.Report, error) {
	var r status.Report
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	network, at := "tcp", addr
	if path, ok := strings.CutPrefix(addr, "unix://"); ok {
		network, at = "unix", path
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, at)
	}}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://templater/status?format=json", nil)
	if err != nil {
		return nil, r, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, r, fmt.Errorf("no templater answers on %s: -listen (or listen in the file of -config) names its status page: %w", addr, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(body, &r)
	}
	if err != nil {
		return nil, r, fmt.Errorf("what answers on %s is no templater: %w", addr, err)
	}
	return body, r, nil
}
