package render

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// data is a source that has what a test says.
type data map[Dependency]any

func (d data) Get(k Dependency) (any, bool) { v, ok := d[k]; return v, ok }

func instance(id, addr string, port int, tags ...string) *Instance {
	return &Instance{Node: "n1", ID: id, Name: "web", Address: addr, Port: port, Tags: tags, Status: "passing", Weights: Weights{1, 1}, ServiceMeta: map[string]string{"v": "2"}}
}

var world = data{
	{Kind: Service, Name: "web", Filter: "passing"}:                     []*Instance{instance("a", "10.0.0.1", 80, "x", "y"), instance("b", "10.0.0.2", 81, "y")},
	{Kind: Service, Name: "web", Tag: "x", Filter: "any"}:               []*Instance{instance("a", "10.0.0.1", 80, "x")},
	{Kind: Service, Name: "web", DC: "dc2", Filter: "critical,warning"}: []*Instance{},
	{Kind: Services}:             []*ServiceName{{"db", []string{"p"}}, {"web", []string{"x", "y"}}},
	{Kind: Nodes}:                []*NodeInfo{{Node: "n1", Address: "10.0.0.1"}},
	{Kind: Node, Name: "n1"}:     &NodeWithServices{Node: &NodeInfo{Node: "n1"}, Services: []*NodeService{{Service: "web"}}},
	{Kind: Node, Name: "none"}:   &NodeWithServices{},
	{Kind: Key, Name: "k"}:       &Pair{Key: "k", Value: "v"},
	{Kind: Key, Name: "empty"}:   &Pair{Key: "empty"},
	{Kind: Key, Name: "none"}:    (*Pair)(nil),
	{Kind: Keys, Name: "p"}:      []*Pair{{Path: "p/a", Key: "a", Value: "1"}, {Path: "p/b/c", Key: "b/c", Value: "2"}, {Path: "p/b/", Key: "b/"}},
	{Kind: Keys, Name: "no"}:     []*Pair{},
	{Kind: File, Name: "/etc/x"}: "text",
	{Kind: Datacenters}:          []string{"dc1"},
}

