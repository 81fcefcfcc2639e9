package guard

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestUpstreams(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		conf string
		want map[string]int
	}{
		"two":            {"upstream a { server 1:1; server 2:2 weight=3; }\nupstream b{zone b 1m;server 3:3;}", map[string]int{"a": 2, "b": 1}},
		"empty":          {"upstream a { }", map[string]int{"a": 0}},
		"only a zone":    {"upstream a { zone a 64k; }", map[string]int{"a": 0}},
		"in a comment":   {"upstream a { # server 1:1;\n }", map[string]int{"a": 0}},
		"in quotes":      {`upstream a { server "1:1"; }`, map[string]int{"a": 1}},
		"another server": {"server { listen 80; location / { return 503 \"upstream x { }\"; } }", map[string]int{}},
		"inside http":    {"http { upstream a { server 1:1; } }", map[string]int{"a": 1}},
		"no nginx":       {"hello: {world}", map[string]int{}},
	} {
		if d := cmp.Diff(Upstreams([]byte(c.conf)), c.want); d != "" {
			t.Errorf("%s: got (-) want (+):\n%s", name, d)
		}
	}
}

func TestPlaces(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		conf string
		want []string
	}{
		"each once, in order": {"upstream a { server 2:2 weight=3; server 1:1; }\nupstream b{zone b 1m;server 1:1;}", []string{"1:1", "2:2"}},
		"not the one down":    {"upstream a { server 1:1; server [::1]:80 down; }", []string{"1:1"}},
		"no upstream":         {"server { listen 80; }", nil},
	} {
		if d := cmp.Diff(Places([]byte(c.conf)), c.want); d != "" {
			t.Errorf("%s: got (-) want (+):\n%s", name, d)
		}
	}
}

func TestEmptyAndBlank(t *testing.T) {
	t.Parallel()
	if err := Empty([]byte("upstream a { }")); err == nil {
		t.Error("an empty upstream passed")
	}
	if err := Empty([]byte("upstream a { server 1:1; }")); err != nil {
		t.Error(err)
	}
	if !Blank([]byte(" \n# only words\n")) || Blank([]byte("x;")) {
		t.Error("Blank is wrong")
	}
}

func TestSame(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		a, b string
		want bool
	}{
		"space and comments": {"a b; # one\n", "  a\n b ;# two", true},
		"a word":             {"a b;", "a c;", false},
		"quotes":             {`a ";";`, `a ;;`, false},
		"order":              {"a; b;", "b; a;", false},
		"both empty":         {"", "# x", true},
	} {
		if got := Same([]byte(c.a), []byte(c.b)); got != c.want {
			t.Errorf("%s: got %t, want %t", name, got, c.want)
		}
	}
}

// Shrink is judged service by service.
func TestShrink(t *testing.T) {
	t.Parallel()
	before := map[string]int{"web": 10, "api": 2}
	for name, c := range map[string]struct {
		limits Limits
		after  map[string]int
		want   string
	}{
		"no limits":               {Limits{}, map[string]int{}, ""},
		"10 to 6 of 50%":          {Limits{MaxShrinkPercent: 50}, map[string]int{"web": 6, "api": 2}, ""},
		"10 to 3 of 50%":          {Limits{MaxShrinkPercent: 50}, map[string]int{"web": 3, "api": 2}, "web would go from 10 instances to 3"},
		"exactly half":            {Limits{MaxShrinkPercent: 50}, map[string]int{"web": 5, "api": 1}, ""},
		"gone":                    {Limits{MaxShrinkPercent: 50}, map[string]int{"web": 10}, "api would go from 2 instances to 0"},
		"below the least":         {Limits{MinInstances: 2}, map[string]int{"web": 2, "api": 1}, "api would have 1 instance"},
		"growing below the least": {Limits{MinInstances: 5}, map[string]int{"web": 10, "api": 3}, ""},
	} {
		err := c.limits.Check(before, c.after)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func FuzzTokens(f *testing.F) {
	f.Add([]byte(`upstream a { server "1:1"; } # x`))
	f.Add([]byte(`a \; ${b} 'c`))
	f.Fuzz(func(t *testing.T, b []byte) {
		last := 0
		Tokens(b, func(k Token) {
			if k.Start < last || k.End <= k.Start || k.End > len(b) {
				t.Fatalf("token %+v after %d of %d bytes", k, last, len(b))
			}
			last = k.End
		})
	})
}
