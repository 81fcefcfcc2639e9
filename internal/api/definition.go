package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net"
	"reflect"
	"strings"
	"time"
)

// ServiceDefinition is a service as people and clients hand it to an agent, with
// the checks that the agent shall run for it.
type ServiceDefinition struct {
	ID                string
	Name              string
	Tags              []string
	Address           string
	TaggedAddresses   map[string]ServiceAddress
	Meta              map[string]string
	Port              int
	Weights           *Weights
	EnableTagOverride bool
	SocketPath        string
	Locality          *Locality
	Check             *CheckDefinition
	Checks            []*CheckDefinition
	Token             string
}

// CheckDefinition says how an agent finds out whether something is well. Exactly
// one kind (TTL, HTTP, TCP, …) is set.
type CheckDefinition struct {
	ID        string
	CheckID   string
	Name      string
	Notes     string
	ServiceID string
	Token     string
	Status    string // the first status; critical when empty

	TTL               Duration
	HTTP              string
	Method            string
	Header            map[string][]string
	Body              string
	DisableRedirects  bool
	TCP               string
	TCPUseTLS         bool
	UDP               string
	Args              []string
	Script            string // before 1.1; run by a shell
	DockerContainerID string
	Shell             string
	GRPC              string
	GRPCUseTLS        bool
	H2PING            string
	H2PingUseTLS      *bool
	OSService         string
	AliasNode         string
	AliasService      string

	Interval                       Duration
	Timeout                        Duration
	TLSSkipVerify                  bool
	TLSServerName                  string
	SuccessBeforePassing           int
	FailuresBeforeWarning          int
	FailuresBeforeCritical         int
	DeregisterCriticalServiceAfter Duration
	OutputMaxSize                  int
}

// checkAliases are the spellings of a check's keys that config files and old
// clients use beside the CamelCase ones (which match in any case).
type checkAliases struct {
	ScriptArgs            []string
	ScriptArgsSnake       []string            `json:"script_args"`
	ServiceIDSnake        string              `json:"service_id"`
	CheckIDSnake          string              `json:"check_id"`
	DockerSnake           string              `json:"docker_container_id"`
	DisableRedirectsSnake bool                `json:"disable_redirects"`
	TCPUseTLSSnake        bool                `json:"tcp_use_tls"`
	GRPCUseTLSSnake       bool                `json:"grpc_use_tls"`
	H2PingUseTLSSnake     *bool               `json:"h2ping_use_tls"`
	H2PingUseTLSUpper     *bool               `json:"H2PINGUseTLS"`
	OSServiceSnake        string              `json:"os_service"`
	AliasNodeSnake        string              `json:"alias_node"`
	AliasServiceSnake     string              `json:"alias_service"`
	TLSSkipVerifySnake    bool                `json:"tls_skip_verify"`
	TLSServerNameSnake    string              `json:"tls_server_name"`
	SuccessSnake          int                 `json:"success_before_passing"`
	FailuresWarnSnake     int                 `json:"failures_before_warning"`
	FailuresCritSnake     int                 `json:"failures_before_critical"`
	DeregisterSnake       Duration            `json:"deregister_critical_service_after"`
	OutputMaxSizeSnake    int                 `json:"output_max_size"`
	HeadersLegacy         map[string][]string `json:"headers"`
}

