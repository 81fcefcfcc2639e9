package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// engineOf is an engine's socket with n containers that run and do nothing: what a
// registrator costs in itself is measured with it, not what an engine does.
func engineOf(t testing.TB, n int) string {
	t.Helper()
	id := func(i int) string { return fmt.Sprintf("%064x", i+1) }
	bodies := map[string]string{}
	var list []map[string]string
	for i := range n {
		list = append(list, map[string]string{"Id": id(i), "State": "running"})
		bodies["/containers/"+id(i)+"/json"] = fmt.Sprintf(`{"Id":%q,"Name":"/web-%d","State":{"Status":"running","Running":true,"StartedAt":"2026-01-02T03:04:05Z",
			"Health":{"Status":"healthy","Log":[{"Output":%q}]}},
			"Config":{"Image":"shop/web:1.28","Env":["PATH=/usr/sbin:/usr/bin","SERVICE_NAME=web","SERVICE_TAGS=a,b"],"Labels":{"maintainer":%q},"ExposedPorts":{"8080/tcp":{}}},
			"HostConfig":{"NetworkMode":"default","PortBindings":{"8080/tcp":[{}]}},
			"NetworkSettings":{"Ports":{"8080/tcp":[{"HostIp":"0.0.0.0","HostPort":"%d"}]},"Networks":{"bridge":{"NetworkID":"b","IPAddress":"172.17.%d.%d"}}}}`,
			id(i), i, strings.Repeat("ok ", 100), strings.Repeat("x", 800), 30000+i, i/250, i%250+2)
	}
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	bodies["/containers/json"] = string(b)
	bodies["/info"] = `{"ID":"E","Name":"host1","ServerVersion":"28.0"}`
	bodies["/networks"] = `[{"Id":"b","Name":"bridge","Driver":"bridge"}]`
	sock := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		switch path := strings.TrimPrefix(r.URL.Path, "/v1.41"); path {
		case "/_ping":
		case "/events":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			body, ok := bodies[path]
			if !ok {
				http.Error(w, `{"message":"no such container"}`, http.StatusNotFound)
				return
			}
			fmt.Fprint(w, body)
		}
	})}}
	s.Start()
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return sock
}

// BenchmarkCrowd measures a registrator with 200 containers, all with HEALTHCHECKs: from its
// start until all are registered and until it has nothing to do when they already are, the
// memory it takes, and the share of a core while nothing happens, resyncs included.
func BenchmarkCrowd(b *testing.B) {
	const n = 200
	sock := engineOf(b, n)
	c := startCatalog(b, rollcall(b), false)
	k := startClerk(b, c.addr)
	var first, again time.Duration
	run := func() (*process, string, time.Duration) {
		url := fmt.Sprintf("127.0.0.1:%d", ports(b, 1)[0])
		began := time.Now()
		p := launch(b, func() *exec.Cmd {
			return command(b, "-listen="+url, "-docker=unix://"+sock, "-log-level=error", "consul://"+k.addr)
		})
		settled(b, "http://"+url)
		return p, "http://" + url, time.Since(began)
	}
	for b.Loop() {
		p, _, took := run()
		first = took
		if got, err := c.passing("web"); err != nil || len(got) != n {
			b.Fatalf("%d are passing, %v; want %d", len(got), err, n)
		}
		p.kill()
		before := k.writes.Load()
		p, url, took := run()
		again = took
		if w := k.writes.Load() - before; w != 0 {
			b.Errorf("%d writes when all was right", w)
		}
		from := cpu(b, p.cmd.Process.Pid)
		const idle = 70 * time.Second // two resyncs at least
		<-time.After(idle)
		share := float64(cpu(b, p.cmd.Process.Pid)-from) / float64(idle)
		_, metrics, err := get(url + "/metrics")
		if err != nil || reconciles(metrics) < 2 {
			b.Errorf("%d readings of the agent while idle, %v: nothing was measured", reconciles(metrics), err)
		}
		b.ReportMetric(share*100, "%core")
		b.ReportMetric(float64(rss(b, p.cmd.Process.Pid))/(1<<20), "MB")
		p.kill()
		c.kill() // the next round begins with an empty one
		c.run()
		c.await()
	}
	b.ReportMetric(float64(first.Milliseconds()), "ms/first")
	b.ReportMetric(float64(again.Milliseconds()), "ms/again")
}

// cpu is the time that a process has used.
func cpu(t testing.TB, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	ticks := 0
	for _, s := range f[11:13] {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond // a tick is 10 ms on Linux
}

// rss is the memory that a process holds, in bytes.
func rss(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Fatal(err)
	}
	return n * os.Getpagesize()
}
