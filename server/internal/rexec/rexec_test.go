package rexec

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
)

// keys is a store whose session may end.
type keys struct {
	mu    sync.Mutex
	held  map[string]string // guarded by mu
	order []string          // guarded by mu
	after int               // writes that the session lives for; 0 is for ever
	fail  error
}

func (k *keys) Get(_ context.Context, key string) ([]byte, bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	v, ok := k.held[key]
	return []byte(v), ok, k.fail
}

func (k *keys) Hold(_ context.Context, key string, value []byte, session string) (bool, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if session != "s1" || k.after > 0 && len(k.order) >= k.after {
		return false, nil
	}
	k.held[key] = string(value)
	k.order = append(k.order, strings.TrimPrefix(key, "_rexec/s1/n1/"))
	return true, nil
}

func carry(t *testing.T, k *keys, job Job) error {
	t.Helper()
	b, err := json.Marshal(job)
	if err != nil {
		t.Fatal(err)
	}
	k.held = map[string]string{"_rexec/s1/job": string(b)}
	return Carry(t.Context(), k, "n1", []byte(`{"Prefix":"_rexec","Session":"s1"}`), slog.New(slog.DiscardHandler))
}

func TestCarry(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		job       Job
		out, exit string
	}{
		"a command":       {Job{Command: "echo out; echo err >&2; exit 3"}, "out\nerr\n", "3"},
		"arguments":       {Job{Args: []string{"echo", "a b"}}, "a b\n", "0"},
		"a script":        {Job{Script: []byte("#!/bin/sh\necho from a file\n")}, "from a file\n", "0"},
		"a bare script":   {Job{Script: []byte("echo from $((1+1)) lines\nexit 4")}, "from 2 lines\n", "4"},
		"silent":          {Job{Command: "true"}, "", "0"},
		"no such program": {Job{Args: []string{"/does/not/exist"}}, "", "255"},
		"nothing":         {Job{}, "", "255"},
		"much output":     {Job{Command: "head -c 10000 /dev/zero | tr '\\0' x"}, strings.Repeat("x", 10000), "0"},
	} {
		k := &keys{}
		if err := carry(t, k, c.job); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var out strings.Builder
		for _, key := range k.order {
			if strings.HasPrefix(key, "out/") {
				v := k.held["_rexec/s1/n1/"+key]
				if len(v) > chunk {
					t.Errorf("%s: a piece of %d bytes", name, len(v))
				}
				out.WriteString(v)
			}
		}
		if got := k.held["_rexec/s1/n1/exit"]; out.String() != c.out || got != c.exit || k.order[0] != "ack" || k.order[len(k.order)-1] != "exit" {
			t.Errorf("%s: output %.40q, exit %q, keys %v", name, out.String(), got, k.order)
		}
		if !slices.IsSorted(k.order[1 : len(k.order)-1]) {
			t.Errorf("%s: pieces out of order: %v", name, k.order)
		}
	}
}

// A command nobody waits for any more is ended.
func TestTheAskerLeaves(t *testing.T) {
	t.Parallel()
	k := &keys{after: 2}
	if err := carry(t, k, Job{Command: "while true; do head -c 5000 /dev/zero; done"}); err == nil {
		t.Error("it did not notice that nobody listens")
	}
	if len(k.order) != 2 {
		t.Errorf("keys %v", k.order)
	}
}

func TestNoJob(t *testing.T) {
	t.Parallel()
	quiet := slog.New(slog.DiscardHandler)
	for _, payload := range []string{"", "{}", `{"Prefix":"_rexec","Session":"s9"}`, "junk"} {
		if err := Carry(t.Context(), &keys{held: map[string]string{}}, "n1", []byte(payload), quiet); err == nil {
			t.Errorf("payload %q was taken", payload)
		}
	}
	k := &keys{held: map[string]string{}, fail: errors.New("no leader")}
	if err := Carry(t.Context(), k, "n1", []byte(`{"Prefix":"_rexec","Session":"s1"}`), quiet); err == nil || !strings.Contains(err.Error(), "no leader") {
		t.Errorf("got %v", err)
	}
}
