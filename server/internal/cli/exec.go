package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/rexec"
)

// execTTL is for how long what a remote execution wrote outlives who asked for it.
const execTTL = "15s"

func (a *app) exec() *cli.Command {
	return described("Exit code 2: it failed on a node. Agents take commands only with disable_remote_exec = false.", asking("exec", "run a command on many nodes", "[COMMAND | -]", "rollcall exec -service=web uptime", catalogFlags(
		&cli.StringFlag{Name: "node", Usage: "only nodes whose names match this regular expression"},
		&cli.StringFlag{Name: "service", Usage: "only nodes with a service whose name matches"},
		&cli.StringFlag{Name: "tag", Usage: "with -service: that has a tag which matches"},
		&cli.StringFlag{Name: "prefix", Usage: "where the job's keys are", Value: rexec.Prefix},
		&cli.BoolFlag{Name: "shell", Usage: "give the command to a shell", Value: true},
		&cli.DurationFlag{Name: "wait", Usage: "end when nothing was heard for so long and all who answered are done", Value: 2 * time.Second},
		&cli.DurationFlag{Name: "wait-repl", Usage: "let the job reach the servers before it is announced", Value: 200 * time.Millisecond},
		&cli.BoolFlag{Name: "verbose", Usage: "say what happens"},
	), func(ctx context.Context, c *cli.Command, cl *consul.Client) error {
		if c.String("tag") != "" && c.String("service") == "" {
			return misused(c, "-tag needs -service")
		}
		job := rexec.Job{Wait: c.Duration("wait")}
		line := strings.Join(c.Args().Slice(), " ")
		switch {
		case line == "" || line == "-":
			script, err := io.ReadAll(a.Stdin)
			if err != nil {
				return fmt.Errorf("read the script: %w", err)
			}
			if len(script) == 0 {
				return misused(c, "name a command, or send a script to the input")
			}
			job.Script = script
		case c.Bool("shell"):
			job.Command = line
		default:
			job.Args = c.Args().Slice()
		}
		ctx, stop := interruptible(ctx)
		defer stop()
		e := &execution{app: a, cl: cl, c: c, job: job}
		return e.run(ctx)
	}))
}

// execution is one remote execution.
type execution struct {
	*app
	cl      *consul.Client
	c       *cli.Command
	job     rexec.Job
	session string
	seen    map[string]bool // keys that were told
	acked   int
	exited  int
	failed  bool
}

func (e *execution) say(format string, args ...any) {
	if e.c.Bool("verbose") {
		e.printf("==> "+format+"\n", args...)
	}
}

func (e *execution) run(ctx context.Context) error {
	w := writeOptionsIn(e.c)
	var err error
	e.session, _, err = e.cl.Session().Create(&consul.SessionEntry{Name: "Remote Exec", Behavior: api.DeleteKeys, TTL: execTTL, LockDelay: time.Nanosecond}, w)
	if err != nil {
		return explain("creating session", err)
	}
	base := path.Join(e.c.String("prefix"), e.session)
	ended := make(chan struct{})
	renewed := make(chan error, 1)
	go func() { renewed <- e.cl.Session().RenewPeriodic(execTTL, e.session, w, ended) }() // its end destroys the session, and that the keys
	defer func() {
		close(ended)
		<-renewed
		_, _ = e.cl.KV().DeleteTree(base+"/", w) // what came too late to be held
	}()
	body, err := json.Marshal(e.job)
	if err != nil {
		return err
	}
	ok, _, err := e.cl.KV().Acquire(&consul.KVPair{Key: path.Join(base, rexec.JobKey), Value: body, Session: e.session}, w)
	if err != nil || !ok {
		return explain("uploading job", errors.Join(err, refusedUnless(ok)))
	}
	e.say("Uploaded remote execution job")
	pause := time.NewTimer(e.c.Duration("wait-repl"))
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-ctx.Done():
		return &exit{1, "interrupted"}
	}
	payload, err := json.Marshal(rexec.Event{Prefix: e.c.String("prefix"), Session: e.session})
	if err != nil {
		return err
	}
	if _, _, err := e.cl.Event().Fire(&consul.UserEvent{
		Name: rexec.EventName, Payload: payload, NodeFilter: e.c.String("node"), ServiceFilter: e.c.String("service"), TagFilter: e.c.String("tag"),
	}, w); err != nil {
		return explain("firing event", err)
	}
	e.say("Fired event")
	if err := e.follow(ctx, base+"/", renewed); err != nil {
		return err
	}
	e.printf("%d / %d node(s) completed / acknowledged\n", e.exited, e.acked)
	if e.failed || e.exited != e.acked {
		return &exit{code: 2}
	}
	return nil
}

func refusedUnless(ok bool) error {
	if ok {
		return nil
	}
	return errors.New("the key is held by others")
}

// follow prints what the nodes tell until nobody tells anything for a while.
func (e *execution) follow(ctx context.Context, base string, lost <-chan error) error {
	e.seen = map[string]bool{}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lists := make(chan consul.KVPairs)
	failed := make(chan error, 1)
	go func() {
		var index uint64
		for {
			pairs, meta, err := e.cl.KV().List(base, (&consul.QueryOptions{Datacenter: e.c.String("datacenter"), WaitIndex: index, WaitTime: time.Minute}).WithContext(ctx))
			if err != nil {
				failed <- err
				return
			}
			if meta.LastIndex < index { // it went back: begin anew
				index = 0
			} else {
				index = meta.LastIndex
			}
			select {
			case lists <- pairs:
			case <-ctx.Done():
				return
			}
		}
	}()
	quiet := time.NewTimer(e.c.Duration("wait"))
	defer quiet.Stop()
	for {
		select {
		case <-ctx.Done():
			return &exit{1, "interrupted: the commands are asked to end"}
		case err := <-failed:
			return explain("reading results", err)
		case err := <-lost:
			return explain("keeping the session", err)
		case pairs := <-lists:
			if e.told(pairs, base) {
				quiet.Reset(e.c.Duration("wait"))
			}
		case <-quiet.C:
			if e.acked == e.exited {
				return nil
			}
			quiet.Reset(e.c.Duration("wait"))
		}
	}
}

// told prints what is new and reports whether anything was.
func (e *execution) told(pairs consul.KVPairs, base string) bool {
	news := false
	for _, p := range pairs {
		node, what, ok := strings.Cut(strings.TrimPrefix(p.Key, base), "/")
		if !ok || e.seen[p.Key] {
			continue
		}
		e.seen[p.Key], news = true, true
		switch {
		case what == rexec.AckKey:
			e.acked++
			e.say("node %s: acknowledged", node)
		case what == rexec.ExitKey:
			e.exited++
			code, err := strconv.Atoi(string(p.Value))
			if err != nil || code != 0 {
				e.failed = true
			}
			e.printf("==> %s: finished with exit code %s\n", node, p.Value)
		case strings.HasPrefix(what, rexec.OutKey+"/"):
			for line := range bytes.Lines(p.Value) {
				e.printf("    %s: %s\n", node, bytes.TrimRight(line, "\n"))
			}
		}
	}
	return news
}
