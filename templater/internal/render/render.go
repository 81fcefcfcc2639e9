// Package render executes templates. It is pure: what a template reads comes from a
// Source, and what the Source does not have yet comes back as missing, for the caller to
// fetch and try again. The language is Go's text/template with the functions of
// consul-template's Consul half.
package render

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"text/template"
)

// Config is one template.
type Config struct {
	Name             string // stands in errors
	Text             string
	Left, Right      string // delimiters; {{ and }} if empty
	ErrMissingKey    bool   // a map key that is not there is an error
	FunctionDenylist []string
	SandboxPath      string   // file reads only below it
	Environ          []string // "NAME=value", before the process's own
}

// Source has the data.
type Source interface {
	// Get gives a dependency's value, false where it is not known yet.
	Get(Dependency) (any, bool)
}

// Template is a parsed template. It may be executed concurrently.
type Template struct {
	cfg  Config
	tmpl *template.Template
}

// Result is an execution's outcome.
type Result struct {
	Output []byte
	Used   []Dependency // everything that was read, in order, each once
	// Missing are those that are not known yet; then Output is not complete.
	Missing []Dependency
	// Instances counts what was read of each service.
	Instances map[string]int
}

// Parse reads a template.
func Parse(cfg Config) (*Template, error) {
	t := template.New(cfg.Name).Delims(cfg.Left, cfg.Right)
	if cfg.ErrMissingKey {
		t.Option("missingkey=error")
	} else {
		t.Option("missingkey=zero")
	}
	e := &execution{cfg: &cfg}
	if _, err := t.Funcs(named(e.functions(t), cfg.Text)).Parse(cfg.Text); err != nil {
		return nil, fmt.Errorf("parse template: %w", err)
	}
	return &Template{cfg, t}, nil
}

// Execute runs the template on what source has.
func (t *Template) Execute(source Source) (*Result, error) {
	e := newExecution(&t.cfg, source)
	out, err := t.execute(e, nil)
	if err != nil && len(e.missing) > 0 { // with data missing, a fault may come of that
		err = nil
	}
	return e.result(out), err
}

func (t *Template) execute(e *execution, dot any) ([]byte, error) {
	clone, err := t.tmpl.Clone()
	if err != nil {
		return nil, fmt.Errorf("execute template: %w", err)
	}
	var out bytes.Buffer
	if err := clone.Funcs(e.bound(clone)).Execute(&out, dot); err != nil {
		return out.Bytes(), fmt.Errorf("execute template: %w", err)
	}
	return out.Bytes(), nil
}

func newExecution(cfg *Config, source Source) *execution {
	return &execution{cfg: cfg, source: source, seen: map[Dependency]bool{}, instances: map[string]int{}, scratch: &Scratch{}}
}

func (e *execution) result(out []byte) *Result {
	return &Result{Output: out, Used: e.used, Missing: e.missing, Instances: e.instances}
}

// execution is one run of a template.
type execution struct {
	cfg     *Config
	source  Source
	seen    map[Dependency]bool
	used    []Dependency
	missing []Dependency
	scratch *Scratch
	collect func(any) string // of an Each
	// instances counts, by what was asked for.
	instances map[string]int
}

// get reads a dependency and notes that it was read.
func (e *execution) get(d Dependency) (any, bool) {
	v, ok := e.source.Get(d)
	if !e.seen[d] {
		e.seen[d] = true
		e.used = append(e.used, d)
		if !ok {
			e.missing = append(e.missing, d)
		}
		if list, ok := v.([]*Instance); ok {
			e.instances[d.what()] = len(list)
		}
	}
	return v, ok
}

// read gives a dependency's value as T, the zero value where it is not known.
func read[T any](e *execution, d Dependency) T {
	v, _ := e.get(d)
	t, _ := v.(T)
	return t
}

// denied reports whether a function may not be called.
func (e *execution) denied(name string) bool {
	for _, p := range e.cfg.FunctionDenylist {
		if ok, err := path.Match(p, name); ok && err == nil {
			return true
		}
	}
	return false
}

func (e *execution) service(args ...string) ([]*Instance, error) {
	if len(args) == 0 || args[0] == "" {
		return []*Instance{}, nil
	}
	d, err := parseService(strings.Join(args, "|"))
	if err != nil {
		return nil, err
	}
	return read[[]*Instance](e, d), nil
}

