package render

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/template"
	"time"
	"unicode"

	"github.com/BurntSushi/toml"
	"github.com/Masterminds/sprig/v3"
	"go.yaml.in/yaml/v2"
)

// bound are the functions that belong to one execution.
func (e *execution) bound(t *template.Template) template.FuncMap {
	f := template.FuncMap{
		"service": e.service, "safeService": e.safeService, "instances": e.passing, "services": e.services, "node": e.node, "nodes": e.nodes, "datacenters": e.datacenters,
		"key": e.key, "keyExists": e.keyExists, "keyOrDefault": e.keyOrDefault,
		"ls": e.list(true, false), "safeLs": e.list(true, true), "tree": e.list(false, false), "safeTree": e.list(false, true),
		"file": e.file, "env": e.env, "mustEnv": e.mustEnv, "envOrDefault": e.envOrDefault,
		"scratch":         func() *Scratch { return e.scratch },
		"executeTemplate": executeTemplate(t),
	}
	if e.collect != nil {
		f[collector] = e.collect
	}
	return e.withoutDenied(f)
}

// functions is everything a template may call.
func (e *execution) functions(t *template.Template) template.FuncMap {
	f := maps.Clone(free())
	maps.Copy(f, e.bound(t))
	return e.withoutDenied(f)
}

func (e *execution) withoutDenied(f template.FuncMap) template.FuncMap {
	for name := range f {
		if e.denied(name) {
			f[name] = unavailable(name, "the function is on the denylist")
		}
	}
	return f
}

// named leaves the functions whose names a text holds: a parsed template keeps all that
// it was given, and there are some hundreds.
func named(f template.FuncMap, text string) template.FuncMap {
	maps.DeleteFunc(f, func(name string, _ any) bool { return !strings.Contains(text, name) })
	return f
}

// free are the functions that are the same for every execution.
var free = sync.OnceValue(func() template.FuncMap {
	f := template.FuncMap{}
	for _, m := range []template.FuncMap{textFuncs, listFuncs, codecFuncs, mathFuncs, nginxFuncs, hostFuncs} {
		maps.Copy(f, m)
	}
	for name, fn := range sprig.HermeticTxtFuncMap() {
		f["sprig_"+name] = fn
	}
	for _, name := range []string{"secret", "secrets", "pkiCert", "pkiSign"} {
		f[name] = unavailable(name, "Vault's data is not read by this templater")
	}
	for _, name := range []string{"nomadServices", "nomadService", "nomadVar", "nomadVarExists", "nomadVarList", "nomadVarListSafe"} {
		f[name] = unavailable(name, "Nomad's data is not read by this templater")
	}
	for _, name := range []string{"connect", "caRoots", "caLeaf", "peerings", "exportedServices", "importedServices"} {
		f[name] = unavailable(name, "the service mesh is left out")
	}
	f["partitions"] = unavailable("partitions", "there are no partitions here")
	f["writeToFile"] = unavailable("writeToFile", "templates may not write files here; give the file a template of its own")
	return f
})

// lookupEnv reads a variable.
func (e *execution) lookupEnv(name string) (string, bool) {
	for _, kv := range slices.Backward(e.cfg.Environ) {
		if n, v, _ := strings.Cut(kv, "="); n == name {
			return v, true
		}
	}
	return os.LookupEnv(name)
}

func (e *execution) env(name string) string {
	v, _ := e.lookupEnv(name)
	return v
}

func (e *execution) mustEnv(name string) (string, error) {
	if v := e.env(name); v != "" {
		return v, nil
	}
	return "", fmt.Errorf("mustEnv: %s is not set", name)
}

func (e *execution) envOrDefault(name, or string) string {
	if v, ok := e.lookupEnv(name); ok {
		return v
	}
	return or
}

// executeTemplate runs a defined template and gives its output as a string.
func executeTemplate(t *template.Template) func(string, ...any) (string, error) {
	return func(name string, dot ...any) (string, error) {
		var data any
		if len(dot) > 0 {
			data = dot[0]
		}
		var b strings.Builder
		err := t.ExecuteTemplate(&b, name, data)
		return b.String(), err
	}
}

