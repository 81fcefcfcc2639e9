package watchplan

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var quiet = slog.New(slog.DiscardHandler)

// answers is an agent that gives one prepared answer after the other, and then waits.
type answers struct {
	list  []answer
	asked []string // what was asked for
}

type answer struct {
	index uint64
	body  string // "" is an error
	code  int    // 0 is 200
}

func (a *answers) Do(r *http.Request) (*http.Response, error) {
	a.asked = append(a.asked, r.URL.RequestURI())
	if len(a.list) == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	next := a.list[0]
	a.list = a.list[1:]
	if next.body == "" {
		return nil, errors.New("connection refused")
	}
	code := max(next.code, http.StatusOK)
	return &http.Response{
		StatusCode: code, Header: http.Header{"X-Consul-Index": {fmt.Sprint(next.index)}}, Body: io.NopCloser(strings.NewReader(next.body)),
	}, nil
}

// follow gives what the handler of q gets until nothing more comes, and how long that took.
func follow(t *testing.T, q Query, a *answers) (got []string, took time.Duration) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		began := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			Watch(ctx, a, q, func(_ context.Context, index uint64, b []byte) error {
				got, took = append(got, fmt.Sprintf("%d %s", index, b)), time.Since(began)
				return errors.New("a handler's error does not end the watch")
			}, quiet)
		}()
		time.Sleep(time.Hour)
		synctest.Wait()
		stop()
		<-done
	})
	return got, took
}

func TestWatch(t *testing.T) {
	t.Parallel()
	event := func(n int) string {
		return fmt.Sprintf(`{"ID":"00000000-0000-0000-0000-%012x","Name":"e"}`, n)
	}
	for name, c := range map[string]struct {
		q     Query
		list  []answer
		want  []string
		asked string // the paths, the last one of the wait left out
	}{
		"differences only": {
			Query{Type: "services", Datacenter: "dc2", Stale: true},
			[]answer{{5, `{"a": []}`, 0}, {6, `{"a":[]}`, 0}, {7, `{"b":[]}`, 0}},
			[]string{"5 {\"a\":[]}\n", "7 {\"b\":[]}\n"},
			"/v1/catalog/services?dc=dc2&stale= /v1/catalog/services?dc=dc2&index=5&stale= /v1/catalog/services?dc=dc2&index=6&stale=",
		},
		"an index that goes back": {
			Query{Type: "nodes"}, []answer{{9, `[1]`, 0}, {3, `[2]`, 0}, {3, `[3]`, 0}},
			[]string{"9 [1]\n", "3 [2]\n", "3 [3]\n"},
			"/v1/catalog/nodes /v1/catalog/nodes?index=9 /v1/catalog/nodes",
		},
		"a key": {
			Query{Type: "key", Key: "a/b c"}, []answer{{1, "gone", 404}, {2, `[{"LockIndex":0,"Key":"a/b c","Flags":0,"Value":"eA==","CreateIndex":2,"ModifyIndex":2}]`, 0}, {3, "gone", 404}},
			[]string{"1 null\n", `2 {"Key":"a/b c","CreateIndex":2,"ModifyIndex":2,"LockIndex":0,"Flags":0,"Value":"eA==","Session":""}` + "\n", "3 null\n"},
			"/v1/kv/a/b%20c /v1/kv/a/b%20c?index=1 /v1/kv/a/b%20c?index=2",
		},
		"a prefix": {
			Query{Type: "keyprefix", Prefix: "a/"}, []answer{{1, "-", 404}, {2, `[]`, 0}},
			[]string{"1 null\n", "2 []\n"}, "/v1/kv/a/?recurse= /v1/kv/a/?index=1&recurse=",
		},
		"a service": {
			Query{Type: "service", Service: "a/b", Tags: []string{"x", "y"}, PassingOnly: true, Filter: "Node.Node == n"}, []answer{{1, `[]`, 0}},
			[]string{"1 []\n"}, "/v1/health/service/a%2Fb?filter=Node.Node+%3D%3D+n&passing=1&tag=x&tag=y",
		},
		"checks of all":       {Query{Type: "checks"}, []answer{{1, `[]`, 0}}, []string{"1 []\n"}, "/v1/health/state/any"},
		"checks of a state":   {Query{Type: "checks", State: "critical"}, []answer{{1, `[]`, 0}}, []string{"1 []\n"}, "/v1/health/state/critical"},
		"checks of a service": {Query{Type: "checks", Service: "web"}, []answer{{1, `[]`, 0}}, []string{"1 []\n"}, "/v1/health/checks/web"},
		"events that are new": {
			Query{Type: "event", Name: "e"},
			[]answer{{7, "[" + event(7) + "]", 0}, {7, "[" + event(7) + "]", 0}, {3, "[" + event(7) + "," + event(9) + "," + event(3) + "]", 0}},
			[]string{"7 [" + event(7) + "]\n", "3 [" + event(9) + "," + event(3) + "]\n"},
			"/v1/event/list?name=e /v1/event/list?index=7&name=e /v1/event/list?index=7&name=e",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := &answers{list: c.list}
			got, _ := follow(t, c.q, a)
			if strings.Join(got, "") != strings.Join(c.want, "") {
				t.Errorf("handled %q, want %q", got, c.want)
			}
			if asked := strings.Join(a.asked[:len(c.list)], " "); asked != c.asked {
				t.Errorf("asked\n%s\nwant\n%s", asked, c.asked)
			}
		})
	}
}

