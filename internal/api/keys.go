package api

import (
	"maps"
	"reflect"
	"slices"
	"strings"
)

// UnknownKeys names the keys of a configuration block that no service definition has, in
// order, those of its checks included. Keys match in any case, with or without
// underscores.
func (ServiceDefinition) UnknownKeys(block map[string]any) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(block)) {
		plain := normal(key)
		switch {
		case plain == "check" || plain == "checks":
			list, ok := block[key].([]any)
			if !ok {
				list = []any{block[key]}
			}
			for _, c := range list {
				if m, ok := c.(map[string]any); ok {
					for _, k := range (CheckDefinition{}).UnknownKeys(m) {
						out = append(out, key+"."+k)
					}
				}
			}
		case !serviceKeys[plain]:
			out = append(out, key)
		}
	}
	return out
}

// UnknownKeys names the keys of a configuration block that no check definition has.
func (CheckDefinition) UnknownKeys(block map[string]any) []string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(block)) {
		if !checkKeys[normal(key)] {
			out = append(out, key)
		}
	}
	return out
}

func normal(key string) string { return strings.ToLower(strings.ReplaceAll(key, "_", "")) }

// What definitions may say: their fields, and words of Consul's that have no meaning
// here or another spelling.
var (
	serviceKeys = keysOf(ServiceDefinition{}, "service", "kind", "connect", "proxy", "namespace", "partition")
	checkKeys   = keysOf(CheckDefinition{}, "scriptargs", "headers", "servicename", "proxyhttp", "exposedport", "namespace", "partition")
)

func keysOf(v any, more ...string) map[string]bool {
	out := map[string]bool{}
	for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
		out[normal(f.Name)] = true
	}
	for _, k := range more {
		out[k] = true
	}
	return out
}
