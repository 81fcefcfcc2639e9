package guard

import (
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
