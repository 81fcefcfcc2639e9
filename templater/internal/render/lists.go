package render

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"dario.cat/mergo"
)

var listFuncs = template.FuncMap{
	"byKey":          byKey,
	"byTag":          byTag,
	"byPort":         byPort,
	"withTag":        func(tag string, list []*Instance) []*Instance { return tagged(tag, list, true) },
	"withoutTag":     func(tag string, list []*Instance) []*Instance { return tagged(tag, list, false) },
	"byMeta":         byMeta,
	"contains":       func(v, list any) bool { return in(list, v) },
	"containsAll":    containsWith(func(found, wanted int) bool { return found == wanted }, true),
	"containsAny":    containsWith(func(found, _ int) bool { return found > 0 }, false),
	"containsNone":   containsWith(func(found, _ int) bool { return found == 0 }, true),
	"containsNotAll": containsWith(func(found, wanted int) bool { return found < wanted }, false),
	"in":             in,
	"explode":        explode,
	"explodeMap":     explodeMap,
	"loop":           loop,
	"mergeMap":       func(a, b map[string]any) (map[string]any, error) { return merge(a, b) },
	"mergeMapWithOverride": func(a, b map[string]any) (map[string]any, error) {
		return merge(a, b, mergo.WithOverride)
	},
}

func byKey(pairs []*Pair) (map[string]map[string]*Pair, error) {
	out := map[string]map[string]*Pair{}
	for _, p := range pairs {
		top, rest, ok := strings.Cut(p.Key, "/")
		if !ok {
			continue
		}
		if out[top] == nil {
			out[top] = map[string]*Pair{}
		}
		c := *p
		c.Key = rest
		out[top][rest] = &c
	}
	return out, nil
}

func byTag(v any) (map[string][]any, error) {
	out := map[string][]any{}
	switch list := v.(type) {
	case nil:
	case []*ServiceName:
		for _, s := range list {
			for _, t := range s.Tags {
				out[t] = append(out[t], s)
			}
		}
	case []*Instance:
		for _, s := range list {
			for _, t := range s.Tags {
				out[t] = append(out[t], s)
			}
		}
	default:
		return nil, fmt.Errorf("byTag: a %T has no tags", v)
	}
	return out, nil
}

// tagged gives the instances that have a tag, or those that have not.
func tagged(tag string, list []*Instance, has bool) []*Instance {
	return slices.DeleteFunc(slices.Clone(list), func(i *Instance) bool { return slices.Contains(i.Tags, tag) != has })
}

func byPort(list []*Instance) map[int][]*Instance {
	out := map[int][]*Instance{}
	for _, s := range list {
		out[s.Port] = append(out[s.Port], s)
	}
	return out
}

var notWord = regexp.MustCompile(`[^\w\-]`)

// byMeta groups instances by meta keys, "a,b|int". A number is padded, none is zero; a
// key that is not there is "_no_KEY_".
func byMeta(keys string, list []*Instance) (map[string][]*Instance, error) {
	out := map[string][]*Instance{}
	for _, s := range list {
		var parts []string
		for k := range strings.SplitSeq(keys, ",") {
			name, whole := strings.CutSuffix(strings.TrimSpace(k), "|int")
			v := s.ServiceMeta[name]
			switch {
			case whole:
				n, err := parseWith(strconv.Atoi)(v)
				if err != nil {
					return nil, fmt.Errorf("byMeta: %s of %s is no number: %q", name, s.ID, v)
				}
				v = fmt.Sprintf("%05d", n)
			case v == "":
				v = "_no_" + name + "_"
			}
			parts = append(parts, notWord.ReplaceAllString(v, "_"))
		}
		id := strings.Join(parts, "_")
		out[id] = append(out[id], s)
	}
	return out, nil
}