var textFuncs = template.FuncMap{
	"join":            func(sep string, list []string) string { return strings.Join(list, sep) },
	"split":           func(sep, s string) []string { return splitNonEmpty(sep, s) },
	"splitToMap":      splitToMap,
	"trim":            func(set, s string) string { return strings.Trim(s, set) },
	"trimPrefix":      func(p, s string) string { return strings.TrimPrefix(s, p) },
	"trimSuffix":      func(p, s string) string { return strings.TrimSuffix(s, p) },
	"trimSpace":       strings.TrimSpace,
	"toLower":         strings.ToLower,
	"toUpper":         strings.ToUpper,
	"toTitle":         title,
	"replaceAll":      func(old, with, s string) string { return strings.ReplaceAll(s, old, with) },
	"regexMatch":      regexp.MatchString,
	"regexReplaceAll": regexReplaceAll,
	"indent":          indent,
	"timestamp":       timestamp,
	"parseBool":       parseWith(strconv.ParseBool),
	"parseFloat":      parseWith(func(s string) (float64, error) { return strconv.ParseFloat(s, 64) }),
	"parseInt":        parseWith(func(s string) (int64, error) { return strconv.ParseInt(s, 10, 64) }),
	"parseUint":       parseWith(func(s string) (uint64, error) { return strconv.ParseUint(s, 10, 64) }),
}

func splitNonEmpty(sep, s string) []string {
	if s = strings.TrimSpace(s); s == "" {
		return []string{}
	}
	return strings.Split(s, sep)
}

// splitToMap leaves out what does not split twice.
func splitToMap(sep, kv, s string) map[string]string {
	out := map[string]string{}
	for _, part := range splitNonEmpty(sep, s) {
		if k, v, ok := strings.Cut(part, kv); ok {
			out[k] = v
		}
	}
	return out
}

// title makes the first letter of every word a capital one, and leaves the others.
func title(s string) string {
	inside := false
	return strings.Map(func(r rune) rune {
		was := inside
		inside = unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) || was && strings.ContainsRune("_'’.:", r)
		if was {
			return r
		}
		return unicode.ToTitle(r)
	}, s)
}

func regexReplaceAll(re, with, s string) (string, error) {
	r, err := regexp.Compile(re)
	if err != nil {
		return "", err
	}
	return r.ReplaceAllString(s, with), nil
}

func indent(n int, s string) (string, error) {
	if n < 0 {
		return "", errors.New("indent: the number of spaces is below 0")
	}
	var b strings.Builder
	for line := range strings.Lines(s) {
		if strings.TrimRight(line, "\n") != "" {
			b.WriteString(strings.Repeat(" ", n))
		}
		b.WriteString(line)
	}
	return b.String(), nil
}

func timestamp(layout ...string) string {
	now := time.Now().UTC()
	switch {
	case len(layout) == 0:
		return now.Format(time.RFC3339)
	case layout[0] == "unix":
		return strconv.FormatInt(now.Unix(), 10)
	}
	return now.Format(layout[0])
}

// parseWith makes a parser that takes nothing for zero.
func parseWith[T any](parse func(string) (T, error)) func(string) (T, error) {
	return func(s string) (T, error) {
		if s == "" {
			var zero T
			return zero, nil
		}
		return parse(s)
	}
}

var codecFuncs = template.FuncMap{
	"base64Encode":    func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
	"base64Decode":    decodeWith(base64.StdEncoding),
	"base64URLEncode": func(s string) string { return base64.URLEncoding.EncodeToString([]byte(s)) },
	"base64URLDecode": decodeWith(base64.URLEncoding),
	"parseJSON":       func(s string) (any, error) { return parseInto(s, json.Unmarshal) },
	"parseYAML":       parseYAML,
	"toJSON":          func(v any) (string, error) { return toJSON(v, "", true) },
	"toJSONPretty":    func(v any) (string, error) { return toJSON(v, "  ", true) },
	"toUnescapedJSON": func(v any) (string, error) { return toJSON(v, "", false) },
	"toUnescapedJSONPretty": func(v any) (string, error) {
		return toJSON(v, "  ", false)
	},
	"toYAML":    toYAML,
	"toTOML":    toTOML,
	"sha256Hex": func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) },
	"md5sum":    func(s string) string { h := md5.Sum([]byte(s)); return hex.EncodeToString(h[:]) },
	"hmacSHA256Hex": func(message, key string) string {
		h := hmac.New(sha256.New, []byte(key))
		h.Write([]byte(message))
		return hex.EncodeToString(h.Sum(nil))
	},
}

