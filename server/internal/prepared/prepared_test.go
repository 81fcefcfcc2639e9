package prepared

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
)

func template(name, re, text string) *api.PreparedQuery {
	return &api.PreparedQuery{
		Name: name, Template: api.QueryTemplate{Type: api.TemplatePrefixMatch, Regexp: re}, Service: api.ServiceQuery{Service: text},
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	web := api.ServiceQuery{Service: "web"}
	for name, c := range map[string]struct {
		q    api.PreparedQuery
		want string
	}{
		"fine":             {api.PreparedQuery{Name: "q", Service: web, DNS: api.QueryDNS{TTL: "10s"}}, ""},
		"no name":          {api.PreparedQuery{Service: web}, "Invalid prepared query: Must be bound to a session"},
		"session":          {api.PreparedQuery{Service: web, Session: "s"}, ""},
		"template":         {*template("", "", "${name.full}"), ""},
		"hidden token":     {api.PreparedQuery{Name: "q", Service: web, Token: api.HiddenToken}, "Invalid prepared query: Bad Token '<hidden>', it looks like a query definition with a redacted token was submitted"},
		"no service":       {api.PreparedQuery{Name: "q"}, "Invalid prepared query: Must provide a Service name to query"},
		"nearest":          {api.PreparedQuery{Name: "q", Service: api.ServiceQuery{Service: "web", Failover: api.QueryFailover{NearestN: -1}}}, "Invalid prepared query: Bad NearestN '-1', must be >= 0"},
		"ttl":              {api.PreparedQuery{Name: "q", Service: web, DNS: api.QueryDNS{TTL: "zz"}}, `Invalid prepared query: Bad DNS TTL 'zz': time: invalid duration "zz"`},
		"negative ttl":     {api.PreparedQuery{Name: "q", Service: web, DNS: api.QueryDNS{TTL: "-1s"}}, "Invalid prepared query: DNS TTL '-1000000000', must be >=0"},
		"meta":             {api.PreparedQuery{Name: "q", Service: api.ServiceQuery{Service: "web", NodeMeta: map[string]string{"a b": "c"}}}, `Invalid prepared query: invalid NodeMeta filters: key "a b" may hold letters, digits, - and _ only`},
		"kind of template": {api.PreparedQuery{Name: "q", Service: web, Template: api.QueryTemplate{Type: "x"}}, "failed compiling template: Bad Template.Type 'x'"},
		"regexp":           {*template("q", "((", "web"), "failed compiling template: Bad Regexp: error parsing regexp: missing closing ): `((`"},
		"variable":         {*template("q", "", "${nope}"), "failed compiling template: Bad evaluation for '${nope}' in Service.Service: unknown variable accessed: nope (there are name.full, name.prefix, name.suffix and match(N))"},
		"open":             {*template("q", "", "${name.full"), "failed compiling template: Bad evaluation for '${name.full' in Service.Service: ${ without a closing }"},
		"group":            {*template("q", "", "${match(x)}"), `failed compiling template: Bad evaluation for '${match(x)}' in Service.Service: match wants the number of a group, not "x"`},
	} {
		got := ""
		if err := Check(&c.q); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", name, got, c.want)
		}
	}
}

func TestRender(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ prefix, re, text, asked, want string }{
		"plain":         {"geo-", "", "web", "geo-x", "web"},
		"parts":         {"geo-", "", "${name.full}|${name.prefix}|${name.suffix}", "geo-x", "geo-x|geo-|x"},
		"in any case":   {"Geo-", "", "${name.suffix}", "geo-X", "X"},
		"groups":        {"geo-", "^geo-(.*?)-([^\\-]+?)$", "${match(2)}.${match(1)}.${match(0)}", "geo-a-b-c", "c.a-b.geo-a-b-c"},
		"no such group": {"geo-", "^geo-(.*)$", "<${match(7)}>", "geo-x", "<>"},
		"no match":      {"geo-", "^nope$", "<${match(0)}>", "geo-x", "<>"},
		"quoted group":  {"geo-", "^geo-(.*)$", `<${match("1")}>`, "geo-x", "<x>"},
		"spaces":        {"geo-", "", "${ name.suffix }", "geo-x", "x"},
		"escaped":       {"geo-", "", "$${name.full} ${name.suffix}", "geo-x", "${name.full} x"},
		"dollar":        {"geo-", "", "a$b}", "geo-x", "a$b}"},
		"segment":       {"geo-", "", "<${agent.segment}>", "geo-x", "<>"},
	} {
		compiled, err := Compile(template(c.prefix, c.re, c.text))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := compiled.Render(c.asked)
		if err != nil || got.Service.Service != c.want {
			t.Errorf("%s: got %q, %v, want %q", name, got.Service.Service, err, c.want)
		}
	}
}

