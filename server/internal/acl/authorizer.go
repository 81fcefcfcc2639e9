package acl

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Authorizer answers what one set of policies allows. It is immutable; all methods may be
// called concurrently.
type Authorizer struct {
	allow bool // what holds where no rule speaks
	acl   bool // the same for ACL
	rules map[Resource]*rules
	sees  string
}

// rules are those of one resource.
type rules struct {
	exact    map[string]Access
	prefixes map[string]Access
	lengths  []int // of the prefixes, the longest first
}

// New merges policies. allow is the default policy's word on what no rule speaks of.
func New(allow bool, policies ...Policy) *Authorizer {
	a := &Authorizer{allow: allow, rules: map[Resource]*rules{}}
	for _, p := range policies {
		for _, r := range p {
			a.add(r)
		}
	}
	for _, r := range a.rules {
		for p := range r.prefixes {
			if !slices.Contains(r.lengths, len(p)) {
				r.lengths = append(r.lengths, len(p))
			}
		}
		slices.SortFunc(r.lengths, func(a, b int) int { return b - a })
	}
	a.sees = a.view()
	return a
}

// Everything allows all, the resource acl included: what holds where ACLs are off, and of
// operations that the servers carry out themselves.
func Everything() *Authorizer { return everything }

var everything = &Authorizer{allow: true, acl: true}

// fold gives a name as rules compare it. The catalog knows nodes, services and queries in any
// case, so rights do too: a rule for web holds for WEB, which is the same service.
func fold(res Resource, name string) string {
	if res == Key || res == Event {
		return name
	}
	return strings.ToLower(name)
}

func (a *Authorizer) add(r Rule) {
	to := a.rules[r.Resource]
	if to == nil {
		to = &rules{exact: map[string]Access{}, prefixes: map[string]Access{}}
		a.rules[r.Resource] = to
	}
	set := to.exact
	if r.Prefix {
		set = to.prefixes
	}
	name := fold(r.Resource, r.Name)
	if stronger(r.Access, set[name]) {
		set[name] = r.Access
	}
}

// at gives what the rules say of a name, Unset where they say nothing.
func (r *rules) at(name string) Access {
	if r == nil {
		return Unset
	}
	if v, ok := r.exact[name]; ok {
		return v
	}
	return r.below(name)
}

// below gives what the longest prefix of a name says.
func (r *rules) below(name string) Access {
	if r == nil {
		return Unset
	}
	for _, n := range r.lengths {
		if n <= len(name) {
			if v, ok := r.prefixes[name[:n]]; ok {
				return v
			}
		}
	}
	return Unset
}

// byDefault is what holds of a resource where no rule speaks.
func (a *Authorizer) byDefault(res Resource) bool {
	if res == ACL {
		return a.acl
	}
	return a.allow
}

func (a *Authorizer) verdict(res Resource, have, want Access) bool {
	if have == Unset {
		return a.byDefault(res)
	}
	return have != Deny && have >= want
}

// Allowed reports whether want may be done with what is called name; name is "" for a
// resource without names.
func (a *Authorizer) Allowed(res Resource, name string, want Access) bool {
	return a.verdict(res, a.rules[res].at(fold(res, name)), want)
}

// AllowedTree reports whether want may be done with everything whose name begins with
// prefix, also where that does not exist yet: what removing a whole tree of keys needs,
// and reading all services.
func (a *Authorizer) AllowedTree(res Resource, prefix string, want Access) bool {
	r := a.rules[res]
	prefix = fold(res, prefix)
	if !a.verdict(res, r.below(prefix), want) {
		return false
	}
	if r == nil {
		return true
	}
	for _, set := range []map[string]Access{r.exact, r.prefixes} {
		for name, have := range set {
			if strings.HasPrefix(name, prefix) && (have == Deny || have < want) {
				return false
			}
		}
	}
	return true
}

// AllowedList reports whether the keys below a prefix may be listed where listing is a
// right of its own (acl.enable_key_list_policy).
func (a *Authorizer) AllowedList(prefix string) bool {
	return a.verdict(Key, a.rules[Key].below(prefix), List)
}

// AllowedAny reports whether want may be done with anything at all of a resource.
func (a *Authorizer) AllowedAny(res Resource, want Access) bool {
	r := a.rules[res]
	if r == nil {
		return a.byDefault(res)
	}
	for _, set := range []map[string]Access{r.exact, r.prefixes} {
		for _, have := range set {
			if have != Deny && have >= want {
				return true
			}
		}
	}
	return r.below("") == Unset && a.byDefault(res)
}

// View is equal for authorizers that see the same of the same data; it is "" for one that
// sees all. Answers that were filtered may be shared by those of one view.
func (a *Authorizer) View() string { return a.sees }

func (a *Authorizer) view() string {
	whole := true
	for res := range named {
		whole = whole && a.AllowedTree(res, "", Read)
	}
	if whole {
		return ""
	}
	var lines []string
	for res, r := range a.rules {
		for name, have := range r.exact {
			lines = append(lines, fmt.Sprintf("%s %q = %s", res, name, have))
		}
		for name, have := range r.prefixes {
			lines = append(lines, fmt.Sprintf("%s_prefix %q = %s", res, name, have))
		}
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(fmt.Sprint(a.allow, "\n", strings.Join(lines, "\n"))))
	return hex.EncodeToString(sum[:])
}
