package mapping

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"text/template"

	"github.com/rollcall/rollcall/internal/docker"
)

// splitTags cuts a list of tags at its commas; \, is a comma inside a tag. Empty tags
// are dropped; the order is kept (gliderlabs reverses it).
func splitTags(v string) []string {
	var out []string
	var tag strings.Builder
	add := func() {
		if tag.Len() > 0 {
			out = append(out, tag.String())
			tag.Reset()
		}
	}
	for i := 0; i < len(v); i++ {
		switch {
		case v[i] == '\\' && i+1 < len(v) && v[i+1] == ',':
			tag.WriteByte(',')
			i++
		case v[i] == ',':
			add()
		default:
			tag.WriteByte(v[i])
		}
	}
	add()
	return out
}

// Tags are the tags that every service gets: a fixed list, or a template over the
// engine's own description of the container.
type Tags struct {
	fixed []string
	tmpl  *template.Template
}

// ParseTags reads the value of -tags.
func ParseTags(v string) (*Tags, error) {
	if !strings.Contains(v, "{{") {
		return &Tags{fixed: splitTags(v)}, nil
	}
	t, err := template.New("tags").Option("missingkey=zero").Funcs(functions).Parse(v)
	if err != nil {
		return nil, err
	}
	return &Tags{tmpl: t}, nil
}

// NeedsRaw tells whether containers must carry the engine's JSON.
func (t *Tags) NeedsRaw() bool { return t != nil && t.tmpl != nil }

// Execute gives the tags for a container.
func (t *Tags) Execute(c *docker.Container) ([]string, error) {
	if t.tmpl == nil {
		return t.fixed, nil
	}
	data := map[string]any{}
	if err := json.Unmarshal(c.Raw, &data); err != nil {
		return nil, fmt.Errorf("container %s: %w", c.Short(), err)
	}
	data["ID"] = c.ID // the name that templates know it by
	var out bytes.Buffer
	if err := t.tmpl.Execute(&out, data); err != nil {
		return nil, err
	}
	return splitTags(strings.ReplaceAll(out.String(), "<no value>", "")), nil
}

// functions are those of gliderlabs's templates, httpGet excepted: a template that asks
// the network could hold everything up. They take lists and maps as JSON gives them.
var functions = template.FuncMap{
	"strSlice": func(v string, i ...int) string {
		from, to := 0, len(v)
		if len(i) > 0 {
			from = min(max(i[0], 0), len(v))
		}
		if len(i) > 1 && i[1] >= from {
			to = min(i[1], len(v))
		}
		return v[from:to]
	},
	"sIndex": func(v any, i int) string { return pick(stringsOf(v), i) },
	"mIndex": func(v any, k string) string {
		m, _ := v.(map[string]any)
		return text(m[k])
	},
	"toUpper":    strings.ToUpper,
	"toLower":    strings.ToLower,
	"replace":    strings.Replace,
	"join":       func(v any, sep string) string { return strings.Join(stringsOf(v), sep) },
	"split":      strings.Split,
	"splitIndex": func(v, sep string, i int) string { return pick(strings.Split(v, sep), i) },
	"matchFirstElement": func(v any, expr string) (string, error) {
		all, err := matching(v, expr)
		if len(all) == 0 {
			return "", err
		}
		return all[0], nil
	},
	"matchAllElements": matching,
	"jsonParse": func(doc, path string) (string, error) {
		var v any
		if err := json.Unmarshal([]byte(doc), &v); err != nil {
			return "", err
		}
		for key := range strings.SplitSeq(path, "::") {
			m, _ := v.(map[string]any)
			v = m[key]
		}
		return text(v), nil
	},
}

// pick gives an element, counted from the end where i is negative, the nearest where
// there is no such element.
func pick(list []string, i int) string {
	if len(list) == 0 {
		return ""
	}
	if i < 0 {
		i += len(list)
	}
	return list[min(max(i, 0), len(list)-1)]
}

func matching(v any, expr string) ([]string, error) {
	re, err := regexp.Compile(expr)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, s := range stringsOf(v) {
		if re.MatchString(s) {
			out = append(out, s)
		}
	}
	return out, nil
}

func stringsOf(v any) []string {
	switch v := v.(type) {
	case []string:
		return v
	case []any:
		out := make([]string, len(v))
		for i, e := range v {
			out[i] = text(e)
		}
		return out
	}
	return nil
}

func text(v any) string {
	if v == nil {
		return ""
	}
	if s, ok := v.(string); ok {
		return s
	}
	return fmt.Sprint(v)
}
