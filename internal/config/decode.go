package config

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Decode lays s over the struct that into points to. Fields are found by their
// `config:"name,alias,…"` tag, in any case; an embedded struct without tag is part of its parent; a
// tag of ",label" takes a block's label. A field whose type reads JSON itself gets its
// value as JSON, one that reads text gets one value as it is written. Keys in ignore ("connect", "ports.grpc_tls", "ports.proxy_*") are
// accepted and come back as warnings. On error, all faults joined, into may be half set.
func (s *Source) Decode(into any, ignore ...string) (warnings []string, err error) {
	d := &decoder{file: s.name, ignore: ignore}
	d.object("", s.root, reflect.ValueOf(into).Elem())
	return d.warnings, errors.Join(d.faults...)
}

type decoder struct {
	file     string
	ignore   []string
	faults   []error
	warnings []string
}

func (d *decoder) fault(line int, format string, args ...any) {
	d.faults = append(d.faults, fmt.Errorf("%s: %s", d.at(line), fmt.Sprintf(format, args...)))
}

// at is "file:line", or the name alone where lines mean nothing.
func (d *decoder) at(line int) string {
	if line == 0 {
		return d.file
	}
	return d.file + ":" + strconv.Itoa(line)
}

// fields maps every name and alias of a struct's fields to the field.
func fields(v reflect.Value, into map[string]reflect.Value) map[string]reflect.Value {
	for i := range v.NumField() {
		f, tag := v.Type().Field(i), v.Type().Field(i).Tag.Get("config")
		if f.Anonymous && tag == "" && f.Type.Kind() == reflect.Struct {
			fields(v.Field(i), into)
			continue
		}
		if tag == "" || tag == "-" {
			continue
		}
		for _, name := range strings.Split(tag, ",") {
			if name != "" {
				into[name] = v.Field(i)
			}
		}
		if strings.HasPrefix(tag, ",label") {
			into[",label"] = v.Field(i)
		}
	}
	return into
}

func (d *decoder) object(path string, o *object, v reflect.Value) {
	known := fields(v, map[string]reflect.Value{})
	if f, ok := known[",label"]; ok && len(o.labels) > 0 {
		f.SetString(o.labels[0])
	}
	for _, key := range o.keys() {
		at := strings.TrimPrefix(path+"."+key, ".")
		f, ok := known[strings.ToLower(key)]
		for _, val := range o.fields[key] {
			switch {
			case ok && key[0] != ',':
				d.value(at, val, f)
			case d.ignored(at):
				d.warnings = append(d.warnings, fmt.Sprintf("%s: %s has no meaning here and is ignored", d.at(val.line), at))
			default:
				d.fault(val.line, "invalid config key %s%s", at, suggest(key, known))
			}
		}
	}
}

func (d *decoder) ignored(path string) bool {
	return slices.ContainsFunc(d.ignore, func(p string) bool {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(path, prefix)
		}
		return p == path
	})
}

// suggest names the known key nearest to a mistyped one.
func suggest(key string, known map[string]reflect.Value) string {
	best, least := "", 3 // more than two slips are another word
	for name := range known {
		if n := distance(key, name); n < least || n == least && best != "" && name < best {
			best, least = name, n
		}
	}
	if best == "" || best[0] == ',' {
		return ""
	}
	return fmt.Sprintf(" (did you mean %s?)", best)
}

// distance is the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

var (
	durationType  = reflect.TypeFor[time.Duration]()
	jsonInterface = reflect.TypeFor[json.Unmarshaler]()
	textInterface = reflect.TypeFor[encoding.TextUnmarshaler]()
)

func (d *decoder) value(path string, val value, v reflect.Value) {
	if val.v == nil {
		return
	}
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		v = v.Elem()
	}
	switch {
	case reflect.PointerTo(v.Type()).Implements(jsonInterface):
		d.viaJSON(path, val, v)
	case readsText(val, v):
		d.viaText(path, val, v)
	case v.Type() == durationType:
		d.duration(path, val, v)
	case v.Kind() == reflect.Slice:
		d.list(path, val, v)
	case v.Kind() == reflect.Map:
		d.mapping(path, val, v)
	case v.Kind() == reflect.Struct:
		d.structure(path, val, v)
	case v.Kind() == reflect.Interface:
		v.Set(reflect.ValueOf(plain(val)))
	default:
		d.scalar(path, val, v)
	}
}

// keyed is a type that reads JSON itself and knows which keys it takes.
type keyed interface {
	UnknownKeys(block map[string]any) []string
}

func (d *decoder) viaJSON(path string, val value, v reflect.Value) {
	if k, ok := v.Interface().(keyed); ok {
		if block, ok := plain(val).(map[string]any); ok {
			for _, key := range k.UnknownKeys(block) {
				d.fault(val.line, "invalid config key %s.%s", path, key)
			}
		}
	}
	b, err := json.Marshal(plain(val))
	if err == nil {
		err = json.Unmarshal(b, v.Addr().Interface())
	}
	if err != nil {
		d.fault(val.line, "%s: %v", path, err)
	}
}