// UnmarshalJSON reads a check under any of its spellings.
func (c *CheckDefinition) UnmarshalJSON(b []byte) error {
	type plain CheckDefinition
	if err := json.Unmarshal(b, (*plain)(c)); err != nil {
		return err
	}
	var a checkAliases
	if err := json.Unmarshal(b, &a); err != nil {
		return err
	}
	if c.Args == nil {
		c.Args = a.ScriptArgs
	}
	if c.Args == nil {
		c.Args = a.ScriptArgsSnake
	}
	if c.Header == nil {
		c.Header = a.HeadersLegacy
	}
	if c.H2PingUseTLS == nil {
		c.H2PingUseTLS = a.H2PingUseTLSSnake
	}
	if c.H2PingUseTLS == nil {
		c.H2PingUseTLS = a.H2PingUseTLSUpper
	}
	or(&c.ServiceID, a.ServiceIDSnake)
	or(&c.CheckID, a.CheckIDSnake)
	or(&c.CheckID, c.ID)
	or(&c.DockerContainerID, a.DockerSnake)
	or(&c.DisableRedirects, a.DisableRedirectsSnake)
	or(&c.TCPUseTLS, a.TCPUseTLSSnake)
	or(&c.GRPCUseTLS, a.GRPCUseTLSSnake)
	or(&c.OSService, a.OSServiceSnake)
	or(&c.AliasNode, a.AliasNodeSnake)
	or(&c.AliasService, a.AliasServiceSnake)
	or(&c.TLSSkipVerify, a.TLSSkipVerifySnake)
	or(&c.TLSServerName, a.TLSServerNameSnake)
	or(&c.SuccessBeforePassing, a.SuccessSnake)
	or(&c.FailuresBeforeWarning, a.FailuresWarnSnake)
	or(&c.FailuresBeforeCritical, a.FailuresCritSnake)
	or(&c.DeregisterCriticalServiceAfter, a.DeregisterSnake)
	or(&c.OutputMaxSize, a.OutputMaxSizeSnake)
	return nil
}

// UnmarshalJSON reads a service under any of its spellings.
func (s *ServiceDefinition) UnmarshalJSON(b []byte) error {
	type plain ServiceDefinition
	if err := json.Unmarshal(b, (*plain)(s)); err != nil {
		return err
	}
	var a struct {
		TaggedSnake   map[string]ServiceAddress `json:"tagged_addresses"`
		OverrideSnake bool                      `json:"enable_tag_override"`
		Service       string
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return err
	}
	if s.TaggedAddresses == nil {
		s.TaggedAddresses = a.TaggedSnake
	}
	or(&s.EnableTagOverride, a.OverrideSnake)
	or(&s.Name, a.Service)
	return nil
}

// or sets *dst to v where *dst is still zero.
func or[T comparable](dst *T, v T) {
	var zero T
	if *dst == zero {
		*dst = v
	}
}

// Kind names the check's kind as the catalog's Type field does, "" if none is set. Where
// several are set the first of them counts, in Consul's order.
func (c *CheckDefinition) Kind() string {
	command := len(c.Args) > 0 || c.Script != ""
	switch {
	case c.AliasNode != "" || c.AliasService != "":
		return "alias"
	case c.TTL != 0:
		return "ttl"
	case c.HTTP != "":
		return "http"
	case c.TCP != "":
		return "tcp"
	case c.UDP != "":
		return "udp"
	case c.GRPC != "":
		return "grpc"
	case c.DockerContainerID != "" && command:
		return "docker"
	case command:
		return "script"
	case c.H2PING != "":
		return "h2ping"
	case c.OSService != "":
		return "os_service"
	}
	return ""
}

// repeated reports whether anything is set that is looked at in intervals.
func (c *CheckDefinition) repeated() bool {
	other := *c
	other.TTL, other.AliasNode, other.AliasService = 0, "", ""
	return other.Kind() != ""
}

// Validate reports why the definition cannot be run, as an Invalid error with Consul's
// words.
func (c *CheckDefinition) Validate() error {
	alias, repeated := c.Kind() == "alias", c.repeated()
	reason := ""
	switch {
	case c.Interval > 0 && c.TTL > 0:
		reason = "Interval and TTL cannot both be specified"
	case repeated && c.Interval <= 0:
		reason = "Interval must be > 0 for Script, HTTP, H2PING, TCP, UDP or OSService checks"
	case repeated && alias:
		reason = "Interval cannot be set for Alias checks"
	case alias && c.TTL != 0:
		reason = "TTL must be not be set for Alias checks"
	case !repeated && !alias && c.TTL <= 0:
		reason = "TTL must be > 0 for TTL checks"
	case c.OutputMaxSize < 0:
		reason = "MaxOutputMaxSize must be positive"
	case c.FailuresBeforeWarning > c.FailuresBeforeCritical:
		reason = "FailuresBeforeWarning can't be higher than FailuresBeforeCritical"
	}
	if reason != "" {
		return Errorf(Invalid, "Invalid check: %s", reason)
	}
	return ValidStatus(c.Status)
}

// ValidStatus accepts passing, warning, critical and "" (the default).
func ValidStatus(s string) error {
	switch s {
	case "", Passing, Warning, Critical:
		return nil
	}
	return Errorf(Invalid, "Bad check status %q: must be one of passing, warning, critical", s)
}

