package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
)

const inspected = `{"Id":"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef","Name":"/web-1","Image":"sha256:99",
"State":{"Status":"running","Running":true,"StartedAt":"2026-01-02T03:04:05.6789Z","Health":{"Status":"healthy","Log":[{"Output":"old"},{"Output":"fine"}]}},
"Config":{"Image":"nginx:1","StopSignal":"SIGQUIT","Env":["A=1"],"Labels":{"SERVICE_NAME":"web"},"ExposedPorts":{"443/tcp":{},"80/tcp":{},"53/udp":{}}},
"HostConfig":{"NetworkMode":"lan","PortBindings":{"80/tcp":[{"HostIp":"","HostPort":""}]}},
"NetworkSettings":{"Ports":{"80/tcp":[{"HostIp":"0.0.0.0","HostPort":"32768"},{"HostIp":"::","HostPort":"32769"}],"443/tcp":null},
"Networks":{"lan":{"IPAddress":"172.18.0.2","GlobalIPv6Address":"fd00::2"},"none":null}}}`

func TestTranslate(t *testing.T) {
	t.Parallel()
	var in container.InspectResponse
	if err := json.Unmarshal([]byte(inspected), &in); err != nil {
		t.Fatal(err)
	}
	c := translate(&in)
	p80 := Port{80, "tcp"}
	switch {
	case c.Name != "web-1", c.Image != "nginx:1", c.Short() != "0123456789ab", !c.Running(), c.StopSignal != 3:
		t.Errorf("container %+v", c)
	case c.StartedAt.Format(time.RFC3339) != "2026-01-02T03:04:05Z":
		t.Errorf("started at %v", c.StartedAt)
	case c.Health == nil || c.Health.Status != HealthHealthy || c.Health.Output != "fine":
		t.Errorf("health %+v", c.Health)
	case !slices.Equal(c.Exposed, []Port{{53, "udp"}, p80, {443, "tcp"}}):
		t.Errorf("exposed %v", c.Exposed)
	case !slices.Equal(c.Wanted, []Port{p80}):
		t.Errorf("wanted %v", c.Wanted)
	case len(c.Published) != 1 || !slices.Equal(c.Published[p80], []Binding{{netip.IPv4Unspecified(), 32768}, {netip.IPv6Unspecified(), 32769}}):
		t.Errorf("published %v", c.Published)
	case len(c.Networks) != 1 || c.Networks["lan"].IPv4.String() != "172.18.0.2" || c.Networks["lan"].IPv6.String() != "fd00::2":
		t.Errorf("networks %v", c.Networks)
	}
}

func TestSignal(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int{"SIGTERM": 15, "TERM": 15, "quit": 3, "9": 9, "SIGRTMIN+3": 37, "RTMAX-1": 63, "": 0, "SIGNONE": 0, "99": 0, "RTMIN+x": 0} {
		if got, ok := signal(in); ok != (want != 0) || (ok && got != want) {
			t.Errorf("signal(%q) = %d, %v; want %d", in, got, ok, want)
		}
	}
}