// Every text of the query is filled in, and the definition stays as it was.
func TestRenderEverywhere(t *testing.T) {
	t.Parallel()
	const x = "${name.suffix}"
	def := template("p-", "", x)
	def.Template.RemoveEmptyTags = true
	def.Service.Near, def.Service.Tags, def.Service.IgnoreCheckIDs = x, []string{x, "${match(1)}", "!" + x}, []string{x}
	def.Service.Failover.Datacenters = []string{x}
	def.Service.NodeMeta, def.Service.ServiceMeta = map[string]string{"k": x}, map[string]string{"k": x}
	compiled, err := Compile(def)
	if err != nil {
		t.Fatal(err)
	}
	got, err := compiled.Render("p-v")
	want := api.ServiceQuery{
		Service: "v", Near: "v", Tags: []string{"v", "!v"}, IgnoreCheckIDs: []string{"v"}, Failover: api.QueryFailover{Datacenters: []string{"v"}},
		NodeMeta: map[string]string{"k": "v"}, ServiceMeta: map[string]string{"k": "v"},
	}
	if d := cmp.Diff(want, got.Service); d != "" || err != nil {
		t.Errorf("%v; want (-) got (+):\n%s", err, d)
	}
	if def.Service.Tags[0] != x || def.Service.NodeMeta["k"] != x || def.Service.Service != x {
		t.Errorf("the definition has changed: %+v", def.Service)
	}
}

func TestPasses(t *testing.T) {
	t.Parallel()
	instance := func(status string) *api.Instance {
		return &api.Instance{
			Node:    &api.Node{Meta: map[string]string{"rack": "1"}},
			Service: &api.Service{Tags: []string{"Blue", "v1"}, Meta: map[string]string{"version": "4"}},
			Checks:  []*api.Check{{CheckID: "a", Status: api.Passing}, {CheckID: "b", Status: status}},
		}
	}
	for name, c := range map[string]struct {
		q      api.ServiceQuery
		status string
		want   bool
	}{
		"passing":           {api.ServiceQuery{}, api.Passing, true},
		"warning":           {api.ServiceQuery{}, api.Warning, true},
		"critical":          {api.ServiceQuery{}, api.Critical, false},
		"only passing":      {api.ServiceQuery{OnlyPassing: true}, api.Warning, false},
		"ignored":           {api.ServiceQuery{OnlyPassing: true, IgnoreCheckIDs: []string{"b"}}, api.Critical, true},
		"another ignored":   {api.ServiceQuery{IgnoreCheckIDs: []string{"a"}}, api.Critical, false},
		"tag in any case":   {api.ServiceQuery{Tags: []string{"blue", "V1"}}, api.Passing, true},
		"a tag missing":     {api.ServiceQuery{Tags: []string{"blue", "v2"}}, api.Passing, false},
		"excluded":          {api.ServiceQuery{Tags: []string{"!BLUE"}}, api.Passing, false},
		"not excluded":      {api.ServiceQuery{Tags: []string{"!green", "blue"}}, api.Passing, true},
		"node meta":         {api.ServiceQuery{NodeMeta: map[string]string{"rack": "1"}}, api.Passing, true},
		"other node meta":   {api.ServiceQuery{NodeMeta: map[string]string{"rack": "2"}}, api.Passing, false},
		"empty, not there":  {api.ServiceQuery{NodeMeta: map[string]string{"row": ""}}, api.Passing, false},
		"service meta":      {api.ServiceQuery{ServiceMeta: map[string]string{"version": "4"}}, api.Passing, true},
		"of the mesh":       {api.ServiceQuery{Connect: true}, api.Passing, false},
		"no service's meta": {api.ServiceQuery{ServiceMeta: map[string]string{"rack": "1"}}, api.Passing, false},
	} {
		if got := Passes(&c.q, instance(c.status)); got != c.want {
			t.Errorf("%s: passes %v, want %v", name, got, c.want)
		}
	}
}

func FuzzRender(f *testing.F) {
	f.Add("geo-", "^geo-(.*)$", "${match(1)}-${name.suffix}$${x}", "geo-x")
	f.Add("", "", "${", "")
	f.Fuzz(func(t *testing.T, prefix, re, text, asked string) {
		c, err := Compile(template(prefix, re, text))
		if err != nil {
			return
		}
		if _, err := c.Render(asked); err != nil {
			t.Errorf("compiled, but not rendered for %q: %v", asked, err)
		}
	})
}