// AllChecks gives Check and Checks as one list.
func (s *ServiceDefinition) AllChecks() []*CheckDefinition {
	var all []*CheckDefinition
	if s.Check != nil && !reflect.ValueOf(s.Check).Elem().IsZero() { // Go's clients send one that is empty
		all = append(all, s.Check)
	}
	for _, c := range s.Checks {
		if c != nil {
			all = append(all, c)
		}
	}
	return all
}

// Instance gives the service as the catalog keeps it: an address that is an IP is its
// tagged address of that family as well, unless another is given.
func (s *ServiceDefinition) Instance() *Service {
	out := &Service{
		ID: s.ID, Service: s.Name, Tags: s.Tags, Address: s.Address,
		TaggedAddresses: s.TaggedAddresses, Meta: s.Meta, Port: s.Port,
		EnableTagOverride: s.EnableTagOverride, Weights: Weights{1, 1}, SocketPath: s.SocketPath, Locality: s.Locality,
	}
	if out.ID == "" {
		out.ID = s.Name
	}
	if out.Tags == nil {
		out.Tags = []string{}
	}
	if s.Weights != nil {
		out.Weights = *s.Weights
	}
	if ip := net.ParseIP(s.Address); ip != nil {
		family := "ipv6"
		if ip.To4() != nil {
			family = "ipv4"
		}
		all := map[string]ServiceAddress{"lan_" + family: {s.Address, s.Port}, "wan_" + family: {s.Address, s.Port}}
		maps.Copy(all, s.TaggedAddresses)
		out.TaggedAddresses = all
	}
	return out
}

// Validate reports the first thing wrong with a service handed to an agent, as an
// Invalid error with Consul's words where clients match them.
func (s *ServiceDefinition) Validate() error {
	if s.Name == "" {
		return Errorf(Invalid, "Missing service name")
	}
	if s.Address == "0.0.0.0" || s.Address == "::" || s.Address == "[::]" {
		return Errorf(Invalid, "Invalid service address")
	}
	if s.Weights != nil && (s.Weights.Passing < 1 || s.Weights.Warning < 0) {
		return Errorf(Invalid, "Invalid Weights: Passing must be greater than 0 and Warning greater than or equal 0")
	}
	if s.Weights != nil && max(s.Weights.Passing, s.Weights.Warning) > math.MaxUint16 {
		return Errorf(Invalid, "Invalid Weights: DNS Weight must be between 0 and 65535")
	}
	if err := ValidMeta(s.Meta); err != nil {
		return Errorf(Invalid, "Invalid Service Meta: %v", err)
	}
	for _, c := range s.AllChecks() {
		if err := c.Validate(); err != nil {
			return err
		}
	}
	return nil
}

// Limits of node and service meta.
const (
	maxMetaPairs = 64
	maxMetaKey   = 128
	maxMetaValue = 512
	metaKeyChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
)

// ValidMeta checks number, keys and values of a meta map that somebody configures.
func ValidMeta(m map[string]string) error {
	for k := range m {
		if strings.HasPrefix(k, "consul-") {
			return fmt.Errorf("key %q: the prefix consul- is reserved", k)
		}
	}
	return ValidCatalogMeta(m)
}

// ValidCatalogMeta checks a meta map as an agent sends it, with reserved keys or without.
func ValidCatalogMeta(m map[string]string) error {
	if len(m) > maxMetaPairs {
		return fmt.Errorf("%d pairs, at most %d are kept", len(m), maxMetaPairs)
	}
	for k, v := range m {
		switch {
		case k == "":
			return fmt.Errorf("the key of value %q is empty", v)
		case len(k) > maxMetaKey:
			return fmt.Errorf("key %q is longer than %d characters", k, maxMetaKey)
		case strings.Trim(k, metaKeyChars) != "":
			return fmt.Errorf("key %q may hold letters, digits, - and _ only", k)
		case len(v) > maxMetaValue:
			return fmt.Errorf("value of key %q is longer than %d characters", k, maxMetaValue)
		}
	}
	return nil
}

// MinInterval is the shortest pause between two runs of a check.
const MinInterval = time.Second
