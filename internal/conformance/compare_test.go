package conformance

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// difference is one aspect in which two answers are not alike.
type difference struct {
	scenario string
	line     int
	request  string // as the scenario has it
	aspect   string // "status 404 not 405", "header X added", "body .A[].B changed", …
	ours     string
	theirs   string
}

func (d difference) String() string {
	show := func(s string) string {
		if !utf8.ValidString(s) || strings.ContainsRune(s, 0) {
			s = strconv.Quote(s)
		}
		return fmt.Sprintf("%.1000s", s)
	}
	return fmt.Sprintf("%s.txt:%d: %s: %s\n\tours:     %s\n\tConsul's: %s", d.scenario, d.line, show(d.request), d.aspect, show(d.ours), show(d.theirs))
}

// compare gives all differences between two answers to one step; where the statuses
// differ, there is nothing to compare beyond them.
func compare(ours, theirs *plain) []difference {
	var out []difference
	note := func(aspect string, a, b any) {
		out = append(out, difference{aspect: aspect, ours: fmt.Sprint(a), theirs: fmt.Sprint(b)})
	}
	if ours.status != theirs.status {
		note(fmt.Sprintf("status %d not %d", ours.status, theirs.status), fmt.Sprintf("%d %.300v", ours.status, ours.body), fmt.Sprintf("%d %.300v", theirs.status, theirs.body))
		return out
	}
	if ours.waited != theirs.waited {
		note("waited", ours.waited, theirs.waited)
	}
	for _, name := range names2(ours.header, theirs.header) {
		a, inA := ours.header[name]
		b, inB := theirs.header[name]
		switch {
		case !inB:
			note("header "+name+" added", a, "none")
		case !inA:
			note("header "+name+" missing", "none", b)
		case a != b:
			note("header "+name+" changed", a, b)
		}
	}
	if ours.layout != theirs.layout && ours.layout != "" && theirs.layout != "" {
		note("layout", ours.layout, theirs.layout)
	}
	values("", ours.body, theirs.body, note)
	return out
}

// values compares JSON values below a path. Array positions are left out of it.
func values(path string, a, b any, note func(string, any, any)) {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok {
			break
		}
		for _, k := range names2(a, b) {
			va, inA := a[k]
			vb, inB := b[k]
			at := path + "." + k
			switch {
			case !inB:
				note("body "+at+" added", va, "none")
			case !inA:
				note("body "+at+" missing", "none", vb)
			default:
				values(at, va, vb, note)
			}
		}
		return
	case []any:
		b, ok := b.([]any)
		if !ok {
			break
		}
		for i := range min(len(a), len(b)) {
			values(path+"[]", a[i], b[i], note)
		}
		switch {
		case len(a) > len(b):
			note("body "+path+"[] added", a[len(b):], "none")
		case len(a) < len(b):
			note("body "+path+"[] missing", "none", b[len(a):])
		}
		return
	}
	if fmt.Sprint(a) == fmt.Sprint(b) {
		return
	}
	switch {
	case path == "" && b == "":
		note("body . added", a, "none")
	case path == "" && a == "":
		note("body . missing", "none", b)
	case path == "" && strings.HasPrefix(fmt.Sprint(a), fmt.Sprint(b)):
		note("body . longer", a, b)
	case path == "":
		note("body . changed", a, b)
	default:
		note("body "+path+" changed", a, b)
	}
}

// names2 gives the keys of both maps, sorted.
func names2[V any](a, b map[string]V) []string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return slices.Sorted(maps.Keys(all))
}

// matches reports whether text fits a pattern, in which * stands for anything.
func matches(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	last := parts[len(parts)-1]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return len(text) >= len(last) && strings.HasSuffix(text, last)
}
