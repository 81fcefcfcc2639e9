package client

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	consul "github.com/hashicorp/consul/api"

	_ "github.com/rollcall/rollcall/internal/oneproc"
)

// answer is what a scripted catalog says to one query.
type answer struct {
	value string
	index uint64
	after time.Duration // how long it takes
	err   error
}

// script answers one query after the other, notes the index of each, and is silent at
// the end.
type script struct {
	answers []answer
	asked   []uint64
	times   []time.Time
}

func (s *script) query(o *consul.QueryOptions) (string, *consul.QueryMeta, error) {
	s.asked, s.times = append(s.asked, o.WaitIndex), append(s.times, time.Now())
	if len(s.answers) == 0 {
		<-o.Context().Done()
		return "", nil, o.Context().Err()
	}
	a := s.answers[0]
	s.answers = s.answers[1:]
	select {
	case <-o.Context().Done():
		return "", nil, o.Context().Err()
	case <-time.After(a.after):
	}
	return a.value, &consul.QueryMeta{LastIndex: a.index}, a.err
}

// watch runs a script in a bubble for a while and gives what was handed on.
func watch(t *testing.T, s *script, d time.Duration) []Update[string] {
	t.Helper()
	var got []Update[string]
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		Watch(ctx, 0, s.query, func(u Update[string]) { got = append(got, u) })
	})
	return got
}

func want(t *testing.T, got []Update[string], want ...Update[string]) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("got %d updates, want %d: %+v", len(got), len(want), got)
	}
	for i, g := range got {
		w := want[i]
		same := g.Value == w.Value && g.Index == w.Index && g.Reset == w.Reset && (g.Err == nil) == (w.Err == nil)
		if !same || w.Err != nil && !strings.Contains(g.Err.Error(), w.Err.Error()) {
			t.Errorf("update %d: got %+v, want %+v", i, g, w)
		}
	}
}

func TestWatch(t *testing.T) {
	t.Parallel()
	down := errors.New("down")
	for name, c := range map[string]struct {
		answers []answer
		want    []Update[string]
		asked   []uint64
	}{
		"changes": {
			[]answer{{value: "a", index: 5}, {value: "b", index: 7, after: time.Second}},
			[]Update[string]{{Value: "a", Index: 5}, {Value: "b", Index: 7}}, []uint64{0, 5, 7},
		},
		"no news": {
			[]answer{{value: "a", index: 5}, {value: "a", index: 5, after: Wait}, {value: "b", index: 6}},
			[]Update[string]{{Value: "a", Index: 5}, {Value: "b", Index: 6}}, []uint64{0, 5, 5, 6},
		},
		"index below one": {
			[]answer{{value: "a"}, {value: "b", index: 2}},
			[]Update[string]{{Value: "a", Index: 1}, {Value: "b", Index: 2}}, []uint64{0, 1, 2},
		},
		"index back": {
			[]answer{{value: "a", index: 50}, {value: "", index: 3}, {value: "b", index: 3}},
			[]Update[string]{{Value: "a", Index: 50}, {Value: "b", Index: 3, Reset: true}}, []uint64{0, 50, 0, 3},
		},
		"index gone": { // what stands before the catalog says something in its place
			[]answer{{value: "a", index: 5}, {value: ""}, {value: "b", index: 6}},
			[]Update[string]{{Value: "a", Index: 5}, {Index: 5, Err: errors.New("no index")}, {Value: "b", Index: 6, Reset: true}}, []uint64{0, 5, 0, 6},
		},
		"errors": {
			[]answer{{value: "a", index: 5}, {err: down}, {err: down}, {value: "a", index: 5}},
			[]Update[string]{{Value: "a", Index: 5}, {Index: 5, Err: down}, {Value: "a", Index: 5, Reset: true}}, []uint64{0, 5, 0, 0, 5},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{answers: c.answers}
			// shorter than a silent catalog is waited for, after the slowest answer
			want(t, watch(t, s, Wait+grace/2), c.want...)
			if len(s.asked) != len(c.asked) {
				t.Fatalf("asked %v, want %v", s.asked, c.asked)
			}
			for i := range c.asked {
				if s.asked[i] != c.asked[i] {
					t.Errorf("asked %v, want %v", s.asked, c.asked)
					break
				}
			}
		})
	}
}

// A peer that takes the question and never answers is an error after a while, and asked
// again.
func TestSilence(t *testing.T) {
	t.Parallel()
	s := &script{}
	want(t, watch(t, s, 2*(Wait+Wait/16+grace)+2*retryMost), Update[string]{Err: errors.New("does not answer")})
	if len(s.asked) != 3 {
		t.Errorf("asked %d times, want 3", len(s.asked))
	}
}

