package mapping

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/rollcall/rollcall/internal/docker"
)

// labels are the settings that a container carries, in the order in which later ones
// win over earlier ones of the same level.
type labels []label

// label is one setting: a key, and the ports that it is meant for.
type label struct {
	level      int // generic < range < port < port and protocol
	from, to   uint16
	proto      string
	key, value string
}

const (
	levelGeneric = iota
	levelRange
	levelPort
	levelProto
)

// metadata collects every label and environment variable that begins with the prefix.
// Labels beat environment, as they do in gliderlabs's; of two labels that differ in
// case only, the one that sorts last wins.
func metadata(cfg *Config, c *docker.Container) labels {
	var env, lab labels
	for _, kv := range c.Env {
		if k, v, ok := strings.Cut(kv, "="); ok {
			if l, ok := parseLabel(cfg.Prefix, k, v); ok {
				env = append(env, l)
			}
		}
	}
	for _, k := range slices.Sorted(maps.Keys(c.Labels)) {
		if l, ok := parseLabel(cfg.Prefix, k, c.Labels[k]); ok {
			lab = append(lab, l)
		}
	}
	if cfg.EnvWins {
		return append(lab, env...)
	}
	return append(env, lab...)
}

// parseLabel reads SERVICE_<key>, SERVICE_<port>_<key>, SERVICE_<port>_<proto>_<key> and
// SERVICE_<from>-<to>_<key>.
func parseLabel(prefix, name, value string) (label, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok || rest == "" {
		return label{}, false
	}
	l := label{key: strings.ToLower(rest), value: value}
	head, tail, ok := strings.Cut(l.key, "_")
	if !ok || tail == "" {
		return l, true
	}
	from, to, isRange := strings.Cut(head, "-")
	if !isRange {
		to = from
	}
	a, errA := strconv.ParseUint(from, 10, 16)
	b, errB := strconv.ParseUint(to, 10, 16)
	if errA != nil || errB != nil {
		return l, true
	}
	l.from, l.to, l.key, l.level = uint16(a), uint16(b), tail, levelPort
	if isRange {
		l.level = levelRange
	}
	if proto, key, ok := strings.Cut(tail, "_"); ok && key != "" && (proto == "tcp" || proto == "udp" || proto == "sctp") && !isRange {
		l.proto, l.key, l.level = proto, key, levelProto
	}
	return l, true
}

// general gives the settings that are for no port in particular.
func (ls labels) general() map[string]string {
	out := map[string]string{}
	for _, l := range ls {
		if l.level == levelGeneric {
			out[l.key] = l.value
		}
	}
	return out
}

// port gives the settings for a port, and which of them were made for that very port.
func (ls labels) port(p docker.Port) (keys map[string]string, fromPort map[string]bool) {
	keys, fromPort = map[string]string{}, map[string]bool{}
	level := map[string]int{}
	for _, l := range ls {
		switch {
		case l.level == levelGeneric:
		case p.Number < l.from || p.Number > l.to, l.proto != "" && l.proto != p.Proto:
			continue
		}
		if was, ok := level[l.key]; ok && was > l.level {
			continue
		}
		keys[l.key], level[l.key] = l.value, l.level
		if l.level >= levelPort {
			fromPort[l.key] = true
		}
	}
	return keys, fromPort
}

// reserved are the keys that have a meaning here and are no metadata.
var reserved = map[string]bool{
	"name": true, "tags": true, "id": true, "ignore": true, "register": true, "address": true, "port": true, "network": true,
	"address_mode": true, "weight_passing": true, "weight_warning": true, "tag_override": true, "token": true, "drain": true,
}

// What the catalog takes as metadata of a service.
const (
	maxMeta      = 64
	maxMetaKey   = 128
	maxMetaValue = 512
	ourMeta      = 3
)

// meta makes metadata of all other keys. What the catalog would refuse is left out, with
// a warning, so that the service is registered all the same.
func (m *mapper) meta(keys map[string]string) map[string]string {
	out := maps.Clone(m.cfg.Meta)
	if out == nil {
		out = map[string]string{}
	}
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		v := keys[k]
		if reserved[k] || k == "check" || strings.HasPrefix(k, "check_") {
			continue
		}
		k = strings.TrimPrefix(k, "meta_")
		_, replaces := out[k]
		why := ValidMeta(k, v)
		if why == "" && !replaces && len(out) >= maxMeta-ourMeta {
			why = fmt.Sprintf("there are more than %d", maxMeta-ourMeta)
		}
		if why != "" {
			m.warn("metadata %q left out: %s", k, why)
			continue
		}
		out[k] = v
	}
	return out
}

// ValidMeta says why the catalog would refuse a pair as metadata, or nothing.
func ValidMeta(k, v string) string {
	bad := func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '_')
	}
	switch {
	case k == "":
		return "the key is empty"
	case len(k) > maxMetaKey:
		return fmt.Sprintf("the key is longer than %d", maxMetaKey)
	case strings.ContainsFunc(k, bad):
		return "a key has letters, digits, - and _ only"
	case strings.HasPrefix(k, "consul-"):
		return "keys that begin with consul- belong to the catalog"
	case len(v) > maxMetaValue:
		return fmt.Sprintf("the value is longer than %d", maxMetaValue)
	}
	return ""
}
