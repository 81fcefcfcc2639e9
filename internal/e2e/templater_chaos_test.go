package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A long run: go test ./internal/e2e -run TestTemplaterChaos -templater-chaos 10m, or
// make soak.
var (
	templaterChaosFor  = flag.Duration("templater-chaos", 15*time.Second, "how long the templater's chaos goes on")
	templaterChaosSeed = flag.Uint64("templater-chaos-seed", 0, "of its dice; 0: by the clock")
)

// liar stands between a templater and its catalog, and may answer in its place.
type liar struct {
	addr string
	mu   sync.Mutex
	lie  http.HandlerFunc   // guarded by mu; nil: the catalog answers
	cut  context.CancelFunc // guarded by mu; ends the questions under way
	ctx  context.Context    // guarded by mu
}

func startLiar(t testing.TB, catalog string) *liar {
	t.Helper()
	target, err := url.Parse(catalog)
	if err != nil {
		t.Fatal(err)
	}
	l := &liar{}
	l.tell(nil)
	proxy := httputil.NewSingleHostReverseProxy(target)
	// over kept connections it would put a question again by itself where the catalog died,
	// and hide from the templater that it did
	proxy.Transport = &http.Transport{DisableKeepAlives: true}
	proxy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, err error) {
		http.Error(w, err.Error(), http.StatusBadGateway)
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		lie, ctx := l.lie, l.ctx
		l.mu.Unlock()
		own, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(ctx, cancel)()
		if r = r.WithContext(own); lie != nil {
			lie(w, r)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { l.tell(nil); s.Close() })
	l.addr = s.Listener.Addr().String()
	return l
}

// tell has every question answered by lie from now on, those under way too; nil is the
// truth.
func (l *liar) tell(lie http.HandlerFunc) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cut != nil {
		l.cut()
	}
	l.lie = lie
	l.ctx, l.cut = context.WithCancel(context.Background())
}

// lies are what comes from a broken catalog, or from what stands before it.
var lies = map[string]http.HandlerFunc{
	"an error": func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "no cluster leader", http.StatusInternalServerError)
	},
	"too many": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
	},
	"a page": func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "<html>Welcome to the Wi-Fi of this hotel</html>")
	},
	"nothing":           func(http.ResponseWriter, *http.Request) {},
	"a list of nowhere": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "[]") },
	"null of nowhere":   func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "null") },
	"half an answer": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Consul-Index", "99999")
		fmt.Fprint(w, `[{"Node":{"Node":"a"`)
	},
	"another kind": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Consul-Index", "99999")
		fmt.Fprint(w, `"a string"`)
	},
	"a cut connection": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	"an index of no use": func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Consul-Index", "-7")
		fmt.Fprint(w, "[]")
	},
}

// worker is a backend that lives or dies.
type worker struct {
	id     string
	port   int
	server *httptest.Server
}

// weather is what happens to an edge.
type weather struct {
	*edge
	dice    *rand.Rand
	liar    *liar
	serving sync.RWMutex // nginx runs
	workers []*worker    // registered ones
	born    int
	did     map[string]int
}

func (s *weather) birth() {
	w := &worker{id: fmt.Sprintf("w%d", s.born)}
	s.born++
	w.server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { rw.Header().Set("X-Instance", w.id) }))
	s.t.Cleanup(w.server.Close)
	w.port = w.server.Listener.Addr().(*net.TCPAddr).Port
	s.workers = append(s.workers, w)
	s.catalog.add("web", w.id, w.port, "")
}

// while does a fault, waits a moment, and ends it.
func (s *weather) while(fault, heal func()) {
	fault()
	pause := time.NewTimer(time.Duration(100+s.dice.IntN(700)) * time.Millisecond) // the fault is what is tested
	<-pause.C
	heal()
}

func (s *weather) restartCatalog(empty bool) {
	s.catalog.kill()
	if empty {
		if err := os.RemoveAll(s.catalog.dir); err != nil {
			s.t.Fatal(err)
		}
	}
	s.catalog.run()
	s.catalog.awaitLeader()
	if empty { // as registrators do
		for _, w := range s.workers {
			s.catalog.add("web", w.id, w.port, "")
		}
	}
}

var errFull = errors.New("the disk took a hundred times its size")

