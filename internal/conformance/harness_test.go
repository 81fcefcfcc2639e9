package conformance

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCompare: whatever differs is found, under the name that differences.txt calls it by.
func TestCompare(t *testing.T) {
	t.Parallel()
	base := func() *answer {
		return &answer{status: 200, took: time.Second, header: http.Header{"Content-Type": {"application/json"}, "X-Consul-Index": {"12"}},
			body: []byte(`[{"Key":"a","Tags":["x"],"ModifyIndex":12}]`)}
	}
	for want, change := range map[string]func(*answer){
		"":                              func(*answer) {},
		"status 404 not 200":            func(a *answer) { a.status = 404 },
		"header X-New added":            func(a *answer) { a.header.Set("X-New", "1") },
		"header Content-Type missing":   func(a *answer) { a.header.Del("Content-Type") },
		"header Content-Type changed":   func(a *answer) { a.header.Set("Content-Type", "text/plain") },
		"header X-Consul-Index changed": func(a *answer) { a.header.Set("X-Consul-Index", "1") },
		"layout":                        func(a *answer) { a.body = append(a.body, '\n') },
		"waited":                        func(a *answer) { a.took = 9 * time.Second },
		"body [].Key changed":           func(a *answer) { a.body = []byte(`[{"Key":"b","Tags":["x"],"ModifyIndex":12}]`) },
		"body [].Flags added":           func(a *answer) { a.body = []byte(`[{"Key":"a","Flags":1,"Tags":["x"],"ModifyIndex":12}]`) },
		"body [].Tags missing":          func(a *answer) { a.body = []byte(`[{"Key":"a","ModifyIndex":12}]`) },
		"body [].Tags changed":          func(a *answer) { a.body = []byte(`[{"Key":"a","Tags":null,"ModifyIndex":12}]`) },
		"body [].Tags[] added":          func(a *answer) { a.body = []byte(`[{"Key":"a","Tags":["x","y"],"ModifyIndex":12}]`) },
		"body [].Tags[] changed":        func(a *answer) { a.body = []byte(`[{"Key":"a","Tags":[1],"ModifyIndex":12}]`) },
		"body [].ModifyIndex changed":   func(a *answer) { a.body = []byte(`[{"Key":"a","Tags":["x"],"ModifyIndex":1}]`) },
		"body [] missing":               func(a *answer) { a.body = []byte(`[]`) },
		"body . changed":                func(a *answer) { a.body = []byte(`gone`) },
		"body . missing":                func(a *answer) { a.body = nil },
	} {
		st := &step{line: 1, method: "GET", target: "/v1/kv/a?wait=5s"}
		ours, theirs := base(), base()
		change(ours)
		var got []string
		for _, d := range compare(newNormal(&agent{}).of(st, ours), newNormal(&agent{}).of(st, theirs)) {
			got = append(got, d.aspect)
		}
		if fmt.Sprint(got) != fmt.Sprint(strings.FieldsFunc(want, func(r rune) bool { return r == ';' })) {
			t.Errorf("found %q, want %q", got, want)
		}
	}
}

// TestNormal: runs with other numbers are equal when the same things have changed.
func TestNormal(t *testing.T) {
	t.Parallel()
	play := func(port string, base, first, second int, id string) []string {
		n := newNormal(&agent{ports: map[string]string{port: "http"}, base: uint64(base)})
		var out []string
		for i, body := range []string{
			fmt.Sprintf(`{"ModifyIndex":%d,"At":"127.0.0.1:%s","Port":%s}`, base, port, port),
			fmt.Sprintf(`{"ModifyIndex":%d,"ID":%q}`, first, id),
			fmt.Sprintf(`{"ModifyIndex":%d,"CreateIndex":%d,"ID":%q,"LockIndex":3,"Time":"2026-01-02T03:04:05.6Z"}`, second, first, id),
		} {
			p := n.of(&step{line: 10 + i}, &answer{status: 200, header: http.Header{}, body: []byte(body)})
			out = append(out, fmt.Sprint(p.body))
		}
		return out
	}
	a := play("10001", 7, 9, 12, "aaaaaaaa-2000-3000-4000-500000000001")
	b := play("20002", 100, 150, 151, "bbbbbbbb-2000-3000-4000-500000000002")
	if !slices.Equal(a, b) {
		t.Errorf("two runs differ:\n%q\n%q", a, b)
	}
	if want := "map[CreateIndex:<index of line 11> ID:'<id of line 11>' LockIndex:3 ModifyIndex:<new index> Time:'<time>']"; a[2] != want {
		t.Errorf("got %s, want %s", a[2], want)
	}
	if c := play("10001", 7, 9, 9, "aaaaaaaa-2000-3000-4000-500000000001"); slices.Equal(a, c) {
		t.Error("an index that has not moved goes unnoticed")
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, text string
		want          bool
	}{
		{"a", "a", true}, {"a", "ab", false}, {"*", "", true}, {"a*", "abc", true}, {"*c", "abc", true}, {"a*c", "ac", true}, {"a*b*c", "axbxc", true},
		{"a*b*c", "axcxc", false}, {"ab*b", "ab", false}, {"* /v1/*", "GET /v1/kv", true},
	} {
		if got := matches(c.pattern, c.text); got != c.want {
			t.Errorf("matches(%q, %q) = %v", c.pattern, c.text, got)
		}
	}
}
