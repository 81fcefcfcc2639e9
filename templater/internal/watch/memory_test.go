package watch

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/client"
	"github.com/rollcall/rollcall/templater/internal/render"
)

// answers are a catalog's, by path; each blocks once it was given.
var answers = map[string]string{
	"/v1/health/service/web": `[{"Node":{"Node":"n","Address":"10.0.0.1"},"Service":{"ID":"web-1","Service":"web","Port":80,"Tags":["b","a"],"Weights":{"Passing":3,"Warning":1},
		"TaggedAddresses":{"lan":{"Address":"10.0.0.2","Port":81}}},"Checks":[{"CheckID":"c","Status":"passing","Definition":{"Interval":"10s"}}]}]`,
	"/v1/catalog/services":    `{"web":["b","a"]}`,
	"/v1/catalog/nodes":       `[{"Node":"n","Address":"10.0.0.1","Meta":{"k":"v"}}]`,
	"/v1/catalog/node/n":      `{"Node":{"Node":"n"},"Services":{"web-1":{"ID":"web-1","Service":"web"}}}`,
	"/v1/catalog/datacenters": `["dc1"]`,
	"/v1/kv/one":              `[{"Key":"one","Value":"MQ==","ModifyIndex":4}]`,
	"/v1/kv/some":             `[{"Key":"some/a","Value":"MQ=="}]`,
}

var everything = []render.Dependency{
	{Kind: render.Service, Name: "web", Filter: "passing"}, {Kind: render.Services}, {Kind: render.Nodes}, {Kind: render.Node, Name: "n"},
	{Kind: render.Datacenters}, {Kind: render.Key, Name: "one"}, {Kind: render.Key, Name: "none"}, {Kind: render.Keys, Name: "some"},
}

func catalog(t *testing.T) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("index") != "" {
			<-r.Context().Done()
			return
		}
		w.Header().Set("X-Consul-Index", "7")
		if body, ok := answers[r.URL.Path]; ok {
			fmt.Fprint(w, body)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	}))
	t.Cleanup(func() { s.CloseClientConnections(); s.Close() })
	return s
}

// run has a pool watch deps until all of them are known, and gives their values and how
// they are shown.
func run(t *testing.T, address, file string, log *slog.Logger, deps ...render.Dependency) (map[render.Dependency]any, []State) {
	t.Helper()
	c, err := client.New(client.Options{Address: address})
	if err != nil {
		t.Fatal(err)
	}
	p := New(c, Config{StateFile: file}, log)
	ctx, cancel := context.WithCancel(t.Context())
	defer p.Wait()
	defer cancel()
	want := map[render.Dependency]bool{}
	for _, d := range deps {
		want[d] = true
	}
	p.Want(ctx, want)
	for {
		got := map[render.Dependency]any{}
		for _, d := range deps {
			if v, ok := p.Get(d); ok {
				got[d] = v
			}
		}
		if len(got) == len(deps) {
			return got, p.States()
		}
		<-p.Changed()
	}
}

// What the catalog said is known to the next process though the catalog is away, and is
// shown as what it is.
func TestStateFile(t *testing.T) {
	t.Parallel()
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	file := filepath.Join(t.TempDir(), "catalog.json")
	there := catalog(t).URL
	fresh, states := run(t, there, file, log, everything...)
	for _, s := range states {
		if s.Old {
			t.Errorf("%s: old, though the catalog answers", s.Name)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("the state file: %v, %v", info, err)
	}
	old, states := run(t, "127.0.0.1:1", file, log, everything...)
	for _, d := range everything {
		if !reflect.DeepEqual(old[d], fresh[d]) {
			t.Errorf("%s: remembered %+v, want %+v", d, old[d], fresh[d])
		}
	}
	for _, s := range states {
		if !s.Old || s.Error == "" || s.Index != 7 && s.Name != "datacenters()" {
			t.Errorf("%+v: want it old, with the error and its index", s)
		}
	}
	// a process that asked for one thing and got no answer has not forgotten it, nor what it says
	one, _ := run(t, "127.0.0.1:1", file, log, everything[0])
	if !reflect.DeepEqual(one[everything[0]], fresh[everything[0]]) {
		t.Errorf("the second time without a catalog: %+v", one)
	}
	if _, states = run(t, there, file, log, everything[0]); states[0].Old {
		t.Error("old, though the catalog answers again")
	}
}

// A file that cannot be read, or written, is said and does no harm.
func TestStateFileFaulty(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{"cut": `{"Version":1,"Val`, "of another version": `{"Version":9}`} {
		var out strings.Builder
		file := filepath.Join(t.TempDir(), "catalog.json")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		run(t, catalog(t).URL, file, slog.New(slog.NewTextHandler(&out, nil)), everything[1])
		if !strings.Contains(out.String(), "state file not read") {
			t.Errorf("%s: the log says %q", name, out.String())
		}
		if b, err := os.ReadFile(file); err != nil || !strings.Contains(string(b), `"web"`) {
			t.Errorf("%s: afterwards it holds %s, %v", name, b, err)
		}
	}
	var out strings.Builder
	run(t, catalog(t).URL, filepath.Join(t.TempDir(), "none", "catalog.json"), slog.New(slog.NewTextHandler(&out, nil)), everything[1])
	if !strings.Contains(out.String(), "state file not written") {
		t.Errorf("no folder: the log says %q", out.String())
	}
}