// After errors the pauses grow, and an answer of the wrong shape is one.
func TestFaults(t *testing.T) {
	t.Parallel()
	a := &answers{list: []answer{{}, {1, "No cluster leader", 500}, {1, "{", 0}, {1, `{"a":[]}`, 0}}}
	got, took := follow(t, Query{Type: "services"}, a)
	least := (1 + 4 + 9) * retry
	if len(got) != 1 || took < least || took > least+least/10 {
		t.Errorf("handled %q after %s, want one answer after %s", got, took, least)
	}
	_, _, err := Once(t.Context(), &answers{list: []answer{{1, "No cluster leader\n", 500}}}, Query{Type: "nodes"}, 0)
	if err == nil || err.Error() != "the agent answers 500: No cluster leader" {
		t.Errorf("error %v", err)
	}
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		pause(t.Context(), 1000)
		if took := time.Since(began); took < retryMax || took > retryMax+retryMax/10 {
			t.Errorf("the longest pause is %s, want %s", took, retryMax)
		}
	})
}

// The token goes as a header, where no log has it.
func TestToken(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	do := doer(func(r *http.Request) (*http.Response, error) { seen <- r; return nil, errors.New("no") })
	if _, _, err := Once(t.Context(), do, Query{Type: "nodes", Token: "s3cret"}, 0); err == nil {
		t.Fatal("no error")
	}
	if r := <-seen; r.Header.Get("X-Consul-Token") != "s3cret" || strings.Contains(r.URL.String(), "s3cret") {
		t.Errorf("asked %s with %v", r.URL, r.Header)
	}
	if text := fmt.Sprint(Query{Type: "nodes", Token: "s3cret"}); strings.Contains(text, "s3cret") {
		t.Errorf("printed as %s", text)
	}
}

type doer func(*http.Request) (*http.Response, error)

func (d doer) Do(r *http.Request) (*http.Response, error) { return d(r) }

// Watches that stay are not disturbed by a replacement; the others end.
func TestSet(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		do := doer(func(r *http.Request) (*http.Response, error) {
			if r.URL.Query().Get("index") != "" {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return (&answers{list: []answer{{1, "[]", 0}}}).Do(r)
		})
		s := NewSet(do, quiet)
		var calls []string // used by one at a time: the test waits for the bubble
		entry := func(name string) Entry {
			return Entry{Query{Type: "nodes"}, func(context.Context, uint64, []byte) error { calls = append(calls, name); return nil }}
		}
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		s.Replace(map[string]Entry{"a": entry("a")})
		synctest.Wait()
		s.Replace(map[string]Entry{"a": entry("a again"), "b": entry("b")})
		synctest.Wait()
		s.Replace(nil)
		synctest.Wait()
		s.Replace(map[string]Entry{"a": entry("a anew")})
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if got, want := strings.Join(calls, ", "), "a, b, a anew"; got != want {
			t.Errorf("called %s, want %s", got, want)
		}
	})
}

