package prepared

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// variables are what the strings of a template may use.
type variables struct {
	full, prefix, suffix string
	matches              []string // of the regexp; nil where it does not match
}

// filler replaces the expressions in strings, and remembers the first fault.
type filler struct {
	vars variables
	err  error
}

func (f *filler) one(path string, s *string) {
	out, err := f.vars.expand(*s)
	if err != nil && f.err == nil {
		f.err = api.Errorf(api.Internal, "Bad evaluation for '%s' in %s: %v", *s, path, err)
	}
	*s = out
}

func (f *filler) list(path string, in []string) []string {
	out := slices.Clone(in)
	for i := range out {
		f.one(path+"["+strconv.Itoa(i)+"]", &out[i])
	}
	return out
}

func (f *filler) pairs(path string, in map[string]string) map[string]string {
	out := maps.Clone(in)
	for _, k := range slices.Sorted(maps.Keys(in)) {
		v := in[k]
		f.one(path+"["+k+"]", &v)
		out[k] = v
	}
	return out
}

// expand replaces every ${…} in a text; $${ stands for ${ itself.
func (v *variables) expand(text string) (string, error) {
	var b strings.Builder
	rest := text
	for {
		i := strings.Index(rest, "${")
		if i < 0 {
			b.WriteString(rest)
			return b.String(), nil
		}
		if i > 0 && rest[i-1] == '$' {
			b.WriteString(rest[:i-1])
			b.WriteString("${")
			rest = rest[i+2:]
			continue
		}
		end := strings.IndexByte(rest[i:], '}')
		if end < 0 {
			return "", api.Errorf(api.Internal, "${ without a closing }")
		}
		value, err := v.value(strings.TrimSpace(rest[i+2 : i+end]))
		if err != nil {
			return "", err
		}
		b.WriteString(rest[:i])
		b.WriteString(value)
		rest = rest[i+end+1:]
	}
}

// value gives what an expression stands for.
func (v *variables) value(expr string) (string, error) {
	switch expr {
	case "name.full":
		return v.full, nil
	case "name.prefix":
		return v.prefix, nil
	case "name.suffix":
		return v.suffix, nil
	case "agent.segment":
		return "", nil
	}
	if arg, ok := strings.CutPrefix(expr, "match("); ok {
		if arg, ok = strings.CutSuffix(arg, ")"); ok {
			n, err := strconv.Atoi(strings.Trim(strings.TrimSpace(arg), `"`)) // a text that is a number is one
			if err != nil || n < 0 {
				return "", api.Errorf(api.Internal, "match wants the number of a group, not %q", arg)
			}
			if n >= len(v.matches) { // also where the expression did not match at all
				return "", nil
			}
			return v.matches[n], nil
		}
	}
	return "", api.Errorf(api.Internal, "unknown variable accessed: %s (there are name.full, name.prefix, name.suffix and match(N))", expr)
}
