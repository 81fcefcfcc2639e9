package mapping

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/internal/docker"
)

// defaultInterval is how often a check runs that does not say.
const defaultInterval = "10s"

// checks sets all checks of a service: those that labels ask for, and the one that
// stands for the HEALTHCHECK. It may be called again after the service's id changed.
func (m *mapper) checks(s *Service, p candidate) {
	s.Checks, s.Health = nil, nil
	if c := m.check(s, p, p.keys, ""); c != nil {
		c.CheckID = "service:" + s.ID
		s.Checks = append(s.Checks, c)
	}
	for _, n := range numbered(p.keys) {
		if c := m.check(s, p, p.keys, n+"_"); c != nil {
			c.CheckID = "service:" + s.ID + ":" + n
			s.Checks = append(s.Checks, c)
		}
	}
	if !m.cfg.Health || m.c.Health == nil {
		return
	}
	s.Health = m.health(s.ID)
	c := &consul.AgentServiceCheck{
		CheckID: s.Health.CheckID, Name: "Docker HEALTHCHECK", TTL: m.cfg.HealthTTL.String(), Status: s.Health.Status,
		Notes: "the engine runs it; the registrator reports it",
	}
	if m.cfg.DeregisterAfter > 0 {
		c.DeregisterCriticalServiceAfter = m.cfg.DeregisterAfter.String()
	}
	s.Checks = append(s.Checks, c)
}

// maxOutput is how much of a probe's output the catalog gets.
const maxOutput = 1024

// health words the HEALTHCHECK's state for the catalog.
func (m *mapper) health(id string) *Health {
	h := &Health{CheckID: "docker:" + id, Status: consul.HealthCritical, Output: m.c.Health.Status}
	switch m.c.Health.Status {
	case docker.HealthHealthy:
		h.Status = consul.HealthPassing
	case docker.HealthStarting:
		h.Status = m.cfg.HealthStarting
	}
	if out := strings.TrimSpace(m.c.Health.Output); out != "" && h.Status == consul.HealthCritical {
		h.Output += ": " + strings.ToValidUTF8(out[:min(len(out), maxOutput)], "")
	}
	return h
}

// numbered gives the n of all check_<n>_… keys, in order.
func numbered(keys map[string]string) []string {
	seen := map[int]bool{}
	for k := range keys {
		if rest, ok := strings.CutPrefix(k, "check_"); ok {
			if head, _, ok := strings.Cut(rest, "_"); ok {
				if n, err := strconv.Atoi(head); err == nil && strconv.Itoa(n) == head {
					seen[n] = true
				}
			}
		}
	}
	var out []string
	for _, n := range slices.Sorted(maps.Keys(seen)) {
		out = append(out, strconv.Itoa(n))
	}
	return out
}

// kinds are the keys that make a check, the first found wins, as in gliderlabs's.
var kinds = []string{"http", "https", "cmd", "script", "ttl", "tcp", "grpc", "docker", "udp", "h2ping"}

// check makes the check that keys beginning with check_<n> ask for, or nil. How a check
// runs (interval, timeout, …) may be given once for all numbered ones.
func (m *mapper) check(s *Service, p candidate, keys map[string]string, n string) *consul.AgentServiceCheck {
	own := func(key string) string { return keys["check_"+n+key] }
	get := func(key string) string {
		if v := own(key); v != "" {
			return v
		}
		return keys["check_"+key]
	}
	kind := kindOf(own)
	if kind == "" {
		return nil
	}
	value := own(kind)
	c := &consul.AgentServiceCheck{
		Notes: get("notes"), Method: get("method"), Body: get("body"), TLSServerName: get("tls_server_name"),
		TLSSkipVerify: truth(get("tls_skip_verify")), Header: m.header(get("header")),
		SuccessBeforePassing: m.number(n, "success_before_passing", get), FailuresBeforeCritical: m.number(n, "failures_before_critical", get),
		FailuresBeforeWarning: m.number(n, "failures_before_warning", get),
		Timeout:               m.duration(n, "timeout", get), DeregisterCriticalServiceAfter: m.duration(n, "deregister_after", get),
	}
	if !m.probe(c, kind, value, s, p, n, get) {
		return nil
	}
	if kind != "ttl" {
		c.Interval = defaultInterval
		if v := m.duration(n, "interval", get); v != "" {
			c.Interval = v
		}
	}
	switch v := get("initial_status"); v {
	case "", consul.HealthPassing, consul.HealthWarning, consul.HealthCritical:
		c.Status = v
	default:
		m.warn("%sCHECK_%sINITIAL_STATUS=%q: use passing, warning or critical", m.cfg.Prefix, strings.ToUpper(n), v)
	}
	return c
}

// kindOf gives the first kind of check that is asked for, or nothing.
func kindOf(own func(string) string) string {
	for _, k := range kinds {
		v := own(k)
		isSwitch := k == "tcp" || k == "grpc" || k == "udp" || k == "h2ping"
		if v != "" && (!isSwitch || truth(v)) {
			return k
		}
	}
	return ""
}