// fill writes to the folder of nginx's files until it is full.
func (s *weather) fill() error {
	f, err := os.Create(s.nginx.conf("filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	block := make([]byte, 16<<10)
	for n := len(block); n > 0; n /= 2 { // to the last byte
		for range 10_000 {
			if _, err = f.Write(block[:n]); err != nil {
				break
			}
		}
		if err == nil {
			return errFull
		}
	}
	return nil
}

// act does one thing that may happen to anybody.
func (s *weather) act() {
	anyOf := func() int { return s.dice.IntN(len(s.workers)) }
	acts := map[string]func(){
		"an instance flaps": func() {
			w := s.workers[anyOf()]
			for range 1 + s.dice.IntN(4) {
				s.catalog.add("web", w.id, w.port, "critical")
				s.catalog.add("web", w.id, w.port, "")
			}
		},
		"an instance comes": func() {
			if len(s.workers) < 10 {
				s.birth()
			}
		},
		"an instance goes": func() {
			if i := anyOf(); len(s.workers) > 4 {
				s.catalog.drop(s.workers[i].id)
				s.workers = slices.Delete(s.workers, i, i+1)
			}
		},
		"an instance dies": func() {
			if i := anyOf(); len(s.workers) > 4 {
				w := s.workers[i]
				s.workers = slices.Delete(s.workers, i, i+1)
				s.while(w.server.Close, func() { s.catalog.drop(w.id) })
			}
		},
		"the catalog restarts": func() { s.restartCatalog(false) },
		"the catalog empties":  func() { s.restartCatalog(true) },
		"the catalog stalls": func() {
			s.while(func() { s.catalog.signal(syscall.SIGSTOP) }, func() { s.catalog.signal(syscall.SIGCONT) })
		},
		"the catalog lies": func() {
			names := keys(lies)
			lie := names[s.dice.IntN(len(names))]
			s.did[lie]++
			s.while(func() { s.liar.tell(lies[lie]) }, func() { s.liar.tell(nil) })
		},
		"a template breaks": func() {
			path := filepath.Join(s.nginx.dir, "nginx.conf.ctmpl")
			good := read(s.t, path)
			broken := []string{"", good + "{{ nonsense }}", good[:len(good)/2], good + "\nupstream empty { }\n", good + "\n{{ parseJSON \"{\" }}", good + "\n} }"}
			s.while(func() { write(s.t, path, broken[s.dice.IntN(len(broken))]) }, func() { write(s.t, path, good) })
		},
		"nginx restarts": func() {
			s.serving.Lock() // nobody asks meanwhile: it is not there
			defer s.serving.Unlock()
			s.nginx.stop(syscall.SIGQUIT)
			s.nginx.run()
			eventually(s.t, 10*time.Second, "nginx is back", func() error { _, _, err := s.edge.ask("web"); return err })
		},
		"the disk fills": func() {
			s.while(func() {
				if err := s.fill(); err != nil {
					s.t.Error(err)
				}
			}, func() {
				if err := os.Remove(s.nginx.conf("filler")); err != nil {
					s.t.Error(err)
				}
			})
		},
		"the templater is killed": func() { s.tpl.kill(); s.tpl.run() },
	}
	names := keys(acts)
	what := names[s.dice.IntN(len(names))]
	s.did[what]++
	acts[what]()
}

// Everything that can break does, again and again, under load. No request fails, the disk
// always holds what nginx accepts, and when it is calm nginx soon has what the catalog
// has.
func TestTemplaterChaos(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("a small disk of its own needs root")
	}
	seed := *templaterChaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-templater-chaos-seed %d", seed)
	c := startServer(t)
	s := &weather{dice: rand.New(rand.NewPCG(seed, 0)), did: map[string]int{}, liar: startLiar(t, c.url)}
	s.edge = newEdge(t, c, "")
	s.configure(strings.Replace(read(t, s.file), c.http, s.liar.addr, 1) + shipped +
		"template {\n  contents = \"# {{ range service \\\"web\\\" }}{{ .ID }} {{ end }}\\n\"\n  destination = \"CONF/names.conf\"\n}\n")
	disk := filepath.Join(s.nginx.dir, "conf.d")
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=512k"); err != nil {
		t.Fatalf("a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	for range 5 {
		s.birth()
	}
	s.start().ready()
	// exactly what is registered, in both files, and nginx runs it
	calm := func() error {
		if s.tpl.hasEnded() { // started while a template was broken, which it refuses; its unit starts it again
			if code := s.tpl.exitCode(); code < 11 {
				return fmt.Errorf("the templater ended with %d", code)
			}
			s.tpl.run()
		}
		var ids []string
		for _, w := range s.workers {
			ids = append(ids, w.id)
		}
		slices.Sort(ids)
		if got, want := read(t, s.nginx.conf("names.conf")), "# "+strings.Join(ids, " ")+" \n"; got != want {
			return fmt.Errorf("the file says %q, want %q", got, want)
		}
		if err := s.wantCode("/readyz", 200)(); err != nil {
			return err
		}
		return s.served("web", ids...)()
	}
	eventually(t, soon, "at first", calm)
	stop := load(t, 200, func() (int, string, error) {
		s.serving.RLock()
		defer s.serving.RUnlock()
		name, code, err := s.edge.ask("web")
		return code, name, err
	})
	end := time.Now().Add(*templaterChaosFor)
	var worst time.Duration
	rounds := 0
	for ; time.Now().Before(end) && !t.Failed(); rounds++ {
		for range 3 {
			s.act()
			s.nginx.valid(t)
		}
		began := time.Now()
		eventually(t, soon, fmt.Sprintf("calm after round %d (%v)", rounds, s.did), calm)
		worst = max(worst, time.Since(began))
	}
	total, failures := stop()
	if len(failures) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(failures), total, failures[:min(len(failures), 5)])
	}
	t.Logf("%d rounds, %d requests; right again at most %s after the last fault; %v", rounds, total, worst.Round(time.Millisecond), s.did)
}
