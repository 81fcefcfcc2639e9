package filter

import (
	"strings"
	"testing"
)

type check struct{ Name, Status string }

type node struct {
	Node string
	Meta map[string]string
}

type row struct {
	Node   *node
	Port   int
	Tags   []string
	Checks []*check
	Tagged map[string]struct{ Address string }

	EnableTagOverride bool
	hidden            string // what is not exported is no selector
}

var one = &row{
	hidden: "x",
	Node:   &node{Node: "n1", Meta: map[string]string{"rack": "r1", `odd "key`: "v`1"}}, Port: 80, Tags: []string{"a", "b"},
	Checks: []*check{{"mem", "passing"}, {"disk", "critical"}}, Tagged: map[string]struct{ Address string }{"lan": {"10.0.0.1"}},
}

func TestMatch(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		`Port == 80`: true, `Port != 80`: false, `Node.Node == n1`: true, `Node.Meta.rack == r1`: true, `rack in Node.Meta`: true,
		`Node.Meta["rack"] == "r1"`: true, `Node.Meta.none == x`: false, `Node.Meta.none != x`: true, `Node.Meta is empty`: false,
		`a in Tags`: true, `c not in Tags`: true, `Tags contains b`: true, `Tags is not empty`: true, `not a in Tags`: false,
		`Node.Node matches "^n[0-9]$"`: true, `Node.Node not matches "^x"`: true, `Tagged.lan.Address == "10.0.0.1"`: true,
		`Node.Meta["odd \x22key"] == "v\x601"`: true, `"/Node/Meta/rack" == r1`: true,
		`Port == 81 or Port == 80 and Node.Node == n1`: true, `(Port == 81 or Port == 80) and not Node.Node == n1`: false,
		`not (Port == 80 and Port == 81)`: true, `not not Port == 80`: true, `Port == 80 or Port == word`: true, `Port == 81 and Port == word`: false,
		`Port == 80` + strings.Repeat(` and Port == 80`, 200): true, `Port == 81` + strings.Repeat(` or Port == 81`, 200): false,
		`(((((Port == 80)))))`: true, `Node.Node == "(" or Port == 80`: true, "Node.Node == `(` or Port == 80": true, `Node.Node == "\x22(" or Port == 80`: true,
		// a key that others have
		`Tagged.wan.Address == "10.0.0.1"`: false, `Tagged.wan.Address != "10.0.0.1"`: true, `Tagged.wan.Address is empty`: true, `not Tagged.wan.Address matches "."`: true,
		// of the service mesh there is nothing
		`Kind == ""`: true, `Kind != "connect-proxy"`: true, `Connect.Native == false`: true, `Proxy.DestinationServiceName == web`: false, `Port == 80 and Kind == proxy`: false,
		// through a list, for any
		`Checks.Status == critical`: true, `Checks.Status == warning`: false, `Checks.Status != critical`: true,
		`not Checks.Status == critical`: false, `Checks.Name matches "^d" and Checks.Status == passing`: true, `Checks is empty`: false,
		`Checks.0.Status == passing`: true, `Checks.1.Status == passing`: false,
		// what go-bexpr has of its own
		`any Checks as c { c.Status == critical and c.Name == mem }`: false, `any Checks as c { c.Status == critical and c.Name == disk }`: true,
		`any Checks as c { (c.Status == passing or c.Status == critical) and not (c.Name == mem or c.Name == x) and c.Name == disk }`: true,
		`any Checks as c { not (c.Status == critical and c.Name == disk) and c.Name == disk }`:                                        false,
		`all Checks as _, c { c.Status == passing }`:                                                                                  false, `(any Checks as i, c { c.Status == passing }) or Port == 81`: true,
	} {
		f, err := Compile(text, one)
		if err != nil {
			t.Errorf("Compile(%s): %v", text, err)
			continue
		}
		if got, err := f.Match(one); err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
}

func TestRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`Nope == 1`: `Selector "Nope" is not valid`, `Node.Nope == 1`: `Selector "Node.Nope" is not valid`, `Port.x == 1`: `Selector "Port.x" is not valid`,
		`Checks.Nope == 1`: `Selector "Checks.Nope" is not valid`, `Connect.Nope == 1`: `Selector "Connect.Nope" is not valid`, `hidden == 1`: `Selector "hidden" is not valid`, `Tags.x.y == 1`: `is not valid`,
		`any Nope as x { x == 1 }`: `Selector "Nope" is not valid`, `"/Nope" == 1`: `is not valid`,
		``: "no match found", `Port`: "no match found", `Port ==`: "no match found", `(Port == 80`: "nmatched parentheses", `Port == 80)`: "nmatched parentheses", strings.Repeat("(", 50): "nmatched parentheses",
		strings.Repeat("(", 50) + "Port == 80" + strings.Repeat(")", 50): "max number of expressions", `Port == "x`: "nterminated string",
	} {
		if _, err := Compile(text, one); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Compile(%s): %v, want %q", text, err, want)
		}
	}
	f, err := Compile("Port == word", one)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Match(one); err == nil {
		t.Error("a port was compared with a word")
	}
}

// FuzzCompile: whatever is asked, it is refused or answered.
func FuzzCompile(f *testing.F) {
	for _, text := range []string{`Port == 80`, `Checks.Status == critical`, `any Checks as c { c.Name == "x" }`, `"/Node/Meta/rack" in Tags`, `not (a in Tags)`} {
		f.Add(text)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		if c, err := Compile(text, one); err == nil {
			c.Match(one)
		}
	})
}