func decodeWith(enc *base64.Encoding) func(string) (string, error) {
	return func(s string) (string, error) {
		b, err := enc.DecodeString(s)
		return string(b), err
	}
}

func parseInto(s string, unmarshal func([]byte, any) error) (any, error) {
	if s == "" {
		return map[string]any{}, nil
	}
	var v any
	err := unmarshal([]byte(s), &v)
	return v, err
}

// parseYAML reads YAML 1.1, as templates written for consul-template expect ("yes" is
// true). Maps whose keys are strings come as parseJSON gives them.
func parseYAML(s string) (any, error) {
	v, err := parseInto(s, yaml.Unmarshal)
	return stringKeys(v), err
}

func stringKeys(v any) any {
	switch v := v.(type) {
	case []any:
		for i := range v {
			v[i] = stringKeys(v[i])
		}
	case map[any]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			name, ok := k.(string)
			if !ok {
				return v
			}
			out[name] = stringKeys(e)
		}
		return out
	}
	return v
}

func toYAML(v any) (string, error) {
	b, err := yaml.Marshal(v)
	return strings.TrimSpace(string(b)), err
}

func toTOML(v any) (string, error) {
	var b strings.Builder
	err := toml.NewEncoder(&b).Encode(v)
	return strings.TrimSpace(b.String()), err
}

func toJSON(v any, indent string, escape bool) (string, error) {
	var b strings.Builder
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(escape)
	e.SetIndent("", indent)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

var mathFuncs = template.FuncMap{
	"add":      arithmetic("add", func(a, b float64) float64 { return b + a }, func(a, b int64) (int64, error) { return b + a, nil }),
	"subtract": arithmetic("subtract", func(a, b float64) float64 { return b - a }, func(a, b int64) (int64, error) { return b - a, nil }),
	"multiply": arithmetic("multiply", func(a, b float64) float64 { return b * a }, func(a, b int64) (int64, error) { return b * a, nil }),
	"divide": arithmetic("divide", func(a, b float64) float64 { return b / a }, func(a, b int64) (int64, error) {
		if a == 0 {
			return 0, errors.New("divide: by zero")
		}
		return b / a, nil
	}),
	"modulo": func(a, b any) (int64, error) {
		x, y, whole := numbers(a, b)
		if !whole || int64(x) == 0 {
			return 0, errors.New("modulo: want whole numbers, the divisor not zero")
		}
		return int64(y) % int64(x), nil
	},
	"minimum": arithmetic("minimum", func(a, b float64) float64 { return min(a, b) }, func(a, b int64) (int64, error) { return min(a, b), nil }),
	"maximum": arithmetic("maximum", func(a, b float64) float64 { return max(a, b) }, func(a, b int64) (int64, error) { return max(a, b), nil }),
}

// arithmetic makes an operation on numbers of any kind; the second argument, which a
// pipe fills, is the left operand.
func arithmetic(name string, real func(a, b float64) float64, whole func(a, b int64) (int64, error)) func(a, b any) (any, error) {
	return func(a, b any) (any, error) {
		va, vb := reflect.ValueOf(a), reflect.ValueOf(b)
		if !numeric(va) || !numeric(vb) {
			return nil, fmt.Errorf("%s: %v and %v are not both numbers", name, a, b)
		}
		x, y, ints := numbers(a, b)
		if ints {
			return whole(integer(va), integer(vb))
		}
		return real(x, y), nil
	}
}

func numeric(v reflect.Value) bool { return v.IsValid() && (v.CanInt() || v.CanUint() || v.CanFloat()) }

func integer(v reflect.Value) int64 {
	switch {
	case v.CanInt():
		return v.Int()
	case v.CanUint():
		return int64(v.Uint())
	}
	return int64(v.Float())
}

func numbers(a, b any) (x, y float64, whole bool) {
	whole = true
	get := func(v reflect.Value) float64 {
		if v.IsValid() && v.CanFloat() {
			whole = false
			return v.Float()
		}
		if !numeric(v) {
			whole = false
			return 0
		}
		return float64(integer(v))
	}
	x, y = get(reflect.ValueOf(a)), get(reflect.ValueOf(b))
	return x, y, whole
}