// in reports whether a list, map or string holds a value; nothing else holds any.
func in(list, v any) bool {
	l := reflect.ValueOf(list)
	switch l.Kind() {
	case reflect.String:
		s, ok := v.(string)
		return ok && strings.Contains(l.String(), s)
	case reflect.Slice, reflect.Array:
		for i := range l.Len() {
			if same(l.Index(i).Interface(), v) {
				return true
			}
		}
	case reflect.Map:
		for _, k := range l.MapKeys() {
			if same(l.MapIndex(k).Interface(), v) {
				return true
			}
		}
	}
	return false
}

// same compares, numbers by value whatever their type.
func same(a, b any) bool {
	va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
	if numeric(va) && numeric(vb) {
		x, y, _ := numbers(a, b)
		return x == y
	}
	return reflect.DeepEqual(a, b)
}

func containsWith(ok func(found, wanted int) bool, none bool) func(wanted, list any) (bool, error) {
	return func(wanted, list any) (bool, error) {
		w := reflect.ValueOf(wanted)
		if !w.IsValid() {
			return none, nil
		}
		if w.Kind() != reflect.Slice && w.Kind() != reflect.Array {
			return false, fmt.Errorf("a %T is no list", wanted)
		}
		found := 0
		for i := range w.Len() {
			if in(list, w.Index(i).Interface()) {
				found++
			}
		}
		return ok(found, w.Len()), nil
	}
}

// explode makes nested maps of keys with slashes.
func explode(pairs []*Pair) (map[string]any, error) {
	flat := map[string]any{}
	for _, p := range pairs {
		flat[p.Key] = p.Value
	}
	return explodeMap(flat)
}

func explodeMap(flat map[string]any) (map[string]any, error) {
	out := map[string]any{}
	for _, k := range slices.Sorted(maps.Keys(flat)) {
		at := out
		parts := strings.Split(k, "/")
		for _, p := range parts[:len(parts)-1] {
			next, ok := at[p].(map[string]any)
			if !ok {
				if at[p] != nil {
					return nil, fmt.Errorf("explode: %q is a key and a folder", p)
				}
				next = map[string]any{}
				at[p] = next
			}
			at = next
		}
		last := parts[len(parts)-1]
		if last == "" && len(parts) > 1 { // a folder
			continue
		}
		if _, folder := at[last].(map[string]any); folder {
			return nil, fmt.Errorf("explode: %q is a key and a folder", last)
		}
		at[last] = flat[k]
	}
	return out, nil
}

// loop counts: loop N from 0 to N-1, loop A B from A to B-1.
func loop(args ...any) (<-chan int64, error) {
	var n []int64
	for _, a := range args {
		v := reflect.ValueOf(a)
		if s, ok := a.(string); ok {
			i, err := strconv.ParseInt(s, 10, 64)
			if err != nil {
				return nil, err
			}
			n = append(n, i)
			continue
		}
		if !numeric(v) {
			return nil, fmt.Errorf("loop: %v is no number", a)
		}
		n = append(n, integer(v))
	}
	switch len(n) {
	case 1:
		n = []int64{0, n[0]}
	case 2:
	default:
		return nil, errors.New("loop: want one or two numbers")
	}
	const most = 1 << 20
	if n[1]-n[0] > most {
		return nil, fmt.Errorf("loop: %d rounds are more than %d", n[1]-n[0], most)
	}
	c := make(chan int64, max(n[1]-n[0], 0)) // filled now: nobody is left to fill it when the template ends early
	for i := n[0]; i < n[1]; i++ {
		c <- i
	}
	close(c)
	return c, nil
}

// merge lays b over a copy of a: where both have a value, a's stays unless told otherwise.
func merge(a, b map[string]any, how ...func(*mergo.Config)) (map[string]any, error) {
	out := map[string]any{}
	if err := mergo.Merge(&out, a); err != nil { // deep, so that a stays as it is
		return nil, fmt.Errorf("mergeMap: %w", err)
	}
	if err := mergo.Merge(&out, b, how...); err != nil {
		return nil, fmt.Errorf("mergeMap: %w", err)
	}
	return out, nil
}