// No shape of an inspected container makes the translation fail.
func FuzzTranslate(f *testing.F) {
	f.Add([]byte(inspected))
	f.Add([]byte(`{}`))
	f.Add([]byte(`{"State":{},"Config":null,"HostConfig":{},"NetworkSettings":{"Networks":{"a":null}}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		var in container.InspectResponse
		if json.Unmarshal(b, &in) != nil {
			return
		}
		c := translate(&in)
		c.Short()
		for p, list := range c.Published {
			for _, b := range list {
				if b.Port == 0 || !b.IP.IsValid() {
					t.Errorf("binding %v of %v", b, p)
				}
			}
		}
	})
}

// wire is an engine that answers what the test says, on a socket.
func wire(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	return wireOf(t, "1.41", h)
}

// wireOf is one whose newest API is the version.
func wireOf(t *testing.T, version string, h http.HandlerFunc) *Client {
	t.Helper()
	sock := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	srv := &httptest.Server{Listener: l, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", version)
		if strings.HasSuffix(r.URL.Path, "/_ping") {
			return
		}
		h(w, r)
	})}}
	srv.Start()
	t.Cleanup(srv.Close)
	c, err := New(Options{Host: "unix://" + sock, Timeout: time.Second, Raw: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestRequests(t *testing.T) {
	t.Parallel()
	var refused atomic.Bool
	c := wire(t, func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/v1.41/") {
			t.Errorf("%s: not the negotiated version", r.URL.Path)
		}
		switch path := strings.TrimPrefix(r.URL.Path, "/v1.41"); {
		case refused.Load():
			http.Error(w, `{"message":"sick"}`, http.StatusInternalServerError)
		case path == "/info":
			w.Write([]byte(`{"ID":"E1","Name":"host1","ServerVersion":"20.10"}`))
		case path == "/containers/json":
			if r.FormValue("all") != "1" {
				t.Error("only running containers are listed")
			}
			w.Write([]byte(`[{"Id":"aa","State":"running"},{"Id":"bb","State":"exited"}]`))
		case path == "/containers/web/json":
			w.Write([]byte(inspected))
		default:
			http.Error(w, `{"message":"No such container"}`, http.StatusNotFound)
		}
	})
	ctx := t.Context()
	if info, err := c.Info(ctx); err != nil || info != (Info{"E1", "host1", "20.10", "1.41"}) {
		t.Errorf("Info = %+v, %v", info, err)
	}
	if list, err := c.List(ctx); err != nil || !slices.Equal(list, []Summary{{"aa", "running"}, {"bb", "exited"}}) {
		t.Errorf("List = %v, %v", list, err)
	}
	if got, err := c.Inspect(ctx, "web"); err != nil || got.Name != "web-1" || len(got.Raw) == 0 {
		t.Errorf("Inspect = %+v, %v", got, err)
	}
	if _, err := c.Inspect(ctx, "gone"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Inspect(gone) = %v, want ErrNotFound", err)
	}
	refused.Store(true)
	if _, err := c.Inspect(ctx, "web"); err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("Inspect of a sick engine = %v, want another error than ErrNotFound", err)
	}
}

// Engines from 20.10 (and their 1.40) on are spoken to in their newest version, or in ours
// where theirs is newer; older ones are refused with a reason.
func TestVersions(t *testing.T) {
	t.Parallel()
	for version, want := range map[string]string{"1.40": "1.40", "1.41": "1.41", "1.44": "1.44", "1.52": "1.52", "1.56": "1.56", "1.99": "1.56", "1.39": ""} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := wireOf(t, version, func(w http.ResponseWriter, r *http.Request) {
				if !strings.HasPrefix(r.URL.Path, "/v"+want+"/") {
					t.Errorf("%s of an engine of %s", r.URL.Path, version)
				}
				w.Write([]byte(`{"ID":"E1","Name":"host1"}`))
			})
			info, err := c.Info(t.Context())
			switch {
			case want == "" && (err == nil || !strings.Contains(err.Error(), version)):
				t.Errorf("an old engine: %+v, %v", info, err)
			case want != "" && (err != nil || info.API != want):
				t.Errorf("%+v, %v; want API %s", info, err, want)
			}
		})
	}
}

// An engine that has another id each time, as Podman has, is known by its host's name.
func TestUnsteadyID(t *testing.T) {
	t.Parallel()
	var n atomic.Int64
	c := wire(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"ID":"made-up-%d","Name":"host1"}`, n.Add(1))
	})
	for range 2 {
		if info, err := c.Info(t.Context()); err != nil || info.ID != "host:host1" {
			t.Errorf("Info = %+v, %v; want an id that stays", info, err)
		}
	}
}

// A container's networks get their drivers by one question, whose refusal is no fault.
func TestDrivers(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	var refused atomic.Bool
	c := wire(t, func(w http.ResponseWriter, r *http.Request) {
		switch path := strings.TrimPrefix(r.URL.Path, "/v1.41"); {
		case path == "/networks" && refused.Load():
			asked.Add(1)
			http.Error(w, `{"message":"forbidden"}`, http.StatusForbidden)
		case path == "/networks":
			asked.Add(1)
			w.Write([]byte(`[{"Id":"n1","Name":"lan","Driver":"macvlan"}]`))
		default:
			net := strings.Split(path, "/")[2]
			fmt.Fprintf(w, `{"Id":"aa","NetworkSettings":{"Networks":{"lan":{"NetworkID":%q,"IPAddress":"10.1.0.2"}}}}`, net)
		}
	})
	driver := func(net, want string, questions int64) {
		t.Helper()
		got, err := c.Inspect(t.Context(), net)
		if err != nil || got.Networks["lan"].Driver != want || asked.Load() != questions {
			t.Errorf("%s: %+v, %v after %d questions; want driver %q after %d", net, got, err, asked.Load(), want, questions)
		}
	}
	driver("n1", "macvlan", 1)
	driver("n1", "macvlan", 1)
	refused.Store(true)
	driver("n2", "", 2)
	driver("n2", "", 2) // not again within a minute
	driver("n1", "macvlan", 2)
}

