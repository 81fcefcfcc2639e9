package render

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// toTOML writes a map as TOML: plain values by name, then tables. What it cannot say,
// such as nothing, is an error.
func toTOML(v any) (string, error) {
	b, err := json.Marshal(v) // any type, as maps, lists and plain values
	if err != nil {
		return "", fmt.Errorf("toTOML: %w", err)
	}
	d := json.NewDecoder(strings.NewReader(string(b)))
	d.UseNumber()
	var plain any
	if err := d.Decode(&plain); err != nil {
		return "", fmt.Errorf("toTOML: %w", err)
	}
	top, ok := plain.(map[string]any)
	if !ok {
		return "", fmt.Errorf("toTOML: a %T is no map", v)
	}
	var out strings.Builder
	if err := tomlTable(&out, "", top); err != nil {
		return "", fmt.Errorf("toTOML: %w", err)
	}
	return strings.TrimSpace(out.String()), nil
}

func tomlTable(out *strings.Builder, path string, table map[string]any) error {
	names := slices.Sorted(maps.Keys(table))
	for _, k := range names {
		if _, sub := tomlTables(table[k]); sub {
			continue
		}
		text, err := tomlValue(table[k])
		if err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		fmt.Fprintf(out, "%s = %s\n", tomlKey(k), text)
	}
	for _, k := range names {
		tables, sub := tomlTables(table[k])
		if !sub {
			continue
		}
		full := strings.TrimPrefix(path+"."+tomlKey(k), ".")
		form := "\n[%s]\n"
		if _, list := table[k].([]any); list {
			form = "\n[[%s]]\n"
		}
		for _, t := range tables {
			fmt.Fprintf(out, form, full)
			if err := tomlTable(out, full, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// tomlTables gives the tables that a value is: a map, or a list of nothing but maps.
func tomlTables(v any) ([]map[string]any, bool) {
	switch v := v.(type) {
	case map[string]any:
		return []map[string]any{v}, true
	case []any:
		var out []map[string]any
		for _, e := range v {
			m, ok := e.(map[string]any)
			if !ok {
				return nil, false
			}
			out = append(out, m)
		}
		return out, len(out) > 0
	}
	return nil, false
}

func tomlValue(v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", errors.New("TOML has no word for nothing")
	case []any:
		var parts []string
		for _, e := range v {
			text, err := tomlValue(e)
			if err != nil {
				return "", err
			}
			parts = append(parts, text)
		}
		return "[" + strings.Join(parts, ", ") + "]", nil
	case map[string]any: // inside a mixed list
		var parts []string
		for _, k := range slices.Sorted(maps.Keys(v)) {
			text, err := tomlValue(v[k])
			if err != nil {
				return "", err
			}
			parts = append(parts, tomlKey(k)+" = "+text)
		}
		return "{" + strings.Join(parts, ", ") + "}", nil
	case string:
		return tomlString(v), nil
	}
	return fmt.Sprint(v), nil // a number or a truth value
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_\-]+$`)

func tomlKey(k string) string {
	if bareKey.MatchString(k) {
		return k
	}
	return tomlString(k)
}

// tomlString quotes; TOML knows fewer escapes than Go.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\u%04X`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
