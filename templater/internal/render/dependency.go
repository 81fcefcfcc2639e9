package render

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Kind is what sort of data a dependency is.
type Kind string

// The kinds of dependency. Beside each: the type of its value.
const (
	Service     Kind = "service"     // []*Instance
	Services    Kind = "services"    // []*ServiceName
	Node        Kind = "node"        // *NodeWithServices
	Nodes       Kind = "nodes"       // []*NodeInfo
	Datacenters Kind = "datacenters" // []string
	Key         Kind = "key"         // *Pair, nil if there is none
	Keys        Kind = "keys"        // []*Pair below Name
	File        Kind = "file"        // string
)

// Dependency is one thing that a template reads. Equal dependencies are equal values;
// all templates share one watch of each.
type Dependency struct {
	Kind   Kind
	Name   string // of the service, node, key, prefix or file
	Tag    string
	DC     string
	Near   string
	Filter string // of Service: states, separated by commas
}

// String names the dependency as a template writes it.
func (d Dependency) String() string { return fmt.Sprintf("%s(%s)", d.Kind, d.text(d.Filter)) }

// what names it for counting: which instances, where a template says more than the
// service's name.
func (d Dependency) what() string {
	if d.Filter == "passing" {
		return d.text("")
	}
	return d.text(d.Filter)
}

func (d Dependency) text(filter string) string {
	name := d.Name
	if d.Tag != "" {
		name = d.Tag + "." + name
	}
	if d.DC != "" {
		name += "@" + d.DC
	}
	if d.Near != "" {
		name += "~" + d.Near
	}
	if filter != "" {
		name += "|" + filter
	}
	return name
}

// The grammar of what stands in a template's string.
var (
	serviceForm = regexp.MustCompile(`^(?:(?P<tag>[\w=:.\-]+)\.)?(?P<name>[\w\-]+)(?:\?(?P<query>[\w=&\-]*))?(?:@(?P<dc>[\w.\-]+))?(?:~(?P<near>[\w.\-]+))?(?:\|(?P<filter>[\w,\-]+))?$`)
	suffixForm  = regexp.MustCompile(`^(?:\?(?P<query>[\w=&\-]*))?(?:@(?P<dc>[\w.\-]+))?(?:~(?P<near>[\w.\-]+))?$`)
	namedForm   = regexp.MustCompile(`^(?P<name>.*?)(?:\?(?P<query>[\w=&\-]*))?(?:@(?P<dc>[\w.\-]+))?$`)
)

func match(form *regexp.Regexp, text string) (map[string]string, bool) {
	m := form.FindStringSubmatch(text)
	if m == nil {
		return nil, false
	}
	out := map[string]string{}
	for i, name := range form.SubexpNames() {
		if name != "" {
			out[name] = m[i]
		}
	}
	return out, true
}

// healthStates are the filters that service takes.
var healthStates = []string{"any", "passing", "warning", "critical", "maintenance"}

// parseService reads "[tag.]name[@dc][~near][|filter,…]".
func parseService(text string) (Dependency, error) {
	m, ok := match(serviceForm, text)
	if !ok {
		return Dependency{}, fmt.Errorf("service: %q is not of the form \"[tag.]name[@dc][~near][|state,…]\"", text)
	}
	d := Dependency{Kind: Service, Name: m["name"], Tag: m["tag"], DC: m["dc"], Near: m["near"]}
	if m["filter"] == "" {
		d.Filter = "passing"
		return d, nil
	}
	states := strings.Split(m["filter"], ",")
	for i, s := range states {
		if s = strings.TrimSpace(s); !slices.Contains(healthStates, s) {
			return Dependency{}, fmt.Errorf("service: %q: the state is one of %s", text, strings.Join(healthStates, ", "))
		}
		states[i] = s
	}
	slices.Sort(states)
	d.Filter = strings.Join(slices.Compact(states), ",")
	return d, nil
}

// parseSuffix reads "[@dc][~near]".
func parseSuffix(kind Kind, text string) (Dependency, error) {
	m, ok := match(suffixForm, text)
	if !ok {
		return Dependency{}, fmt.Errorf("%s: %q is not of the form \"[@dc]\"", kind, text)
	}
	return Dependency{Kind: kind, DC: m["dc"], Near: m["near"]}, nil
}

// parseNamed reads "name[@dc]".
func parseNamed(kind Kind, text string) (Dependency, error) {
	m, ok := match(namedForm, text)
	if !ok {
		return Dependency{}, fmt.Errorf("%s: %q is not of the form \"name[@dc]\"", kind, text)
	}
	return Dependency{Kind: kind, Name: strings.TrimPrefix(m["name"], "/"), DC: m["dc"]}, nil
}
