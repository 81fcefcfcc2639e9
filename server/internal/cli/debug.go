package cli

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

// captures are what debug can gather.
var captures = []string{"agent", "host", "members", "metrics", "logs", "pprof"}

func (a *app) debug() *cli.Command {
	return asking("debug", "gather what helps to find a fault, into one file", "", "rollcall debug -duration=2s -interval=1s -output=case17", clientFlags(
		&cli.DurationFlag{Name: "duration", Usage: "for how long", Value: 2 * time.Minute},
		&cli.DurationFlag{Name: "interval", Usage: "between two looks at metrics", Value: 30 * time.Second},
		&cli.StringSliceFlag{Name: "capture", Usage: "what: " + strings.Join(captures, ", ") + "; may be repeated (default all)"},
		&cli.StringFlag{Name: "output", Usage: "name of the file or directory (default rollcall-debug-TIME)"},
		&cli.BoolFlag{Name: "archive", Usage: "one .tar.gz file instead of a directory", Value: true},
	), func(ctx context.Context, c *cli.Command, cl *consul.Client) error {
		want := c.StringSlice("capture")
		if len(want) == 0 {
			want = captures
		}
		for _, w := range want {
			if !slices.Contains(captures, w) {
				return misused(c, "-capture=%s: use %s", w, strings.Join(captures, ", "))
			}
		}
		if c.Duration("duration") <= 0 || c.Duration("interval") <= 0 {
			return misused(c, "-duration and -interval are above 0")
		}
		name := c.String("output")
		if name == "" {
			name = "rollcall-debug-" + time.Now().UTC().Format("20060102-150405")
		}
		ctx, stop := interruptible(ctx)
		defer stop()
		if _, err := cl.Agent().NodeName(); err != nil {
			return explain("querying agent", err)
		}
		b := &bundle{cl: cl, files: map[string][]byte{}, want: want}
		show := a.progress("gathering", int64(c.Duration("duration")), func(n int64) string { return time.Duration(n).Round(time.Second).String() })
		b.gather(ctx, c.Duration("duration"), c.Duration("interval"), show)
		show.end()
		path, err := b.save(name, c.Bool("archive"))
		if err != nil {
			return fmt.Errorf("Error saving: %w", err)
		}
		for _, problem := range b.problems {
			fmt.Fprintln(a.Stderr, "left out: "+problem)
		}
		a.printf("Saved debug archive: %s\n", path)
		return nil
	})
}

// bundle is what was gathered so far.
type bundle struct {
	cl       *consul.Client
	want     []string
	files    map[string][]byte
	problems []string
}

func (b *bundle) put(name string, v any, err error) {
	if err != nil {
		b.problems = append(b.problems, fmt.Sprintf("%s: %v", name, err))
		return
	}
	body, ok := v.([]byte)
	if !ok {
		if body, err = json.MarshalIndent(v, "", "    "); err != nil {
			b.problems = append(b.problems, fmt.Sprintf("%s: %v", name, err))
			return
		}
	}
	b.files[name] = body
}

func (b *bundle) has(what string) bool { return slices.Contains(b.want, what) }

func (b *bundle) gather(ctx context.Context, length, interval time.Duration, show *progress) {
	if b.has("agent") {
		v, err := b.cl.Agent().Self()
		b.put("agent.json", v, err)
	}
	if b.has("host") {
		v, err := b.cl.Agent().Host()
		b.put("host.json", v, err)
	}
	if b.has("members") {
		v, err := b.cl.Agent().Members(false)
		b.put("members.json", v, err)
	}
	began := time.Now()
	var logs bytes.Buffer
	var lines <-chan string
	over := make(chan struct{})
	defer close(over)
	if b.has("logs") {
		got, err := b.cl.Agent().Monitor("debug", over, nil)
		if err != nil {
			b.problems = append(b.problems, "logs: "+err.Error())
		}
		lines = got
	}
	profiles := make(chan *bundle, 1)
	if b.has("pprof") {
		go func() { // the profile of the processor takes as long as everything
			p := &bundle{cl: b.cl, files: map[string][]byte{}}
			heap, err := p.cl.Debug().Heap()
			p.put("pprof/heap.prof", heap, err)
			profile, err := p.cl.Debug().Profile(max(1, int(length.Seconds())))
			p.put("pprof/profile.prof", profile, err)
			routines, err := p.cl.Debug().Goroutine()
			p.put("pprof/goroutine.prof", routines, err)
			profiles <- p
		}()
	} else {
		profiles <- &bundle{}
	}
	metrics := map[string]any{}
	var failed error
	look := func() {
		if !b.has("metrics") {
			return
		}
		m, err := b.cl.Agent().Metrics()
		if err != nil {
			failed = err
			return
		}
		metrics[time.Since(began).Round(time.Millisecond).String()] = m
	}
	look()
	again := time.NewTicker(interval)
	defer again.Stop()
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for time.Since(began) < length && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case line, ok := <-lines:
			if !ok {
				lines = nil
				continue
			}
			logs.WriteString(line + "\n")
		case <-again.C:
			look()
		case <-tick.C:
			show.add(int64(time.Since(began)) - show.done)
		}
	}
	select {
	case p := <-profiles:
		maps.Copy(b.files, p.files)
		b.problems = append(b.problems, p.problems...)
	case <-ctx.Done():
		b.problems = append(b.problems, "pprof: interrupted")
	}
	if b.has("metrics") {
		b.put("metrics.json", metrics, failed)
	}
	if b.has("logs") && logs.Len() > 0 {
		b.put("consul.log", logs.Bytes(), nil)
	}
	slices.Sort(b.problems)
}

// save writes the files; nothing that is there is replaced.
func (b *bundle) save(name string, archived bool) (string, error) {
	if !archived {
		if err := os.Mkdir(name, 0o700); err != nil {
			return "", err
		}
		for file, body := range b.files {
			path := filepath.Join(name, file)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				return "", err
			}
			if err := os.WriteFile(path, body, 0o600); err != nil {
				return "", err
			}
		}
		return name, nil
	}
	path := strings.TrimSuffix(name, ".tar.gz") + ".tar.gz"
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return "", err
	}
	zip := gzip.NewWriter(f)
	out := tar.NewWriter(zip)
	for file, body := range b.files {
		h := &tar.Header{Name: filepath.Join(filepath.Base(strings.TrimSuffix(name, ".tar.gz")), file), Mode: 0o600, Size: int64(len(body)), ModTime: time.Now()}
		if err := out.WriteHeader(h); err != nil {
			return "", errors.Join(err, f.Close())
		}
		if _, err := out.Write(body); err != nil {
			return "", errors.Join(err, f.Close())
		}
	}
	return path, errors.Join(out.Close(), zip.Close(), f.Close())
}