func TestFunctions(t *testing.T) {
	t.Setenv("RENDER_TEST", "yes")
	for text, want := range map[string]string{
		`{{ range service "web" }}{{ .Address }}:{{ .Port }} {{ end }}`:                                                                   "10.0.0.1:80 10.0.0.2:81 ",
		`{{ range service "x.web|any" }}{{ .ID }}{{ end }}`:                                                                               "a",
		`{{ range service "x.web" "any" }}{{ .ID }}{{ end }}`:                                                                             "a",
		`{{ len (service "web@dc2|warning,critical") }}`:                                                                                  "0",
		`{{ range services }}{{ .Name }}={{ join "," .Tags }};{{ end }}`:                                                                  "db=p;web=x,y;",
		`{{ range nodes }}{{ .Node }}{{ end }}`:                                                                                           "n1",
		`{{ with node "n1" }}{{ .Node.Node }}:{{ range .Services }}{{ .Service }}{{ end }}{{ end }}`:                                      "n1:web",
		`{{ with node "none" }}{{ if .Node }}there{{ else }}gone{{ end }}{{ end }}`:                                                       "gone",
		`{{ key "k" }} {{ keyOrDefault "none" "d" }} {{ keyOrDefault "empty" "d" }} {{ keyExists "none" }}`:                               "v d d false",
		`{{ range ls "p" }}{{ .Key }}{{ end }} {{ range tree "p" }}{{ .Key }} {{ end }}`:                                                  "a a b/c ",
		`{{ range tree "p" | explode }}{{ . }}{{ end }}`:                                                                                  "1map[c:2]",
		`{{ explodeMap (parseJSON "{\"/a/b\":1,\"//c\":2,\"d/\":3}") | toJSON }}`:                                                         `{"":{"":{"c":2},"a":{"b":1}},"d":{}}`,
		`{{ file "/etc/x" }} {{ env "RENDER_TEST" }} {{ envOrDefault "RENDER_NONE" "d" }}`:                                                "text yes d",
		`{{ range datacenters }}{{ . }}{{ end }}`:                                                                                         "dc1",
		`{{ range $t, $s := service "web" | byTag }}{{ $t }}{{ len $s }} {{ end }}`:                                                       "x1 y2 ",
		`{{ range $p, $s := service "web" | byPort }}{{ $p }} {{ end }}`:                                                                  "80 81 ",
		`{{ range $m, $s := service "web" | byMeta "v|int,w" }}{{ $m }}{{ end }}`:                                                         "00002__no_w_",
		`{{ range service "web" }}{{ if contains "x" .Tags }}{{ .ID }}{{ end }}{{ end }}`:                                                 "a",
		`{{ if in "abc" "b" }}1{{ end }}{{ if containsAll (split "," "a,b") (split "," "a,b,c") }}2{{ end }}`:                             "12",
		`{{ "a,b" | split "," | join "-" }} {{ "x" | toUpper }} {{ "hello world" | toTitle }} {{ "aXb" | replaceAll "X" "-" }}`:           "a-b X Hello World a-b",
		`{{ "foo.bar" | regexReplaceAll "o+" "0" }} {{ "foo" | regexMatch "^f" }} {{ " x " | trimSpace }}`:                                "f0.bar true x",
		`{{ with parseJSON "{\"a\":[1,2]}" }}{{ index .a 1 }}{{ end }} {{ with parseYAML "a: b" }}{{ .a }}{{ end }}`:                      "2 b",
		`{{ toJSON (split "," "a,<") }} {{ toUnescapedJSON (split "," "<") }}`:                                                            `["a","\u003c"] ["<"]`,
		`{{ base64Encode "x" }} {{ base64Decode "eA==" }} {{ sha256Hex "x" | len }} {{ md5sum "x" }}`:                                     "eA== x 64 9dd4e461268c8034f5c8564e155c67a6",
		`{{ add 2 3 }} {{ 5 | subtract 2 }} {{ multiply 2 1.5 }} {{ 7 | divide 2 }} {{ 7 | modulo 4 }} {{ maximum 1 2 }}`:                 "5 3 3 3 3 2",
		`{{ range loop 3 }}{{ . }}{{ end }}{{ range loop 5 7 }}{{ . }}{{ end }}`:                                                          "01256",
		`{{ scratch.Set "a" 1 }}{{ scratch.SetX "a" 2 }}{{ scratch.Get "a" }}{{ scratch.MapSet "m" "k" "v" }}{{ scratch.MapValues "m" }}`: "1[v]",
		`{{ define "u" }}<{{ . }}>{{ end }}{{ executeTemplate "u" "x" }}`:                                                                 "<x>",
		`{{ sprig_upper "x" }}{{ "a" | sprig_quote }}`:                                                                                    `X"a"`,
		`{{ "a\nb" | indent 2 }}`: "  a\n  b",
		`{{ "" | parseInt }} {{ "7" | parseInt }} {{ "true" | parseBool }}`: "0 7 true",
	} {
		tmpl, err := Parse(Config{Name: "t", Text: text})
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		r, err := tmpl.Execute(world)
		if err != nil || len(r.Missing) > 0 || string(r.Output) != want {
			t.Errorf("%s: got %q, missing %v, %v; want %q", text, r.Output, r.Missing, err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{{ service "web|sick" }}`:    "the state is one of",
		`{{ service "a b" }}`:         "is not of the form",
		`{{ secret "x" }}`:            "Vault",
		`{{ mustEnv "RENDER_NONE" }}`: "RENDER_NONE is not set",
		`{{ divide 0 1 }}`:            "by zero",
		`{{ file "/etc/passwd" }}`:    "outside the sandbox",
		`{{ timestamp }}`:             "denylist",
		`{{ writeToFile "x" }}`:       "may not write",
	} {
		tmpl, err := Parse(Config{Name: "t", Text: text, SandboxPath: "/srv", FunctionDenylist: []string{"time*"}})
		if err == nil {
			_, err = tmpl.Execute(world)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	if _, err := Parse(Config{Name: "t", Text: "{{ range }}"}); err == nil {
		t.Error("a template that does not parse was parsed")
	}
}

// What is not known comes back as missing; a key that is not there, and a safe list or a
// safe service that is empty, are reasons to wait.
func TestMissing(t *testing.T) {
	t.Parallel()
	tmpl, err := Parse(Config{Name: "t", Text: `{{ range services }}{{ range service .Name }}{{ end }}{{ end }}{{ key "none" }}{{ range safeLs "no" }}{{ end }}{{ range safeService "web@dc2|warning,critical" }}{{ end }}{{ range safeService "web" }}{{ end }}{{ range safeService "db" }}{{ end }}`})
	if err != nil {
		t.Fatal(err)
	}
	r, err := tmpl.Execute(world)
	if err != nil {
		t.Fatal(err)
	}
	want := []Dependency{{Kind: Service, Name: "db", Filter: "passing"}, {Kind: Key, Name: "none"}, {Kind: Keys, Name: "no"},
		{Kind: Service, Name: "web", DC: "dc2", Filter: "critical,warning"}}
	if d := cmp.Diff(r.Missing, want); d != "" {
		t.Errorf("missing: got (-) want (+):\n%s", d)
	}
	if len(r.Used) != 6 {
		t.Errorf("used %d dependencies, want 6: %v", len(r.Used), r.Used)
	}
}

func TestDelimitersAndMissingKeys(t *testing.T) {
	t.Parallel()
	tmpl, err := Parse(Config{Name: "t", Text: `<< key "k" >> {{ x }}`, Left: "<<", Right: ">>"})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := tmpl.Execute(world); err != nil || string(r.Output) != "v {{ x }}" {
		t.Errorf("got %q, %v", r.Output, err)
	}
	strict, err := Parse(Config{Name: "t", Text: `{{ with parseJSON "{}" }}{{ .a }}{{ end }}{{ with parseJSON "{\"b\":1}" }}{{ .a }}{{ end }}`, ErrMissingKey: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := strict.Execute(world); err == nil {
		t.Error("a missing key is no error though it was asked to be")
	}
}

// Names and tags are anybody's: none of them may become configuration.
func TestNginx(t *testing.T) {
	t.Parallel()
	if a, b := nginxName("a/b"), nginxName("a_b"); a == b || strings.ContainsAny(a, "/ ;{}") {
		t.Errorf("nginxName: %q and %q", a, b)
	}
	list := []*Instance{
		instance("a", "10.0.0.2", 80, "host=Good.example", "host=bad name;", "urlprefix-fab.io/path"), instance("b", "::1", 81),
		instance("c", "evil; }", 80), instance("d", "0.0.0.0", 80), instance("e", "10.0.0.2", 80), instance("f", "10.0.0.3", 0),
	}
	list[1].Weights.Passing = 5
	if d := cmp.Diff(nginxServers(list), []NginxServer{{"10.0.0.2:80", 1}, {"[::1]:81", 5}}); d != "" {
		t.Errorf("nginxServers: got (-) want (+):\n%s", d)
	}
	if d := cmp.Diff(nginxHosts("we}b", list), []string{"fab.io", "good.example"}); d != "" {
		t.Errorf("nginxHosts: got (-) want (+):\n%s", d)
	}
}

func FuzzService(f *testing.F) {
	f.Add("tag.web@dc~near|any")
	f.Fuzz(func(_ *testing.T, s string) { _, _ = parseService(s) })
}

// One file for each element; what would leave its folder is refused.
func TestEach(t *testing.T) {
	t.Parallel()
	parse := func(pipeline, dest string) *Each {
		e, err := ParseEach(Config{Name: "t", Text: `{{ .Name }}: {{ range instances .Name }}{{ .ID }}{{ end }}`}, pipeline, dest)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	known := data{{Kind: Service, Name: "db", Filter: "passing"}: []*Instance{}}
	for k, v := range world {
		known[k] = v
	}
	out, res, err := parse("services", "/conf.d/{{ .Name }}.conf").ExecuteEach(known)
	if err != nil || len(res.Missing) > 0 {
		t.Fatal(res.Missing, err)
	}
	want := []Output{{"/conf.d/db.conf", []byte("db: ")}, {"/conf.d/web.conf", []byte("web: ab")}}
	if d := cmp.Diff(out, want); d != "" {
		t.Errorf("got (-) want (+):\n%s", d)
	}
	if d := cmp.Diff(res.Instances, map[string]int{"db": 0, "web": 2}); d != "" {
		t.Errorf("instances: got (-) want (+):\n%s", d)
	}
	if _, res, err := parse("services", "/conf.d/{{ .Name }}.conf").ExecuteEach(world); err != nil || len(res.Missing) != 1 {
		t.Errorf("with a service missing: %v, %v", res.Missing, err)
	}
	for _, dest := range []string{"/conf.d/{{ .Name }}/../../passwd", "/conf.d/x.conf", "/conf.d/.{{ .Name }}", "/conf.d/{{ .Name }}/x"} {
		if _, _, err := parse("services", dest).ExecuteEach(known); err == nil {
			t.Errorf("%s was accepted", dest)
		}
	}
	for _, bad := range []string{"nosuch", "services }}{{ end"} {
		if _, err := ParseEach(Config{Name: "t"}, bad, "/x"); err == nil {
			t.Errorf("the pipeline %q was accepted", bad)
		}
	}
}
