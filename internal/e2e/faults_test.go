package e2e

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// cluster starts n servers that expect each other, each on a loopback address of its own,
// 127.0.net.i, and waits until all know a leader.
func cluster(t testing.TB, n, net int, args ...string) []*agent {
	t.Helper()
	ip := func(i int) string { return fmt.Sprintf("127.0.%d.%d", net, i+1) }
	var join []string
	for i := range n {
		join = append(join, "-retry-join="+ip(i)+":8301")
	}
	var out []*agent
	for i := range n {
		own := append([]string{"-server", fmt.Sprintf("-bootstrap-expect=%d", n), "-serf-lan-port=8301", "-server-port=8300", "-retry-interval=1s"}, join...)
		out = append(out, startAgent(t, fmt.Sprintf("s%d", i+1), options{ip: ip(i)}, append(own, args...)...))
	}
	for _, a := range out {
		a.awaitLeader()
	}
	return out
}

// Five servers: with two dead they serve; with three dead stale reads go on and writes fail
// in time, with a word that says why; all started again together, each with another
// address, they serve by themselves, with everything that was acknowledged.
func TestFiveServers(t *testing.T) {
	t.Parallel()
	servers := cluster(t, 5, 51)
	if err := servers[0].put("/v1/kv/a", "1"); err != nil {
		t.Fatal(err)
	}
	for _, s := range servers[3:] {
		s.kill()
	}
	eventually(t, soon, "three of five take writes", func() error { return servers[1].put("/v1/kv/b", "2") })
	for _, s := range servers[:3] {
		if code, body, err := s.get("/v1/kv/b?raw&consistent"); err != nil || code != http.StatusOK || body != "2" {
			t.Errorf("%s reads %d %q, %v", s.name, code, body, err)
		}
	}
	eventually(t, soon, "both that will be left know that it is committed", func() error {
		for _, s := range servers[:2] {
			if code, body, err := s.get("/v1/kv/b?raw&stale"); err != nil || code != http.StatusOK || body != "2" {
				return fmt.Errorf("%s: %d %q, %v", s.name, code, body, err)
			}
		}
		return nil
	})
	servers[2].kill()
	eventually(t, soon, "two of five know no leader", func() error {
		for _, s := range servers[:2] {
			if _, body, err := s.get("/v1/status/leader"); err != nil || strings.TrimSpace(body) != `""` {
				return fmt.Errorf("%s says %s, %v", s.name, body, err)
			}
		}
		return nil
	})
	var refused sync.WaitGroup
	for _, s := range servers[:2] {
		refused.Go(func() {
			began := time.Now()
			if err := s.put("/v1/kv/c", "3"); err == nil || !strings.Contains(err.Error(), "No cluster leader") {
				t.Errorf("a write at %s without a majority: %v", s.name, err)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("%s refused it after %s", s.name, took)
			}
		})
		if code, body, err := s.get("/v1/kv/b?raw&stale"); err != nil || code != http.StatusOK || body != "2" {
			t.Errorf("a stale read at %s: %d %q, %v", s.name, code, body, err)
		}
	}
	refused.Wait()
	for _, s := range servers[:2] {
		s.kill()
	}
	for i, s := range servers { // the last byte of the address is another one, and s2 has what was s1's
		for k, arg := range s.args {
			s.args[k] = strings.ReplaceAll(arg, fmt.Sprintf("=%s", s.ip), fmt.Sprintf("=127.0.51.%d", i))
		}
		for k, arg := range s.args {
			if strings.HasPrefix(arg, "-retry-join=") {
				s.args[k] = strings.ReplaceAll(arg, ".5:8301", ".0:8301")
			}
		}
		old := s.ip
		s.ip = fmt.Sprintf("127.0.51.%d", i)
		s.http = strings.Replace(s.http, old+":", s.ip+":", 1)
		s.url = "http://" + s.http
	}
	for _, s := range servers {
		s.run()
	}
	eventually(t, 60*time.Second, "all five serve at their new addresses", func() error {
		for _, s := range servers {
			if code, body, err := s.get("/v1/kv/b?raw"); err != nil || code != http.StatusOK || body != "2" {
				return fmt.Errorf("%s: %d %q, %v", s.name, code, body, err)
			}
		}
		return servers[4].put("/v1/kv/d", "4")
	})
	eventually(t, 30*time.Second, "the catalog has the new addresses", func() error {
		var nodes []struct{ Node, Address string }
		if err := servers[0].json("/v1/catalog/nodes", &nodes); err != nil {
			return err
		}
		for _, s := range servers {
			if !slices.Contains(nodes, struct{ Node, Address string }{s.name, s.ip}) {
				return fmt.Errorf("%s is not at %s: %v", s.name, s.ip, nodes)
			}
		}
		return nil
	})
	eventually(t, 30*time.Second, "so has autopilot", func() error {
		health, err := servers[0].client().Operator().AutopilotServerHealth(nil)
		if err != nil || !health.Healthy {
			return fmt.Errorf("%+v, %v", health, err)
		}
		for _, h := range health.Servers {
			i := slices.IndexFunc(servers, func(s *agent) bool { return s.name == h.Name })
			if want := servers[i].ip + ":8300"; h.Address != want {
				return fmt.Errorf("%s is at %s, want %s", h.Name, h.Address, want)
			}
		}
		return nil
	})
}

