package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// watchersEach is how many wait for one service, and for as many others.
const watchersEach = 5000

// Five thousand wait for one service and five thousand for as many others. One change of
// the one wakes those who wait for it and nobody else, and a watcher costs the server
// little, its connection included.
func TestWatchers(t *testing.T) {
	t.Parallel()
	needFiles(t, 2*watchersEach+500)
	conf := filepath.Join(t.TempDir(), "limits.json")
	write(t, conf, `{"limits":{"http_max_conns_per_client":0},"log_level":"warn","enable_debug":true,"telemetry":{"prometheus_retention_time":"1m","disable_hostname":true}}`)
	server := startServer(t, "-config-file="+conf)

	register := func(name string, port int) error {
		return server.put("/v1/catalog/register", fmt.Sprintf(
			`{"Node":"n","Address":"10.0.0.1","Service":{"Service":%q,"Port":%d}}`, name, port))
	}
	work := make(chan int)
	var filling sync.WaitGroup
	for range 32 {
		filling.Go(func() {
			for i := range work {
				if err := register("other-"+strconv.Itoa(i), 80); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range watchersEach {
		work <- i
	}
	close(work)
	filling.Wait()
	if err := register("one", 80); err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		return
	}

	before := inUse(t, server)
	const own = 1 // the agent watches its own node
	eventually(t, 30*time.Second, "the agent watches its own node", func() error {
		n, err := gauge(server, "consul_rpc_queries_blocking")
		if err == nil && n != own {
			err = fmt.Errorf("%d wait", n)
		}
		return err
	})
	woken := make(chan string, 2*watchersEach)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	watch := func(name string) net.Conn {
		c, err := net.Dial("tcp", server.http)
		if err != nil {
			t.Error(err)
			return nil
		}
		_, index, err := exchange(c, name)
		if err == nil {
			_, err = fmt.Fprintf(c, "GET /v1/health/service/%s?index=%s&wait=10m HTTP/1.1\r\nHost: x\r\n\r\n", name, index)
		}
		if err != nil {
			t.Error(err)
		}
		waiting.Go(func() {
			var first [1]byte
			if _, err := c.Read(first[:]); err == nil {
				woken <- name
			}
		})
		return c
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	var opening sync.WaitGroup
	var mu sync.Mutex
	next := make(chan int)
	for range 16 {
		opening.Go(func() {
			for i := range next {
				a, b := watch("one"), watch("other-"+strconv.Itoa(i))
				mu.Lock()
				conns = append(conns, a, b)
				mu.Unlock()
			}
		})
	}
	for i := range watchersEach {
		next <- i
	}
	close(next)
	opening.Wait()
	if t.Failed() {
		return
	}
	eventually(t, 30*time.Second, "all wait", func() error {
		n, err := gauge(server, "consul_rpc_queries_blocking")
		if err == nil && n-own != 2*watchersEach {
			err = fmt.Errorf("%d of %d wait", n-own, 2*watchersEach)
		}
		return err
	})
	each := (inUse(t, server) - before) / (2 * watchersEach)
	t.Logf("%d bytes a watcher; resident %.1f MB", each, server.memory())
	if each > 32<<10 {
		t.Errorf("a watcher costs %d bytes, more than 32 KiB", each)
	}

	if err := register("one", 81); err != nil {
		t.Fatal(err)
	}
	for i := range watchersEach {
		select {
		case name := <-woken:
			if name != "one" {
				t.Fatalf("a watcher of %s woke", name)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%d of %d woke", i, watchersEach)
		}
	}
	if n, err := gauge(server, "consul_rpc_queries_blocking"); err != nil || n-own != watchersEach {
		t.Errorf("%d still wait, %v; want %d", n-own, err, watchersEach)
	}
	if len(woken) != 0 {
		t.Errorf("a watcher of %s woke too", <-woken)
	}
}

// exchange asks on c for a service's health and gives body and index.
func exchange(c net.Conn, name string) (string, string, error) {
	if _, err := fmt.Fprintf(c, "GET /v1/health/service/%s HTTP/1.1\r\nHost: x\r\n\r\n", name); err != nil {
		return "", "", err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", "", err
	}
	defer r.Body.Close()
	var b strings.Builder
	if _, err := bufio.NewReader(r.Body).WriteTo(&b); err != nil {
		return "", "", err
	}
	return b.String(), r.Header.Get("X-Consul-Index"), nil
}

// gauge reads one of an agent's gauges.
func gauge(a *agent, name string) (int, error) {
	_, body, err := a.get("/v1/agent/metrics?format=prometheus")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(body) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			return int(f), err
		}
	}
	return 0, fmt.Errorf("no gauge %s", name)
}

// inUse is the memory that an agent uses once its garbage is collected, in bytes.
func inUse(t testing.TB, a *agent) int {
	t.Helper()
	if _, _, err := a.get("/debug/pprof/heap?gc=1"); err != nil {
		t.Fatal(err)
	}
	heap, err := gauge(a, "go_memstats_heap_inuse_bytes")
	if err != nil {
		t.Fatal(err)
	}
	stacks, err := gauge(a, "go_memstats_stack_inuse_bytes")
	if err != nil {
		t.Fatal(err)
	}
	return heap + stacks
}

// needFiles raises the limit of open files, for the server as well, which inherits it.
func needFiles(t testing.TB, n uint64) {
	t.Helper()
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	if l.Cur >= n {
		return
	}
	if l.Max < n {
		t.Skipf("needs %d open files, and may have %d: raise the hard limit (ulimit -Hn)", n, l.Max)
	}
	l.Cur = l.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
}
