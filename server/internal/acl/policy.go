package acl

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

const prefixWord = "_prefix"

// foreign are words of areas that Rollcall leaves out. What only gives rights there is
// passed over; of what would mean something else without them the policy is refused.
var (
	foreign = []string{"mesh", "peering", "identity", "identity_prefix"}
	refused = map[string]string{
		"namespace": "namespaces", "namespace_prefix": "namespaces", "partition": "admin partitions", "partition_prefix": "admin partitions",
	}
)

// Parse reads a policy in today's syntax, as HCL or JSON.
func Parse(text string) (Policy, error) { return parse(text, false) }

// ParseLegacy reads a policy in the syntax of before 1.4, where every name is a prefix.
func ParseLegacy(text string) (Policy, error) { return parse(text, true) }

func parse(text string, legacy bool) (Policy, error) {
	b, _, err := syntax(text)
	if err != nil {
		return nil, err
	}
	var out Policy
	err = each(b, legacy, func(s statement) error {
		r, ok, err := s.rule()
		if ok {
			out = append(out, r)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// statement is one rule as it is written.
type statement struct {
	kind   string // with _prefix
	name   string
	scalar bool // `kind = "word"`
	legacy bool
	value  any // the word, or the body
	at     place
}

// each gives the statements of a text, however they are nested: `key "a" {…}`,
// `key { a {…} }`, `key = [{ a = {…} }]`.
func each(b body, legacy bool, do func(statement) error) error {
	for _, it := range b {
		kind := it.keys[0]
		plain := Resource(strings.TrimSuffix(kind, prefixWord))
		s := statement{kind: kind, legacy: legacy, at: it.at}
		switch {
		case slices.Contains(foreign, kind):
			continue
		case refused[kind] != "":
			return fmt.Errorf("at %s: %s: %s are left out of Rollcall; give the rules without them", it.at, kind, refused[kind])
		case scalars[Resource(kind)]:
			word, ok := it.value.(string)
			if !ok || len(it.keys) > 1 {
				return fmt.Errorf("at %s: %s has no names: write %s = \"read\"", it.at, kind, kind)
			}
			s.scalar, s.value = true, word
			if err := do(s); err != nil {
				return err
			}
		case named[plain] && (!legacy || kind == string(plain)):
			if err := eachName(s, it.keys[1:], it.value, 0, do); err != nil {
				return err
			}
		default:
			return fmt.Errorf("at %s: %q is nothing that rights are about: %s", it.at, kind, vocabulary(legacy))
		}
	}
	return nil
}

func vocabulary(legacy bool) string {
	var out []string
	for r := range scalars {
		out = append(out, string(r))
	}
	for r := range named {
		out = append(out, string(r))
		if !legacy {
			out = append(out, string(r)+prefixWord)
		}
	}
	slices.Sort(out)
	return "there are " + strings.Join(out, ", ")
}

// eachName unfolds the names of a kind.
func eachName(s statement, names []string, value any, depth int, do func(statement) error) error {
	if list, ok := value.([]any); ok && depth <= 2*deepest {
		for _, v := range list {
			if err := eachName(s, names, v, depth+1, do); err != nil {
				return err
			}
		}
		return nil
	}
	b, ok := value.(body)
	switch {
	case !ok || len(names) > 1:
		return fmt.Errorf("at %s: %s: write %s \"name\" { policy = \"read\" }", s.at, s.kind, s.kind)
	case len(names) == 1:
		s.name, s.value = names[0], b
		return do(s)
	}
	for _, it := range b {
		s.at = it.at
		if err := eachName(s, it.keys, it.value, depth+1, do); err != nil {
			return err
		}
	}
	return nil
}

// rule gives a statement's meaning; ok is false where it gives nothing.
func (s statement) rule() (r Rule, ok bool, err error) {
	plain, prefix := strings.CutSuffix(s.kind, prefixWord)
	r = Rule{Resource: Resource(plain), Name: s.name, Prefix: prefix || s.legacy && !s.scalar}
	if s.scalar {
		r.Access, ok = accessOf(s.value.(string), r.Resource)
		if !ok {
			return r, false, s.wrong(s.value)
		}
		return r, true, nil
	}
	said := false
	for _, it := range s.value.(body) {
		switch it.keys[0] {
		case "policy":
			said = true
			word, _ := it.value.(string)
			if r.Access, ok = accessOf(word, r.Resource); !ok {
				return r, false, s.wrong(it.value)
			}
		case "intentions": // of the service mesh: nothing here heeds them
			said = true
		case "sentinel":
			return r, false, fmt.Errorf("at %s: %s %q: sentinel code is left out of Rollcall, and the rule would give more without it", it.at, s.kind, s.name)
		default:
			return r, false, fmt.Errorf("at %s: %s %q: %q has no meaning here: write policy = \"read\"", it.at, s.kind, s.name, it.keys[0])
		}
	}
	if !said {
		return r, false, fmt.Errorf("at %s: Invalid %s policy: %s %q says none: write policy = \"read\"", s.at, plain, s.kind, s.name)
	}
	return r, ok, nil
}

func (s statement) wrong(got any) error {
	choice := "read, write or deny"
	if strings.HasPrefix(s.kind, string(Key)) && !strings.HasPrefix(s.kind, string(Keyring)) {
		choice = "read, list, write or deny"
	}
	what := s.kind
	if !s.scalar {
		what = fmt.Sprintf("%s %q", s.kind, s.name)
	}
	return fmt.Errorf("at %s: Invalid %s policy: %s: %v is none of %s", s.at, strings.TrimSuffix(s.kind, prefixWord), what, got, choice)
}

// Translate gives a policy of before 1.4 in today's syntax, with the same meaning and the
// same comments.
func Translate(text string) (string, error) {
	b, remarks, err := syntax(text)
	if err != nil {
		return "", err
	}
	out := translation{remarks: remarks}
	err = each(b, true, func(s statement) error {
		if _, _, err := s.rule(); err != nil {
			return err
		}
		out.behind()
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		out.above(s.at.line, "")
		if out.line = s.at.line; s.scalar {
			fmt.Fprintf(&out, "%s = %q\n", s.kind, s.value)
			return nil
		}
		fmt.Fprintf(&out, "%s%s %q {\n", s.kind, prefixWord, s.name)
		for _, it := range s.value.(body) {
			if word, ok := it.value.(string); ok {
				out.above(it.at.line, "  ")
				fmt.Fprintf(&out, "  %s = %q\n", it.keys[0], word)
				if out.line = it.at.line; out.line != s.at.line {
					out.behind()
				}
			}
		}
		out.WriteString("}\n")
		return nil
	})
	if err != nil {
		return "", err
	}
	out.behind()
	if len(out.remarks) > 0 {
		out.WriteString("\n")
		out.above(math.MaxInt, "")
		return out.String(), nil // as Consul's ends then
	}
	return strings.TrimSuffix(out.String(), "\n"), nil
}

// translation is a text in the making, and the comments that are to come.
type translation struct {
	strings.Builder
	remarks []remark
	line    int // of the old text: where the last that was written stood
}

// above writes the comments that stand above a line.
func (t *translation) above(line int, indent string) {
	for len(t.remarks) > 0 && t.remarks[0].line < line {
		fmt.Fprintf(t, "%s%s\n", indent, t.remarks[0].text)
		t.remarks = t.remarks[1:]
	}
}

// behind appends the comment that stands behind the last that was written.
func (t *translation) behind() {
	if len(t.remarks) == 0 || t.remarks[0].line != t.line || t.Len() == 0 {
		return
	}
	text := strings.TrimSuffix(t.String(), "\n")
	t.Reset()
	fmt.Fprintf(t, "%s %s\n", text, t.remarks[0].text)
	t.remarks = t.remarks[1:]
}
