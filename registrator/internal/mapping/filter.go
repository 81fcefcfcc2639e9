package mapping

import (
	"fmt"
	"path"
	"strings"

	"github.com/rollcall/rollcall/internal/docker"
)

// Filter says which containers are looked at: those that every term matches.
type Filter []term

type term struct {
	text       string
	not        bool
	kind       string
	key, value string
	hasValue   bool
}

// ParseFilter reads terms such as label:tier=web, name:web-*, image:nginx*, network:lan,
// project:shop; ! before a term turns it round. Commas separate terms.
func ParseFilter(values []string) (Filter, error) {
	var out Filter
	for _, v := range values {
		for _, s := range splitList(v) {
			t := term{text: s}
			rest, not := strings.CutPrefix(s, "!")
			t.not = not
			kind, arg, ok := strings.Cut(rest, ":")
			t.kind = kind
			switch {
			case !ok || arg == "":
				return nil, fmt.Errorf("%q: use label:<name>[=<value>], name:, image:, network: or project:<pattern>", s)
			case kind == "label":
				t.key, t.value, t.hasValue = strings.Cut(arg, "=")
			case kind == "name", kind == "image", kind == "network", kind == "project":
				t.value = arg
			default:
				return nil, fmt.Errorf("%q: there is no %q; use label, name, image, network or project", s, kind)
			}
			if _, err := path.Match(t.value, ""); err != nil && kind != "label" {
				return nil, fmt.Errorf("%q: %w", s, err)
			}
			out = append(out, t)
		}
	}
	return out, nil
}

// Match tells whether all terms match, and which one does not.
func (f Filter) Match(c *docker.Container) (ok bool, why string) {
	for _, t := range f {
		if t.match(c) == t.not {
			return false, t.text + " does not match"
		}
	}
	return true, ""
}

func (t term) match(c *docker.Container) bool {
	glob := func(s string) bool {
		ok, err := path.Match(t.value, s)
		return ok && err == nil
	}
	switch t.kind {
	case "label":
		v, ok := c.Labels[t.key]
		return ok && (!t.hasValue || v == t.value)
	case "name":
		return glob(c.Name)
	case "image":
		return c.Image == t.value || glob(c.Image) || glob(imageName(c.Image))
	case "network":
		for n := range c.Networks {
			if glob(n) {
				return true
			}
		}
	case "project":
		return glob(c.Labels["com.docker.compose.project"])
	}
	return false
}