// A question whose connection was lost is an error, and is not put to whoever now
// listens there with an index of the old catalog.
func TestConnectionLost(t *testing.T) {
	t.Parallel()
	asked := make(chan string, 10)
	ctx, cancel := context.WithCancel(t.Context())
	var n atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.FormValue("index")
		switch n.Add(1) {
		case 1:
			w.Header().Set("X-Consul-Index", "5")
			fmt.Fprint(w, "[]")
		case 2:
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			conn.Close()
		case 3:
			w.Header().Set("X-Consul-Index", "5")
			fmt.Fprint(w, `[{"Node":{"Node":"a"}}]`)
		default:
			cancel()
		}
	}))
	defer s.Close()
	c, err := New(Options{Address: s.URL})
	if err != nil {
		t.Fatal(err)
	}
	var got []Update[int]
	Watch(ctx, 0, func(o *consul.QueryOptions) (int, *consul.QueryMeta, error) {
		list, meta, err := c.Health().Service("web", "", false, o)
		return len(list), meta, err
	}, func(u Update[int]) {
		if got = append(got, u); u.Value > 0 {
			cancel()
		}
	})
	for i, want := range []string{"", "5", ""} {
		if index := <-asked; index != want {
			t.Errorf("question %d has index %q, want %q", i, index, want)
		}
	}
	if len(got) != 3 || got[1].Err == nil || !got[2].Reset {
		t.Errorf("got %+v, want a list, an error, and a list after a reset", got)
	}
}

// A catalog that is back is seen within two seconds, however long it was away.
func TestRetry(t *testing.T) {
	t.Parallel()
	s := &script{}
	for range 100 {
		s.answers = append(s.answers, answer{err: errors.New("down")})
	}
	watch(t, s, 5*time.Minute)
	for i := 1; i < 100; i++ {
		if d := s.times[i].Sub(s.times[i-1]); d > retryMost || d < retryFirst/2 {
			t.Fatalf("pause %d is %s, want between %s and %s", i, d, retryFirst/2, retryMost)
		}
	}
	if d := s.times[3].Sub(s.times[0]); d > time.Second {
		t.Errorf("three retries took %s, want the first ones quick", d)
	}
}

// A catalog whose answers never stop changing is not asked without pause; the first
// changes after quiet are not late.
func TestPace(t *testing.T) {
	t.Parallel()
	s := &script{}
	for i := range 1000 {
		s.answers = append(s.answers, answer{value: "x", index: uint64(i + 1)})
	}
	const d = 10 * time.Second
	got := watch(t, s, d)
	if most := int(d/askEvery) + askBurst; len(got) > most || len(got) < most-2 {
		t.Errorf("%d updates in %s, want about %d", len(got), d, most)
	}
	if d := s.times[askBurst-1].Sub(s.times[0]); d != 0 {
		t.Errorf("the first %d queries took %s", askBurst, d)
	}
}

// In a pause between questions a catalog may begin anew: the question behind it has no
// index, and only when nothing has changed the next waits, at once.
func TestLookAfterPause(t *testing.T) {
	t.Parallel()
	s := &script{}
	for i := range askBurst {
		s.answers = append(s.answers, answer{value: "old", index: uint64(100 + i)})
	}
	s.answers = append(s.answers, answer{value: "new", index: 7}, answer{value: "new", index: 7}, answer{value: "new", index: 7}, answer{value: "newer", index: 8, after: time.Minute})
	got := watch(t, s, 5*time.Minute)
	if want := []uint64{0, 0, 0, 7, 8}; len(s.asked) < askBurst+5 || !slices.Equal(s.asked[askBurst:askBurst+5], want) {
		t.Fatalf("asked with the indexes %v, want %v: none behind a pause, one when nothing has changed", s.asked[askBurst:], want)
	}
	if len(got) < askBurst+2 || got[askBurst].Value != "new" || !got[askBurst].Reset || got[askBurst+1].Value != "newer" {
		t.Errorf("the last updates: %+v", got[askBurst:])
	}
}

func TestNew(t *testing.T) {
	t.Setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
	t.Setenv("CONSUL_HTTP_TOKEN", "from the environment")
	var token string
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token = r.Header.Get("X-Consul-Token")
		if user, password, ok := r.BasicAuth(); ok {
			token += " " + user + "/" + password
		}
		json.NewEncoder(w).Encode("10.0.0.1:8300")
	})
	plain, tls := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer tls.Close()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: tls.Certificate().Raw}))
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	socket := &httptest.Server{Listener: l, Config: &http.Server{Handler: handler}}
	socket.Start()
	defer socket.Close()
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"host and port": {Options{Address: strings.TrimPrefix(plain.URL, "http://")}, "from the environment"},
		"http":          {Options{Address: plain.URL, Token: "given"}, "given"},
		"https":         {Options{Address: tls.URL, Insecure: true, Auth: "u:p"}, "from the environment u/p"},
		"TLS":           {Options{Address: strings.TrimPrefix(tls.URL, "https://"), TLS: true, Insecure: true}, "from the environment"},
		"CA":            {Options{Address: tls.URL, CA: ca}, "from the environment"},
		"unix":          {Options{Address: "unix://" + path}, "from the environment"},
	} {
		client, err := New(c.o)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if leader, err := client.Status().Leader(); err != nil || leader != "10.0.0.1:8300" || token != c.want {
			t.Errorf("%s: leader %q, %v; token %q, want %q", name, leader, err, token, c.want)
		}
	}
	stranger, err := New(Options{Address: tls.URL})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stranger.Status().Leader(); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server of an unknown CA: %v", err)
	}
	if _, err := New(Options{TokenFile: "/none"}); err == nil {
		t.Error("a token file that is not there was accepted")
	}
}
