package render

import (
	"fmt"
	"path/filepath"
	"strings"
	"text/template"
)

// Each is a template that makes one file for each element of a list. The element is the
// template's dot, and the destination's.
type Each struct {
	*Template
	list, dest *Template
	base       string // the folder that no destination leaves
}

// Folder is where the files are.
func (t *Each) Folder() string { return t.base }

// Output is one file of an Each.
type Output struct {
	Dest    string
	Content []byte
}

// collector is what the list's template hands its elements to.
const collector = "each_element"

// ParseEach reads a template, the pipeline that gives the list, and the destination.
func ParseEach(cfg Config, pipeline, dest string) (*Each, error) {
	t, err := Parse(cfg)
	if err != nil {
		return nil, err
	}
	static, _, _ := strings.Cut(dest, "{{")
	e := &Each{Template: t, base: filepath.Dir(static + "x")}
	for _, part := range []struct {
		to         **Template
		name, text string
	}{
		{&e.list, "for_each of " + cfg.Name, "{{ range " + pipeline + " }}{{ " + collector + " . }}{{ end }}"},
		{&e.dest, "destination of " + cfg.Name, dest},
	} {
		own := Config{Name: part.name, Text: part.text, FunctionDenylist: cfg.FunctionDenylist, SandboxPath: cfg.SandboxPath, Environ: cfg.Environ, ErrMissingKey: true}
		tmpl := template.New(part.name).Option("missingkey=error")
		x := &execution{cfg: &own, collect: func(any) string { return "" }}
		if _, err := tmpl.Funcs(named(x.functions(tmpl), part.text)).Parse(part.text); err != nil {
			return nil, fmt.Errorf("parse %s: %w", part.name, err)
		}
		*part.to = &Template{own, tmpl}
	}
	return e, nil
}

// ExecuteEach runs the template for every element. Names come from a catalog and are
// anybody's: a destination outside its folder is an error.
func (t *Each) ExecuteEach(source Source) ([]Output, *Result, error) {
	e := newExecution(&t.cfg, source)
	var elements []any
	e.collect = func(v any) string { elements = append(elements, v); return "" }
	fault := func(err error) ([]Output, *Result, error) {
		if len(e.missing) > 0 {
			err = nil
		}
		return nil, e.result(nil), err
	}
	if _, err := t.list.execute(e, nil); err != nil {
		return fault(err)
	}
	out := []Output{}
	seen := map[string]bool{}
	for _, v := range elements {
		name, err := t.dest.execute(e, v)
		if err != nil {
			return fault(err)
		}
		dest := filepath.Clean(string(name))
		if filepath.Dir(dest) != t.base || strings.HasPrefix(filepath.Base(dest), ".") {
			return fault(fmt.Errorf("for_each: %q is no file of %s", dest, t.base))
		}
		if seen[dest] {
			return fault(fmt.Errorf("for_each: two elements make %s", dest))
		}
		seen[dest] = true
		e.scratch = &Scratch{}
		content, err := t.execute(e, v)
		if err != nil {
			return fault(err)
		}
		out = append(out, Output{dest, content})
	}
	return out, e.result(nil), nil
}
