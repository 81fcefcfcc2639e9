// Package config reads configuration files, HCL or JSON, into structs. A file becomes
// one tree of values that remember their lines; Decode lays a tree over a struct whose
// fields carry `config:"name,alias"` tags. Laying several trees over one struct merges
// them: scalars replace, lists append, maps unite. Every fault is reported, each with
// its file and line, and unknown keys are faults. The package knows no key by itself.
package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Source is one parsed file or fragment.
type Source struct {
	name string
	root *object
}

// object is a mapping whose keys may repeat, as HCL blocks do. labels are those of the
// block it came from.
type object struct {
	labels []string
	fields map[string][]value
}

// value is a string, json.Number, bool, nil, []value or *object, with its line. A number
// is as it is written: HCL has 0x1f and 017 too.
type value struct {
	line int
	v    any
}

// Parse reads src as format "hcl" or "json"; with "" by the name's ending, and where
// that says nothing by the first character. name stands in errors.
func Parse(name string, src []byte, format string) (*Source, error) {
	if format == "" {
		format = strings.TrimPrefix(filepath.Ext(name), ".")
	}
	if format != "json" && format != "hcl" {
		format = "hcl"
		if t := bytes.TrimSpace(src); len(t) > 0 && t[0] == '{' {
			format = "json"
		}
	}
	parse := parseHCL
	if format == "json" {
		parse = parseJSON
	}
	root, err := parse(name, src)
	if err != nil {
		return nil, err
	}
	return &Source{name: name, root: root}, nil
}

// ReadPath reads a file, or of a directory every *.hcl and *.json in the order of
// their names, not descending. format as in Parse, for files.
func ReadPath(path, format string) ([]*Source, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if !info.IsDir() {
		s, err := readFile(path, format)
		if err != nil {
			return nil, err
		}
		return []*Source{s}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var out []*Source
	var errs []error
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".hcl" && ext != ".json" {
			continue
		}
		s, err := readFile(filepath.Join(path, e.Name()), "")
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, s)
	}
	return out, errors.Join(errs...)
}

func readFile(path, format string) (*Source, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer file.Close()
	src, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(src) > maxFile {
		err = fmt.Errorf("%s has more than %d MB: this is no configuration", path, maxFile>>20)
	}
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(path, src, format)
}

// maxFile is how many bytes a file may have.
const maxFile = 16 << 20

// parseJSON walks the tokens itself, because a decoder into any would forget the lines.
func parseJSON(name string, src []byte) (*object, error) {
	if len(bytes.TrimSpace(src)) == 0 { // a file that whoever fills it has only made yet
		return &object{fields: map[string][]value{}}, nil
	}
	p := &jsonParser{name: name, src: src, dec: json.NewDecoder(bytes.NewReader(src))}
	p.dec.UseNumber()
	if len(bytes.TrimSpace(src)) == 0 { // a file of nothing configures nothing
		return &object{}, nil
	}
	v, err := p.value()
	if err != nil {
		return nil, p.fault(err)
	}
	root, ok := v.v.(*object)
	if !ok {
		return nil, p.fault(errors.New("want an object at the top"))
	}
	if p.dec.More() {
		return nil, p.fault(errors.New("text after the end of the object"))
	}
	return root, nil
}

type jsonParser struct {
	name string
	src  []byte
	dec  *json.Decoder
}

// line counts from 1 at the decoder's present place.
func (p *jsonParser) line() int {
	return 1 + bytes.Count(p.src[:min(int(p.dec.InputOffset()), len(p.src))], []byte("\n"))
}

func (p *jsonParser) fault(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("the text ends in the middle")
	}
	return fmt.Errorf("%s:%d: %w", p.name, p.line(), err)
}

func (p *jsonParser) value() (value, error) {
	tok, err := p.dec.Token()
	if err != nil {
		return value{}, err
	}
	line := p.line()
	switch t := tok.(type) {
	case json.Delim:
		if t == '[' {
			list := []value{}
			for p.dec.More() {
				v, err := p.value()
				if err != nil {
					return value{}, err
				}
				list = append(list, v)
			}
			_, err = p.dec.Token()
			return value{line, list}, err
		}
		o := &object{fields: map[string][]value{}}
		for p.dec.More() {
			key, err := p.dec.Token()
			if err != nil {
				return value{}, err
			}
			v, err := p.value()
			if err != nil {
				return value{}, err
			}
			k, _ := key.(string) // the decoder lets nothing else be a key
			o.fields[k] = append(o.fields[k], v)
		}
		_, err = p.dec.Token()
		return value{line, o}, err
	case float64:
		return value{line, json.Number(fmt.Sprint(t))}, nil
	default: // string, json.Number, bool, nil
		return value{line, t}, nil
	}
}

// plain gives v as encoding/json would have read it.
func plain(v value) any {
	switch t := v.v.(type) {
	case []value:
		out := make([]any, len(t))
		for i, e := range t {
			out[i] = plain(e)
		}
		return out
	case *object:
		out := make(map[string]any, len(t.fields))
		for k, vs := range t.fields {
			if len(vs) == 1 {
				out[k] = plain(vs[0])
				continue
			}
			all := make([]any, 0, len(vs))
			for _, e := range vs {
				all = append(all, plain(e))
			}
			out[k] = all
		}
		return out
	case json.Number:
		if n, err := strconv.ParseInt(t.String(), 0, 64); err == nil { // JSON knows decimals only
			return json.Number(strconv.FormatInt(n, 10))
		}
	}
	return v.v
}

// keys gives the object's keys in order, so that faults come in the same order always.
func (o *object) keys() []string {
	keys := make([]string, 0, len(o.fields))
	for k := range o.fields {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// Pair is a Source of one key, such as a command-line flag sets: name stands in errors,
// key is a path ("ports.http").
func Pair(name, key, text string) *Source {
	parts := strings.Split(key, ".")
	v := value{v: text}
	for i := len(parts) - 1; i >= 0; i-- {
		v = value{v: &object{fields: map[string][]value{parts[i]: {v}}}}
	}
	return &Source{name: name, root: v.v.(*object)}
}

// PairOf is a Source of one entry of the map at key; text is "name:value".
func PairOf(name, key, text string) *Source {
	k, v, _ := strings.Cut(text, ":")
	entry := &object{fields: map[string][]value{k: {{v: v}}}}
	return &Source{name: name, root: &object{fields: map[string][]value{key: {{v: entry}}}}}
}