// readsText reports whether val is text for a type that reads text itself; its blocks
// and lists are read as those of others.
func readsText(val value, v reflect.Value) bool {
	_, ok := text(val.v)
	return ok && reflect.PointerTo(v.Type()).Implements(textInterface)
}

func (d *decoder) viaText(path string, val value, v reflect.Value) {
	text, _ := text(val.v)
	if err := v.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(text)); err != nil {
		d.fault(val.line, "%s: %v", path, err)
	}
}

func (d *decoder) duration(path string, val value, v reflect.Value) {
	text := fmt.Sprint(val.v)
	if n, err := strconv.ParseInt(text, 10, 64); err == nil { // nanoseconds
		v.SetInt(n)
		return
	}
	n, err := time.ParseDuration(text)
	if err != nil {
		d.fault(val.line, "%s = %q: want a duration like \"10s\" or \"5m\"", path, text)
		return
	}
	v.SetInt(int64(n))
}

// list appends; one value alone is a list of one.
func (d *decoder) list(path string, val value, v reflect.Value) {
	elems, ok := val.v.([]value)
	if !ok {
		elems = []value{val}
	}
	for _, e := range elems {
		item := reflect.New(v.Type().Elem()).Elem()
		d.value(path, e, item)
		v.Set(reflect.Append(v, item))
	}
}

// mapping unites; a list of objects (how HCL 1 files were turned into JSON) is united too.
func (d *decoder) mapping(path string, val value, v reflect.Value) {
	if elems, ok := val.v.([]value); ok {
		for _, e := range elems {
			d.mapping(path, e, v)
		}
		return
	}
	o, ok := val.v.(*object)
	if !ok {
		d.fault(val.line, "%s: want a block of keys and values", path)
		return
	}
	if v.IsNil() {
		v.Set(reflect.MakeMap(v.Type()))
	}
	for _, key := range o.keys() {
		item := reflect.New(v.Type().Elem()).Elem()
		for _, e := range o.fields[key] {
			d.value(path+"."+key, e, item)
		}
		v.SetMapIndex(reflect.ValueOf(key).Convert(v.Type().Key()), item)
	}
}

func (d *decoder) structure(path string, val value, v reflect.Value) {
	switch t := val.v.(type) {
	case *object:
		if _, ok := fields(v, map[string]reflect.Value{})[",label"]; !ok && len(t.labels) > 0 {
			d.fault(val.line, "%s: the block takes no name, have %q", path, t.labels[0])
		}
		d.object(path, t, v)
	case []value:
		for _, e := range t {
			d.structure(path, e, v)
		}
	default:
		d.fault(val.line, "%s: want a block, have %v", path, plain(val))
	}
}

func (d *decoder) scalar(path string, val value, v reflect.Value) {
	text, ok := text(val.v)
	if !ok {
		d.fault(val.line, "%s: want one value, not a list or block", path)
		return
	}
	var err error
	switch {
	case v.Kind() == reflect.String:
		v.SetString(text)
	case v.Kind() == reflect.Bool:
		var b bool
		b, err = strconv.ParseBool(text)
		v.SetBool(b)
	case v.CanInt():
		var n int64
		n, err = strconv.ParseInt(text, 0, v.Type().Bits())
		v.SetInt(n)
	case v.CanUint():
		var n uint64
		n, err = strconv.ParseUint(text, 0, v.Type().Bits())
		v.SetUint(n)
	case v.CanFloat():
		var n float64
		n, err = strconv.ParseFloat(text, v.Type().Bits())
		v.SetFloat(n)
	default:
		err = fmt.Errorf("a %s cannot be configured", v.Type())
	}
	if err != nil {
		d.fault(val.line, "%s = %q: want %s", path, text, noun(v.Kind()))
	}
}

func text(v any) (string, bool) {
	switch t := v.(type) {
	case string:
		return t, true
	case json.Number:
		return t.String(), true
	case bool:
		return strconv.FormatBool(t), true
	}
	return "", false
}

func noun(k reflect.Kind) string {
	switch k {
	case reflect.Bool:
		return "true or false"
	case reflect.Float32, reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// Keys lists every key that the struct v points to takes, under all its spellings, in
// order; those of blocks as "ports.http".
func Keys(v any) []string {
	seen := map[string]bool{}
	keysOf("", reflect.TypeOf(v), seen)
	return slices.Sorted(maps.Keys(seen))
}

func keysOf(prefix string, t reflect.Type, seen map[string]bool) {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || reflect.PointerTo(t).Implements(jsonInterface) {
		return
	}
	for i := range t.NumField() {
		f, tag := t.Field(i), t.Field(i).Tag.Get("config")
		if f.Anonymous && tag == "" {
			keysOf(prefix, f.Type, seen)
			continue
		}
		for _, name := range strings.Split(tag, ",") {
			if tag != "-" && name != "" && !strings.HasPrefix(tag, ",") {
				seen[prefix+name] = true
				keysOf(prefix+name+".", f.Type, seen)
			}
		}
	}
}
