package e2e

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// A snapshot taken through a client agent restores into the running cluster and into an
// empty one; a damaged one changes nothing anywhere.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	servers, client := trio(t)
	c := client.client()
	put := func(c *consul.Client, key, value string) {
		t.Helper()
		if _, err := c.KV().Put(&consul.KVPair{Key: key, Value: []byte(value)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	value := func(c *consul.Client, key string, stale bool) (string, error) {
		p, _, err := c.KV().Get(key, &consul.QueryOptions{AllowStale: stale})
		if err != nil || p == nil {
			return "", err
		}
		return string(p.Value), nil
	}
	for i := range 200 {
		put(c, fmt.Sprintf("k%d", i), "before")
	}
	session, _, err := c.Session().Create(&consul.SessionEntry{Name: "s"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := c.KV().Acquire(&consul.KVPair{Key: "lock", Value: []byte("mine"), Session: session}, nil); !ok || err != nil {
		t.Fatalf("acquire: %t, %v", ok, err)
	}
	r, meta, err := c.Snapshot().Save(nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := io.ReadAll(r)
	r.Close()
	if err != nil || meta.LastIndex < 200 || !meta.KnownLeader {
		t.Fatalf("save: %v, meta %+v", err, meta)
	}

	put(c, "k7", "after")
	put(c, "new", "after")
	damaged := bytes.Clone(file)
	damaged[len(damaged)/2] ^= 0x40
	for name, body := range map[string][]byte{"damaged": damaged, "cut": file[:len(file)/2], "empty": {}, "text": []byte("hello")} {
		if err := c.Snapshot().Restore(nil, bytes.NewReader(body)); err == nil || !strings.Contains(err.Error(), "snapshot file") {
			t.Errorf("a snapshot that is %s: %v", name, err)
		}
	}
	if got, err := value(c, "k7", false); got != "after" {
		t.Errorf("after snapshots that were refused: k7=%q, %v; want after", got, err)
	}

	// Who waits for a key wakes, although only a restore happened.
	_, at, err := c.KV().Get("k7", nil)
	if err != nil {
		t.Fatal(err)
	}
	woke := make(chan string, 1)
	go func() {
		p, _, err := c.KV().Get("k7", &consul.QueryOptions{WaitIndex: at.LastIndex, WaitTime: time.Minute})
		if err != nil || p == nil {
			woke <- fmt.Sprint(p, err)
			return
		}
		woke <- string(p.Value)
	}()
	if err := c.Snapshot().Restore(nil, bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	if got := <-woke; got != "before" { // had it slept, it would have come as late as the test's end
		t.Errorf("the watcher of a key got %q, want before", got)
	}
	for _, a := range append(servers, client) {
		eventually(t, soon, a.name+" has the restored state", func() error {
			if got, err := value(a.client(), "k7", true); got != "before" {
				return fmt.Errorf("k7=%q, %v", got, err)
			}
			if got, err := value(a.client(), "new", true); got != "" {
				return fmt.Errorf("new=%q, which is newer than the snapshot; %v", got, err)
			}
			return nil
		})
	}
	put(c, "k7", "later")
	if p, _, err := c.KV().Get("lock", nil); err != nil || p == nil || p.Session != session {
		t.Errorf("the lock in the cluster it was made in: %+v, %v", p, err)
	}

	// What was registered after the snapshot was taken comes back from its agent at once.
	if err := client.put("/v1/agent/service/register", `{"Name":"late","Port":1}`); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "the late service is there", client.wantInstances("late", "127.0.0.1:1"))
	if err := c.Snapshot().Restore(nil, bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "the late service is back", client.wantInstances("late", "127.0.0.1:1"))

	// An empty cluster, whose only server has another name.
	other := startServer(t)
	oc := other.client()
	if err := oc.Snapshot().Restore(nil, bytes.NewReader(file)); err != nil {
		t.Fatal(err)
	}
	same := func() {
		t.Helper()
		if got, err := value(oc, "k199", false); got != "before" {
			t.Errorf("in an empty cluster: k199=%q, %v", got, err)
		}
	}
	same()
	eventually(t, soon, "the server lists itself again", func() error {
		rows, _, err := oc.Catalog().Service("consul", "", nil)
		for _, r := range rows {
			if r.Node == other.name {
				return nil
			}
		}
		return fmt.Errorf("%d rows, %v", len(rows), err)
	})
	other.stop(syscall.SIGKILL)
	other.run()
	other.awaitLeader()
	same()
}
