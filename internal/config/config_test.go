package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rollcall/rollcall/internal/api"
)

type ports struct {
	HTTP int `config:"http"`
	DNS  int `config:"dns"`
}

type group struct {
	Name    string `config:",label"`
	Command string `config:"command"`
}

type target struct {
	Name     string                   `config:"node_name,node"`
	Server   bool                     `config:"server"`
	Expect   *int                     `config:"bootstrap_expect"`
	Wait     time.Duration            `config:"wait"`
	Join     []string                 `config:"retry_join"`
	Ports    ports                    `config:"ports"`
	Meta     map[string]string        `config:"node_meta"`
	Groups   []group                  `config:"group"`
	Services []*api.ServiceDefinition `config:"service,services"`
	Any      any                      `config:"anything"`
}

func decode(t *testing.T, name, src string, into *target) ([]string, error) {
	t.Helper()
	s, err := Parse(name, []byte(src), "")
	if err != nil {
		return nil, err
	}
	return s.Decode(into, "connect", "ports.proxy_*")
}

func TestDecode(t *testing.T) {
	t.Parallel()
	three := 3
	want := target{
		Name: "n1", Server: true, Expect: &three, Wait: 5 * time.Second,
		Join: []string{"a", "b:8301"}, Ports: ports{HTTP: 8501, DNS: -1},
		Meta: map[string]string{"rack": "7", "role": "${name.full} x"},
		Services: []*api.ServiceDefinition{{Name: "web", Port: 80, EnableTagOverride: true,
			Check: &api.CheckDefinition{TCP: "x:1", Interval: api.Duration(time.Second)}}},
	}
	hcl := target{Groups: []group{{"web", "x"}, {"api", "y"}}}
	for name, tc := range map[string]struct {
		src  string
		want target
	}{
		"a.json": {`{"node_name":"n1","server":true,"bootstrap_expect":3,"wait":"5s","retry_join":["a","b:8301"],
			"ports":{"http":8501,"dns":-1},"node_meta":{"rack":7,"role":"${name.full} x"},
			"service":{"name":"web","port":80,"enable_tag_override":true,"check":{"tcp":"x:1","interval":"1s"}}}`, want},
		"a.hcl": {`node = "n1"
			server = "true"
			bootstrap_expect = 3 # three
			wait = "5s"
			retry_join = ["a", "b:8301"]
			ports { http = 8501 }
			ports { dns = -1 }
			node_meta = { rack = 7, "role" = "${name.full} x" }
			services {
			  name = "web"
			  port = 80
			  enable_tag_override = true
			  check = { tcp = "x:1", interval = "1s" }
			}`, want},
		"labels.hcl": {"group \"web\" {\n command = \"x\"\n}\ngroup \"api\" {\n command = \"y\"\n}", hcl},
		"empty.json": {" \n", target{}},
		"fragment":   {`{"anything": [1, "a"]}`, target{Any: []any{"1", "a"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got target
			if _, err := decode(t, name, tc.src, &got); err != nil {
				t.Fatal(err)
			}
			if list, ok := got.Any.([]any); ok { // numbers keep their text
				for i, v := range list {
					list[i], _ = text(v)
				}
			}
			if d := cmp.Diff(got, tc.want); d != "" {
				t.Errorf("got (-) want (+):\n%s", d)
			}
		})
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	var got target
	for _, src := range []string{
		`{"server":true,"retry_join":["a"],"node_meta":{"a":"1","b":"1"},"ports":{"http":1}}`,
		`{"server":false,"retry_join":"b","node_meta":{"b":"2"},"ports":{"dns":2}}`,
	} {
		if _, err := decode(t, "x.json", src, &got); err != nil {
			t.Fatal(err)
		}
	}
	want := target{Join: []string{"a", "b"}, Meta: map[string]string{"a": "1", "b": "2"}, Ports: ports{1, 2}}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("got (-) want (+):\n%s", d)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"server = true\nsrever = 1":         "x.hcl:2: invalid config key srever (did you mean server?)",
		"quite_else = 1":                    "x.hcl:1: invalid config key quite_else",
		"ports { htp = 1 }":                 "x.hcl:1: invalid config key ports.htp (did you mean http?)",
		"\nwait = \"soon\"":                 `x.hcl:2: wait = "soon": want a duration`,
		"server = \"perhaps\"":              `x.hcl:1: server = "perhaps": want true or false`,
		"bootstrap_expect = \"x\"":          "want a whole number",
		"ports = 3":                         "x.hcl:1: ports: want a block",
		"node_name = [\"a\"]":               "node_name: want one value",
		"server = ":                         "x.hcl:1: ",
		"server = tru\n":                    "x.hcl:1: ",
		"a {":                               "x.hcl:1: ",
		"service { check { ttl = \"x\" } }": "x.hcl:1: ",
	} {
		if _, err := decode(t, "x.hcl", src, &target{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", src, err, want)
		}
	}
	for src, want := range map[string]string{
		"{\n\"server\": tru}": "x.json:2: ", "{\"a\":1": "x.json:1: ", "[1]": "want an object", "{} {}": "after the end",
		"{\n\"sever\": true}": "x.json:2: invalid config key sever",
	} {
		if _, err := decode(t, "x.json", src, &target{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want %q", src, err, want)
		}
	}
	_, err := decode(t, "x.hcl", "aa1 = 1\nbb2 = 2", &target{})
	if err == nil || strings.Count(err.Error(), "invalid config key") != 2 {
		t.Errorf("two faults reported as %v", err)
	}
}

func TestIgnored(t *testing.T) {
	t.Parallel()
	warnings, err := decode(t, "x.hcl", "connect { enabled = true }\nports { proxy_min_port = 1 }", &target{})
	if err != nil || len(warnings) != 2 || !strings.HasPrefix(warnings[0], "x.hcl:1: connect ") {
		t.Errorf("warnings %q, error %v, want two warnings", warnings, err)
	}
}

func TestPair(t *testing.T) {
	t.Parallel()
	var got target
	for _, s := range []*Source{Pair("-dns-port", "ports.dns", "53"), Pair("-retry-join", "retry_join", "a"), Pair("-retry-join", "retry_join", "b")} {
		if _, err := s.Decode(&got); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(got, target{Ports: ports{DNS: 53}, Join: []string{"a", "b"}}); d != "" {
		t.Errorf("got (-) want (+):\n%s", d)
	}
	_, err := Pair("-dns-port", "ports.dns", "x").Decode(&got)
	if err == nil || err.Error() != `-dns-port: ports.dns = "x": want a whole number` {
		t.Errorf("error %v, want the flag named", err)
	}
}

func TestReadPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, src := range map[string]string{"b.json": `{"server":false}`, "a.hcl": "server = true", "c.txt": "junk"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	sources, err := ReadPath(dir, "")
	if err != nil || len(sources) != 2 || filepath.Base(sources[0].name) != "a.hcl" {
		t.Fatalf("ReadPath = %v, %v, want a.hcl then b.json", sources, err)
	}
	if _, err := ReadPath(filepath.Join(dir, "none"), ""); err == nil {
		t.Error("a missing file was read")
	}
}

func FuzzParse(f *testing.F) {
	f.Add("a = 1", "hcl")
	f.Add(`{"a":[1,{"b":null}]}`, "json")
	f.Add("x \"y\" {\n z = \"${a}\"\n}", "hcl")
	f.Fuzz(func(t *testing.T, src, format string) {
		s, err := Parse("f", []byte(src), format)
		if err == nil {
			_, _ = s.Decode(&target{}) // any input: an error or a struct, never a panic
		}
	})
}

// TestNothing: an empty file configures nothing, in either language.
func TestNothing(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a.json", "a.hcl"} {
		if _, err := Parse(name, []byte(" \n"), ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