func TestProgram(t *testing.T) {
	t.Parallel()
	out := filepath.Join(t.TempDir(), "out")
	h := Shell(`{ cat; echo "$CONSUL_INDEX"; } > `+out+`; echo printed; exit 3`, quiet)
	err := h(t.Context(), 42, []byte("[1]\n"))
	if err == nil || !strings.Contains(err.Error(), "exit status 3: printed") {
		t.Errorf("error %v, want the status and the output", err)
	}
	if b, err := os.ReadFile(out); err != nil || string(b) != "[1]\n42\n" {
		t.Errorf("the program read %q, %v", b, err)
	}
	if err := Program([]string{"true"}, quiet)(t.Context(), 1, nil); err != nil {
		t.Error(err)
	}
	if err := Program([]string{"/no/such/program"}, quiet)(t.Context(), 1, nil); err == nil || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("error %v", err)
	}
	big := Shell("head -c 100000 /dev/zero | tr '\\0' x; echo end; exit 1", quiet)
	if err := big(t.Context(), 1, nil); err == nil || len(err.Error()) > kept+100 || !strings.HasSuffix(err.Error(), "xend") {
		t.Errorf("an error of %d bytes", len(fmt.Sprint(err)))
	}
}

// A handler and what it started end with the watch.
func TestProgramIsKilled(t *testing.T) {
	t.Parallel()
	started := filepath.Join(t.TempDir(), "started")
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- Shell("mkfifo "+started+"; (sleep 1000 & echo x > "+started+"; wait)", quiet)(ctx, 1, nil)
	}()
	for {
		if f, err := os.Open(started); err == nil { // opens once the other end is there
			f.Close()
			break
		}
		select {
		case err := <-done:
			t.Fatal(err)
		default:
		}
	}
	stop()
	if err := <-done; err == nil {
		t.Error("the killed program is told as well")
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 4)
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		seen <- fmt.Sprintf("%s %s %s %s %s %v", r.Method, r.URL.Path, r.Header.Get("X-Consul-Index"), r.Header.Get("X-A"), body, err)
		if r.URL.Path == "/no" {
			http.Error(w, "not today", http.StatusTeapot)
		}
	}))
	defer s.Close()
	h := Send(Target{URL: s.URL + "/hook", Header: map[string][]string{"x-a": {"b"}}, TLSSkipVerify: true}, quiet)
	if err := h(t.Context(), 7, []byte("[]\n")); err != nil {
		t.Fatal(err)
	}
	if got, want := <-seen, "POST /hook 7 b []\n <nil>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	err := Send(Target{URL: s.URL + "/no", Method: "PUT", TLSSkipVerify: true}, quiet)(t.Context(), 7, nil)
	if err == nil || !strings.Contains(err.Error(), "418 I'm a teapot: not today") {
		t.Errorf("error %v, want the status and the body", err)
	}
	if err := Send(Target{URL: s.URL}, quiet)(t.Context(), 7, nil); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a certificate nobody knows: %v", err)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, q := range []Query{{Type: "key"}, {Type: "keyprefix"}, {Type: "service"}, {Type: "checks", Service: "a", State: "any"}, {}, {Type: "kv"}} {
		if q.Validate() == nil {
			t.Errorf("%+v: no fault", q)
		}
	}
	for _, q := range []Query{{Type: "key", Key: "a"}, {Type: "keyprefix", Prefix: "a"}, {Type: "service", Service: "a"}, {Type: "checks"}, {Type: "nodes"}, {Type: "services"}, {Type: "event"}} {
		if err := q.Validate(); err != nil {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func FuzzShape(f *testing.F) {
	f.Add("key", `[{"Key":"a"}]`)
	f.Add("event", `[{"ID":"b54fe110-7af5-cafc-d1fb-afc8ba432b1c"},null]`)
	f.Fuzz(func(t *testing.T, kind, body string) {
		out, err := Query{Type: kind}.shape([]byte(body), 1)
		if err == nil && len(out) == 0 {
			t.Errorf("%s of %q: nothing", kind, body)
		}
	})
}