// probe sets what a check of a kind does, or tells that it cannot be made.
func (m *mapper) probe(c *consul.AgentServiceCheck, kind, value string, s *Service, p candidate, n string, get func(string) string) bool {
	port := m.checkPort(s, p, n, get)
	host := s.Address
	if host == "" {
		host = "127.0.0.1" // the agent's own host
	}
	at := net.JoinHostPort(host, strconv.Itoa(port))
	switch kind {
	case "http", "https":
		if v := get(kind + "_method"); v != "" {
			c.Method = v
		}
		if v := get("path"); v != "" {
			value = v
		}
		if !strings.HasPrefix(value, "/") {
			value = "/" + value
		}
		c.HTTP = kind + "://" + at + value
	case "cmd":
		c.Args = []string{"check-cmd", docker.Short(m.c.ID), strconv.Itoa(int(p.Number)), value}
	case "script":
		value = strings.NewReplacer("$SERVICE_IP", host, "$SERVICE_PORT", strconv.Itoa(port)).Replace(value)
		args, err := splitShell(value)
		if err != nil || len(args) == 0 {
			m.warn("%sCHECK_%sSCRIPT: %v; it is run by /bin/sh", m.cfg.Prefix, strings.ToUpper(n), err)
			args = []string{"/bin/sh", "-c", value}
		}
		c.Args = args
	case "docker":
		c.DockerContainerID, c.Shell, c.Args = m.c.ID, "/bin/sh", []string{"/bin/sh", "-c", value}
	case "ttl":
		if d, err := time.ParseDuration(value); err != nil || d <= 0 {
			m.warn("%sCHECK_%sTTL=%q is no duration; no check is made", m.cfg.Prefix, strings.ToUpper(n), value)
			return false
		}
		c.TTL = value
	case "tcp":
		c.TCP = at
	case "udp":
		c.UDP = at
	case "grpc":
		c.GRPC, c.GRPCUseTLS = at, truth(get("grpc_use_tls"))
	case "h2ping":
		c.H2PING, c.H2PingUseTLS = at, truth(get("h2ping_use_tls"))
	}
	return true
}

// checkPort is the service's port, or where another port of the container is reached.
func (m *mapper) checkPort(s *Service, p candidate, n string, get func(string) string) int {
	v := get("port")
	if v == "" {
		return s.Port
	}
	num, err := strconv.ParseUint(v, 10, 16)
	if err != nil || num == 0 {
		m.warn("%sCHECK_%sPORT=%q is no port", m.cfg.Prefix, strings.ToUpper(n), v)
		return s.Port
	}
	if other, why := m.reach(docker.Port{Number: uint16(num), Proto: "tcp"}, m.mode(p.keys), p.keys); why == "" {
		return other.port
	}
	return int(num)
}

func (m *mapper) duration(n, key string, get func(string) string) string {
	v := get(key)
	if v == "" {
		return ""
	}
	if d, err := time.ParseDuration(v); err != nil || d <= 0 {
		m.warn("%sCHECK_%s%s=%q is no duration such as 10s", m.cfg.Prefix, strings.ToUpper(n), strings.ToUpper(key), v)
		return ""
	}
	return v
}

func (m *mapper) number(n, key string, get func(string) string) int {
	v := get(key)
	if v == "" {
		return 0
	}
	num, err := strconv.Atoi(v)
	if err != nil || num < 0 {
		m.warn("%sCHECK_%s%s=%q is no number", m.cfg.Prefix, strings.ToUpper(n), strings.ToUpper(key), v)
		return 0
	}
	return num
}

// header reads "Name: value", several separated by |, or a JSON object of lists.
func (m *mapper) header(v string) map[string][]string {
	if v == "" {
		return nil
	}
	out := map[string][]string{}
	if strings.HasPrefix(v, "{") {
		if err := json.Unmarshal([]byte(v), &out); err != nil {
			m.warn("%sCHECK_HEADER: %v", m.cfg.Prefix, err)
			return nil
		}
		return out
	}
	for part := range strings.SplitSeq(v, "|") {
		name, value, ok := strings.Cut(part, ":")
		if name = strings.TrimSpace(name); !ok || name == "" {
			m.warn("%sCHECK_HEADER=%q: use \"Name: value\"", m.cfg.Prefix, part)
			continue
		}
		out[name] = append(out[name], strings.TrimSpace(value))
	}
	return out
}

// splitShell cuts a command line as a shell does: blanks separate, quotes and \ hold
// together. Nothing is expanded.
func splitShell(s string) ([]string, error) {
	var out []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	escaped := false
	for _, r := range s {
		switch {
		case escaped:
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0:
			if r == quote {
				quote = 0
			} else {
				word.WriteRune(r)
			}
		case r == '\'' || r == '"':
			quote, inWord = r, true
		case r == ' ' || r == '\t' || r == '\n':
			if inWord {
				out = append(out, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if inWord {
		out = append(out, word.String())
	}
	return out, nil
}

// seal marks a service as ours and fingerprints it. The state of checks is no part of
// the fingerprint: it changes without a registration.
func (m *mapper) seal(s *Service) {
	s.Meta[MetaOwner] = m.cfg.Owner
	s.Meta[MetaContainer] = docker.Short(m.c.ID)
	if ValidMeta(MetaImage, m.c.Image) == "" && m.c.Image != "" {
		s.Meta[MetaImage] = m.c.Image
	}
	print := s.AgentServiceRegistration
	print.Checks = make(consul.AgentServiceChecks, len(s.Checks))
	for i, c := range s.Checks {
		still := *c
		if s.Health != nil && c.CheckID == s.Health.CheckID {
			still.Status = ""
		}
		print.Checks[i] = &still
	}
	b, err := json.Marshal(print) // strings, numbers and maps of them: cannot fail
	if err != nil {
		panic(err)
	}
	sum := sha256.Sum256(b)
	s.Hash = hex.EncodeToString(sum[:8])
	s.Meta[MetaHash] = s.Hash
}