// safeService is service, but a service without instances counts as data that has not come:
// what was rendered before stays.
func (e *execution) safeService(args ...string) ([]*Instance, error) {
	list, err := e.service(args...)
	if d, bad := parseService(strings.Join(args, "|")); bad == nil && len(list) == 0 {
		e.waitForMore(d)
	}
	return list, err
}

// waitForMore has a template wait for what is known, but has nothing in it.
func (e *execution) waitForMore(d Dependency) {
	if _, known := e.source.Get(d); known { // else it is waited for already
		e.missing = append(e.missing, d)
	}
}

// passing is instances: it gives the passing instances of a service by its exact name, which may hold
// what service's little language cannot say.
func (e *execution) passing(name string) ([]*Instance, error) {
	if name == "" {
		return []*Instance{}, nil
	}
	return read[[]*Instance](e, Dependency{Kind: Service, Name: name, Filter: "passing"}), nil
}

func (e *execution) services(args ...string) ([]*ServiceName, error) {
	d, err := parseSuffix(Services, strings.Join(args, ""))
	if err != nil {
		return nil, err
	}
	return read[[]*ServiceName](e, d), nil
}

func (e *execution) nodes(args ...string) ([]*NodeInfo, error) {
	d, err := parseSuffix(Nodes, strings.Join(args, ""))
	if err != nil {
		return nil, err
	}
	return read[[]*NodeInfo](e, d), nil
}

func (e *execution) node(args ...string) (*NodeWithServices, error) {
	d, err := parseNamed(Node, strings.Join(args, ""))
	if err != nil {
		return nil, err
	}
	if v := read[*NodeWithServices](e, d); v != nil {
		return v, nil
	}
	return &NodeWithServices{}, nil
}

// datacenters lists all, or with true those that have a leader.
func (e *execution) datacenters(alive ...bool) ([]string, error) {
	d := Dependency{Kind: Datacenters}
	if len(alive) > 0 && alive[0] {
		d.Filter = "alive"
	}
	return read[[]string](e, d), nil
}

// key waits until the key is there.
func (e *execution) key(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	p, err := e.pair(text)
	if err != nil || p == nil {
		if err == nil {
			e.block(text)
		}
		return "", err
	}
	return p.Value, nil
}

// block makes a key that is not there a reason to wait.
func (e *execution) block(text string) {
	if d, err := parseNamed(Key, text); err == nil {
		for _, m := range e.missing {
			if m == d {
				return
			}
		}
		e.missing = append(e.missing, d)
	}
}

func (e *execution) pair(text string) (*Pair, error) {
	if text == "" {
		return nil, nil
	}
	d, err := parseNamed(Key, text)
	if err != nil {
		return nil, err
	}
	return read[*Pair](e, d), nil
}

func (e *execution) keyExists(text string) (bool, error) {
	p, err := e.pair(text)
	return p != nil, err
}

func (e *execution) keyOrDefault(text, or string) (string, error) {
	p, err := e.pair(text)
	if err != nil {
		return "", err
	}
	if p == nil || p.Value == "" {
		return or, nil
	}
	return p.Value, nil
}

// list gives the keys below a prefix; flat leaves out those in deeper folders, safe
// waits until there is one.
func (e *execution) list(flat, safe bool) func(string) ([]*Pair, error) {
	return func(text string) ([]*Pair, error) {
		if text == "" {
			return []*Pair{}, nil
		}
		d, err := parseNamed(Keys, text)
		if err != nil {
			return nil, err
		}
		all := read[[]*Pair](e, d)
		out := []*Pair{}
		for _, p := range all {
			if p.Key == "" || strings.HasSuffix(p.Key, "/") || flat && strings.Contains(p.Key, "/") {
				continue
			}
			out = append(out, p)
		}
		if safe && len(out) == 0 {
			e.waitForMore(d)
		}
		return out, nil
	}
}

func (e *execution) file(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	if box := e.cfg.SandboxPath; box != "" {
		clean := path.Clean(name)
		if clean != box && !strings.HasPrefix(clean, strings.TrimSuffix(path.Clean(box), "/")+"/") {
			return "", fmt.Errorf("file: %q is outside the sandbox %q", name, box)
		}
	}
	return read[string](e, Dependency{Kind: File, Name: name}), nil
}

func unavailable(name, what string) func(...any) (any, error) {
	return func(...any) (any, error) { return nil, fmt.Errorf("%s: %s", name, what) }
}