// The ports of a swarm's routing mesh come from the service, where the engine tells them.
func TestIngress(t *testing.T) {
	t.Parallel()
	var worker atomic.Bool
	c := wire(t, func(w http.ResponseWriter, r *http.Request) {
		switch path := strings.TrimPrefix(r.URL.Path, "/v1.41"); {
		case path == "/networks":
			w.Write([]byte(`[]`))
		case path == "/services/s1" && worker.Load():
			http.Error(w, `{"message":"This node is not a swarm manager."}`, http.StatusServiceUnavailable)
		case path == "/services/s1":
			w.Write([]byte(`{"ID":"s1","Endpoint":{"Ports":[{"Protocol":"tcp","TargetPort":80,"PublishedPort":30000,"PublishMode":"ingress"},
				{"Protocol":"udp","TargetPort":53,"PublishedPort":53,"PublishMode":"host"}]}}`))
		default:
			w.Write([]byte(`{"Id":"aa","Config":{"Labels":{"com.docker.swarm.service.id":"s1"}},"NetworkSettings":{"Networks":{"ingress":{"NetworkID":"i"}}}}`))
		}
	})
	got, err := c.Inspect(t.Context(), "task")
	want := map[Port][]Binding{{80, "tcp"}: {{netip.IPv4Unspecified(), 30000}}}
	if err != nil || !reflect.DeepEqual(got.Published, want) || got.IngressUnknown {
		t.Errorf("on a manager: %+v, %v; want published %v", got, err, want)
	}
	worker.Store(true)
	if got, err = c.Inspect(t.Context(), "task"); err != nil || len(got.Published) != 0 || !got.IngressUnknown {
		t.Errorf("on a worker: %+v, %v; want it told", got, err)
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	c := wire(t, func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("since") != "100.000000005" || !strings.Contains(r.FormValue("filters"), "health_status") {
			t.Errorf("asked for %v", r.Form)
		}
		w.Header().Set("Content-Type", "application/json")
		for _, line := range []string{
			`{"Type":"container","Action":"kill","Actor":{"ID":"aa","Attributes":{"signal":"15"}},"timeNano":1000}`,
			`{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"bb"}}}`,
			`{"Type":"network","Action":"connect","Actor":{"ID":"n1"}}`,
			`{"Type":"container","Action":"died","Actor":{"ID":"cc"}}`,
			`{"Type":"container","Action":"remove","Actor":{"ID":"cc"}}`,
		} {
			w.Write([]byte(line + "\n"))
		}
	})
	seq, err := c.Events(t.Context(), time.Unix(100, 5))
	if err != nil {
		t.Fatal(err)
	}
	var got []Event
	for e, err := range seq {
		if err != nil {
			break
		}
		got = append(got, e)
	}
	if len(got) == 4 && (got[2].Action != ActionDie || got[3].Action != ActionDestroy) {
		t.Errorf("Podman's events %+v", got[2:])
	}
	if len(got) != 4 || got[0].Signal != 15 || got[0].Container != "aa" || got[0].Time.UnixNano() != 1000 || got[1].Container != "bb" {
		t.Errorf("events %+v", got)
	}
}

// An engine that takes the connection and says nothing is an error after a while.
func TestSilence(t *testing.T) {
	t.Parallel()
	c := wire(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if _, err := c.List(t.Context()); err == nil || !strings.Contains(err.Error(), "no answer within 1s") {
		t.Errorf("List = %v, want it bounded", err)
	}
	if _, err := c.Events(t.Context(), time.Time{}); err == nil || !strings.Contains(err.Error(), "not taken within 1s") {
		t.Errorf("Events = %v, want it bounded", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Info(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Info after the end = %v", err)
	}
}

func TestAway(t *testing.T) {
	t.Parallel()
	c, err := New(Options{Host: "unix://" + filepath.Join(t.TempDir(), "none.sock")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Info(t.Context()); err == nil {
		t.Error("Info without an engine succeeded")
	}
	events, err := c.Events(t.Context(), time.Time{})
	if err == nil { // the client's error may be a moment late: then it is the first of the sequence
		for _, err = range events {
			break
		}
	}
	if err == nil {
		t.Error("Events without an engine succeeded")
	}
	if _, err := New(Options{Host: "nonsense"}); err == nil || !strings.Contains(err.Error(), "unix:///") {
		t.Errorf("New(nonsense) = %v, want what to write", err)
	}
}