// A server whose disk is full says so to those who write, is read as ever, and goes on by
// itself when there is room, also where it could not begin the next file of its log.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 150)
	s := startAgent(t, "small", options{dir: dir}, "-server", "-bootstrap-expect=1")
	s.awaitLeader()
	ballast := fill(t, dir)
	big := strings.Repeat("x", 500_000)
	kept := 0
	var err error
	for err == nil && kept < 1000 { // what room the log has made for itself, it may use
		if err = s.put(fmt.Sprintf("/v1/kv/big/%d", kept), big); err == nil {
			kept++
		}
	}
	if err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Fatalf("after %d writes: %v", kept, err)
	}
	if err := s.put("/v1/kv/more", "x"); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("another write: %v", err)
	}
	if err := s.put("/v1/agent/service/register", `{"Name": "full"}`); err == nil {
		t.Error("a service was taken in that cannot be kept")
	}
	for _, query := range []string{"?raw", "?raw&consistent", "?raw&stale"} {
		if code, body, err := s.get("/v1/kv/big/0" + query); err != nil || code != http.StatusOK || body != big {
			t.Errorf("read %s: %d, %d bytes, %v", query, code, len(body), err)
		}
	}
	if n := strings.Count(s.output(), "the disk is full"); n != 1 {
		t.Errorf("%d lines about it, want one\n%s", n, s.output())
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "a write", func() error { return s.put("/v1/kv/after", "1") })
	eventually(t, soon, "a service", func() error { return s.put("/v1/agent/service/register", `{"Name": "full"}`) })
	s.kill()
	s.process.run()
	s.awaitLeader()
	for i := range kept {
		if code, body, err := s.get(fmt.Sprintf("/v1/kv/big/%d?raw", i)); err != nil || code != http.StatusOK || body != big {
			t.Fatalf("key %d of %d after a restart: %d, %d bytes, %v", i, kept, code, len(body), err)
		}
	}
	eventually(t, soon, "the service too", s.wantInstances("full", "127.0.0.1:0"))
}

// A leader whose disk is full makes way, and whoever uses it goes on: it hands what comes to it to
// the new leader, whom it cannot have heard of.
func TestFullDiskOfALeader(t *testing.T) {
	t.Parallel()
	dir := smallDisk(t, 300) // what is cut off the log's end is followed by another file of 64
	servers := []*agent{startAgent(t, "small", options{dir: dir}, "-server", "-bootstrap-expect=3")}
	small := servers[0]
	for _, name := range []string{"s2", "s3"} {
		servers = append(servers, startAgent(t, name, options{}, "-server", "-bootstrap-expect=3", "-retry-join="+small.lan))
	}
	for _, s := range servers {
		s.awaitLeader()
	}
	leads := func(want bool) error {
		leader, err := leaderAmong(servers)
		if err == nil && (leader == small) != want {
			err = fmt.Errorf("%s leads", leader.name)
		}
		return err
	}
	id := strings.TrimSpace(read(t, filepath.Join(dir, "node-id")))
	eventually(t, soon, "the small one leads", func() error {
		if leads(true) == nil {
			return nil
		}
		_, err := small.client().Operator().RaftLeaderTransfer(id, nil)
		return errors.Join(err, leads(true))
	})
	ballast := fill(t, dir)
	big := strings.Repeat("x", 500_000)
	n := 0
	for leads(true) == nil && n < 1000 {
		_ = small.put(fmt.Sprintf("/v1/kv/big/%d", n), big) // one of them fails, with its fate open
		n++
	}
	eventually(t, soon, "another leads", func() error { return leads(false) })
	for i, query := range []string{"?raw", "?raw&consistent"} {
		want := fmt.Sprint(i)
		if err := small.put("/v1/kv/after", want); err != nil {
			t.Errorf("a write by the full one: %v", err)
		}
		if code, body, err := small.get("/v1/kv/after" + query); err != nil || code != http.StatusOK || body != want {
			t.Errorf("%s by the full one: %d %q, %v", query, code, body, err)
		}
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	eventually(t, soon, "it follows again", func() error {
		code, body, err := small.get("/v1/kv/after?raw&stale")
		if err != nil || code != http.StatusOK || body != "1" {
			return fmt.Errorf("%d %q, %v", code, body, err)
		}
		return nil
	})
}

// smallDisk is a directory that holds so many MB.
func smallDisk(t *testing.T, size int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a small disk of its own needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", size)); err != nil {
		t.Fatalf("a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves no room on a disk, and gives the file that makes room when it is removed.
func fill(t *testing.T, dir string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := io.Copy(f, io.LimitReader(zeros{}, 1<<30)); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("filling the disk: %v", err)
	}
	return ballast
}

// zeros never end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
