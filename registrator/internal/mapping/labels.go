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
	level      int // generic < range < port < port and protocol, each < the same with an index
	from, to   uint16
	proto      string
	index      int // of a further service on the port; 0: for all of them
	key, value string
	written    string // all behind the prefix, in lower case
}

const (
	levelGeneric = iota
	levelRange
	levelPort
	levelProto
	levelIndex // added to the others
)

// Alias begins labels in the form that other tools use: registrator.80.name is
// SERVICE_80_NAME, whatever the prefix is.
const Alias = "registrator."

// metadata collects every label and environment variable that begins with the prefix, and
// the aliases. Labels beat environment, as they do in gliderlabs's, and aliases; of two
// labels that differ in case only, the one that sorts last wins.
func metadata(cfg *Config, c *docker.Container) labels {
	var env, aliases, lab labels
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
		} else if rest, ok := strings.CutPrefix(k, Alias); ok {
			if l, ok := parseLabel("", strings.ReplaceAll(rest, ".", "_"), c.Labels[k]); ok {
				aliases = append(aliases, l)
			}
		}
	}
	lab = append(aliases, lab...)
	if cfg.EnvWins {
		return append(lab, env...)
	}
	return append(env, lab...)
}

// contradictions says where a label and the environment differ about the same setting:
// perhaps the image's maker and the operator, of whom only one is heard.
func contradictions(cfg *Config, c *docker.Container) []string {
	envOnly, labelsOnly := metadata(cfg, &docker.Container{Env: c.Env}), metadata(cfg, &docker.Container{Labels: c.Labels})
	winner, loser := "the label", "the environment"
	if cfg.EnvWins {
		winner, loser = loser, winner
	}
	var out []string
	for _, e := range envOnly {
		for _, l := range labelsOnly {
			if same := l; l.value != e.value && l.key != "token" {
				if same.value = e.value; same == e {
					out = append(out, fmt.Sprintf("%s%s is %q as a label and %q in the environment: %s counts, not %s (see -env-wins)",
						cfg.Prefix, strings.ToUpper(l.written), l.value, e.value, winner, loser))
				}
			}
		}
	}
	return out
}

// parseLabel reads SERVICE_<key>, SERVICE_<port>_<key>, SERVICE_<port>_<proto>_<key>,
// SERVICE_<from>-<to>_<key>, and the latter three with _<index> before the key.
func parseLabel(prefix, name, value string) (label, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	if !ok || rest == "" {
		return label{}, false
	}
	l := label{key: strings.ToLower(rest), value: value}
	l.written = l.key
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
	if index, key, ok := strings.Cut(l.key, "_"); ok && key != "" {
		if n, err := strconv.ParseUint(index, 10, 16); err == nil && n > 0 {
			l.index, l.key, l.level = int(n), key, l.level+levelIndex
		}
	}
	return l, true
}

// fits tells whether a setting is meant for a port.
func (l label) fits(p docker.Port) bool {
	return l.level == levelGeneric || p.Number >= l.from && p.Number <= l.to && (l.proto == "" || l.proto == p.Proto)
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

// port gives the settings for a port, and which of them were made for that very port. An
// index other than 0 is that of a further service on it, which has all settings of the
// port but name and id.
func (ls labels) port(p docker.Port, index int) (keys map[string]string, fromPort map[string]bool) {
	keys, fromPort = map[string]string{}, map[string]bool{}
	level := map[string]int{}
	for _, l := range ls {
		if !l.fits(p) || (l.index != 0 && l.index != index) {
			continue
		}
		if index != 0 && l.index == 0 && (l.key == "name" || l.key == "id") {
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

// indices gives those of the further services on a port, in order.
func (ls labels) indices(p docker.Port) []int {
	var out []int
	for _, l := range ls {
		if l.index != 0 && l.fits(p) {
			out = append(out, l.index)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// reserved are the keys that have a meaning here and are no metadata.
var reserved = map[string]bool{
	"name": true, "tags": true, "id": true, "ignore": true, "register": true, "address": true, "port": true, "network": true,
	"address_mode": true, "weight_passing": true, "weight_warning": true, "tag_override": true, "token": true, "drain": true,
}

// origins is the metadata that tells where a container comes from, by the labels that
// Compose and swarm set.
var origins = map[string]string{
	"compose-project": "com.docker.compose.project",
	"compose-service": "com.docker.compose.service",
	"swarm-stack":     "com.docker.stack.namespace",
	"swarm-service":   "com.docker.swarm.service.name",
}

// What the catalog takes as metadata of a service.
const (
	maxMeta      = 64
	maxMetaKey   = 128
	maxMetaValue = 512
	ourMeta      = 4
)

// meta makes metadata of all other keys. What the catalog would refuse is left out, with
// a warning, so that the service is registered all the same.
func (m *mapper) meta(keys map[string]string) map[string]string {
	out := map[string]string{}
	for k, label := range origins {
		if v := m.c.Labels[label]; v != "" && ValidMeta(k, v) == "" {
			out[k] = v
		}
	}
	maps.Copy(out, m.cfg.Meta)
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
