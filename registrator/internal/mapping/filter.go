package mapping

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/rollcall/rollcall/internal/docker"
)

// Filter says which containers are looked at. The zero value lets all through.
type Filter struct{ all []*condition }

// condition is a term, or others joined by an operator. It is not changed once parsed.
type condition struct {
	text  string
	op    string // "" for a term; !, && or ||
	parts []*condition
	kind  string // of a term
	key   string // of a label
	value string // a pattern
	any   bool   // of a label: its value does not matter
}

// ParseFilter reads expressions of terms such as label:tier=web, name:web-*, image:nginx*,
// network:lan, project:shop and service:cart, joined by &&, || and !, with parentheses.
// A comma or a blank between terms is &&. Each value is one expression; all must match.
func ParseFilter(values []string) (Filter, error) {
	var out Filter
	for _, v := range values {
		tokens, err := tokenize(v)
		if err != nil {
			return Filter{}, err
		}
		if len(tokens) == 0 {
			continue
		}
		p := &filterParser{text: v, left: tokens}
		c, err := p.or(0)
		if err == nil && len(p.left) > 0 {
			err = fmt.Errorf("%q: unexpected %q", v, p.left[0])
		}
		if err != nil {
			return Filter{}, err
		}
		out.all = append(out.all, c)
	}
	return out, nil
}

// tokenize cuts an expression into operators, parentheses and terms. Inside a term, what
// stands in double quotes may hold anything but those.
func tokenize(v string) ([]string, error) {
	var out []string
	var word strings.Builder
	end := func() {
		if word.Len() > 0 {
			out = append(out, word.String())
			word.Reset()
		}
	}
	for i := 0; i < len(v); i++ {
		switch two := v[i:min(i+2, len(v))]; {
		case v[i] == '"':
			n := strings.IndexByte(v[i+1:], '"')
			if n < 0 {
				return nil, fmt.Errorf("%q: a quote is not closed", v)
			}
			word.WriteString(v[i+1 : i+1+n])
			i += n + 1
		case two == "&&" || two == "||":
			end()
			out = append(out, two)
			i++
		case v[i] == '(' || v[i] == ')' || v[i] == '!' && word.Len() == 0:
			end()
			out = append(out, v[i:i+1])
		case strings.IndexByte(", \t\n", v[i]) >= 0:
			end()
		default:
			word.WriteByte(v[i])
		}
	}
	end()
	return out, nil
}

// filterParser reads tokens from the left.
type filterParser struct {
	text string
	left []string
}

const maxDepth = 64 // of parentheses and negations; deeper is a mistake

func (p *filterParser) peek() string {
	if len(p.left) == 0 {
		return ""
	}
	return p.left[0]
}

func (p *filterParser) or(depth int) (*condition, error) {
	return p.join("||", depth, p.and)
}

func (p *filterParser) and(depth int) (*condition, error) {
	return p.join("&&", depth, p.unary)
}

// join reads what next reads, once or more, with op between; && may be left out.
func (p *filterParser) join(op string, depth int, next func(int) (*condition, error)) (*condition, error) {
	first, err := next(depth)
	if err != nil {
		return nil, err
	}
	parts := []*condition{first}
	for {
		t := p.peek()
		if t == op {
			p.left = p.left[1:]
		} else if t == "" || t == "||" || t == ")" || op == "||" {
			break
		}
		c, err := next(depth)
		if err != nil {
			return nil, err
		}
		parts = append(parts, c)
	}
	if len(parts) == 1 {
		return first, nil
	}
	text := make([]string, len(parts))
	for i, c := range parts {
		text[i] = c.text
	}
	return &condition{text: "(" + strings.Join(text, " "+op+" ") + ")", op: op, parts: parts}, nil
}

func (p *filterParser) unary(depth int) (*condition, error) {
	t := p.peek()
	if t == "" {
		return nil, fmt.Errorf("%q: a term is missing at the end", p.text)
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("%q is nested too deeply", p.text)
	}
	p.left = p.left[1:]
	switch t {
	case "!":
		c, err := p.unary(depth + 1)
		if err != nil {
			return nil, err
		}
		return &condition{text: "!" + c.text, op: "!", parts: []*condition{c}}, nil
	case "(":
		c, err := p.or(depth + 1)
		if err != nil {
			return nil, err
		}
		if p.peek() != ")" {
			return nil, fmt.Errorf("%q: a parenthesis is not closed", p.text)
		}
		p.left = p.left[1:]
		return c, nil
	case ")", "&&", "||":
		return nil, fmt.Errorf("%q: a term is missing before %q", p.text, t)
	}
	return parseTerm(t)
}

func parseTerm(s string) (*condition, error) {
	c := &condition{text: s}
	kind, arg, ok := strings.Cut(s, ":")
	c.kind = kind
	switch {
	case !ok || arg == "":
		return nil, fmt.Errorf("%q: use label:<name>[=<value>], name:, image:, network:, project: or service:<pattern>", s)
	case kind == "label":
		var given bool
		c.key, c.value, given = strings.Cut(arg, "=")
		c.any = !given
	case kind == "name", kind == "image", kind == "network", kind == "project", kind == "service":
		c.value = arg
	default:
		return nil, fmt.Errorf("%q: there is no %q; use label, name, image, network, project or service", s, kind)
	}
	if _, err := path.Match(c.value, ""); errors.Is(err, path.ErrBadPattern) && kind != "label" {
		return nil, fmt.Errorf("%q: %w", s, err)
	}
	return c, nil
}

// Match tells whether a container is let through, and which condition it does not meet.
func (f Filter) Match(c *docker.Container) (ok bool, why string) {
	for _, x := range f.all {
		if x.op == "&&" { // tell which of them
			if ok, why := (Filter{all: x.parts}).Match(c); !ok {
				return false, why
			}
		} else if !x.match(c) {
			return false, x.text + " does not match"
		}
	}
	return true, ""
}

func (x *condition) match(c *docker.Container) bool {
	switch x.op {
	case "!":
		return !x.parts[0].match(c)
	case "&&":
		for _, p := range x.parts {
			if !p.match(c) {
				return false
			}
		}
		return true
	case "||":
		for _, p := range x.parts {
			if p.match(c) {
				return true
			}
		}
		return false
	}
	return x.term(c)
}

func (x *condition) term(c *docker.Container) bool {
	fits := func(s string) bool {
		ok, err := path.Match(x.value, s)
		return s == x.value || ok && err == nil
	}
	labels := func(names ...string) bool {
		for _, n := range names {
			if v, ok := c.Labels[n]; ok && fits(v) {
				return true
			}
		}
		return false
	}
	switch x.kind {
	case "label":
		v, ok := c.Labels[x.key]
		return ok && (x.any || fits(v))
	case "name":
		return fits(c.Name)
	case "image":
		return fits(c.Image) || fits(imageName(c.Image))
	case "network":
		for n := range c.Networks {
			if fits(n) {
				return true
			}
		}
	case "project":
		return labels(origins["compose-project"], origins["swarm-stack"])
	case "service":
		return labels(origins["compose-service"], origins["swarm-service"])
	}
	return false
}
