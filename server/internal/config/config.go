// Package config is the agent's configuration: one struct with Consul's keys, filled
// from defaults, then files, then flags, and checked as a whole. Keys of features that
// Rollcall leaves out (mesh, peering, …) are accepted with a warning; unknown ones are
// faults. Other rooms get small structs of their own, cut from this one by package agent.
package config

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/config"
	"github.com/rollcall/rollcall/internal/daemon"
)

// Config is the agent's whole configuration. The zero value of a field is its default
// unless Default says otherwise.
type Config struct {
	// Identity.
	NodeName         string            `config:"node_name"`  // default: the host's name
	NodeID           string            `config:"node_id"`    // default: made once, kept in data_dir
	NodeMeta         map[string]string `config:"node_meta"`  // at most 64 pairs
	Datacenter       string            `config:"datacenter"` // default dc1
	PrimaryDC        string            `config:"primary_datacenter,acl_datacenter"`
	Server           bool              `config:"server"`
	Dev              bool              `config:"-"` // only by flag: in memory, loopback, quick timers
	DataDir          string            `config:"data_dir"`
	Domain           string            `config:"domain"` // default consul.
	AltDomain        string            `config:"alt_domain"`
	DisableHostID    *bool             `config:"disable_host_node_id"`
	DevWithoutServer bool              `config:"-"`

	// Addresses. Each may be an IP or a go-sockaddr template.
	BindAddr      string            `config:"bind_addr"`      // cluster traffic; default 0.0.0.0
	AdvertiseAddr string            `config:"advertise_addr"` // default: BindAddr, else the private address
	AdvertiseWAN  string            `config:"advertise_addr_wan"`
	ClientAddr    string            `config:"client_addr"` // HTTP and DNS; several, separated by spaces; default 127.0.0.1
	SerfLAN       string            `config:"serf_lan"`
	SerfWAN       string            `config:"serf_wan"`
	Addresses     Addresses         `config:"addresses"`
	Ports         Ports             `config:"ports"`
	Tagged        map[string]string `config:"tagged_addresses"`

	// Cluster.
	Bootstrap         bool           `config:"bootstrap"`
	BootstrapExpect   int            `config:"bootstrap_expect"`
	StartJoin         []string       `config:"start_join"`
	StartJoinWAN      []string       `config:"start_join_wan"`
	RetryJoin         []string       `config:"retry_join"`
	RetryJoinWAN      []string       `config:"retry_join_wan"`
	RetryInterval     time.Duration  `config:"retry_interval"` // default 30s
	RetryIntervalWAN  time.Duration  `config:"retry_interval_wan"`
	RetryMax          int            `config:"retry_max"` // 0 = for ever
	RetryMaxWAN       int            `config:"retry_max_wan"`
	RejoinAfterLeave  bool           `config:"rejoin_after_leave"`
	LeaveOnTerm       *bool          `config:"leave_on_terminate"`      // default: true on clients, false on servers
	SkipLeaveOnInt    *bool          `config:"skip_leave_on_interrupt"` // default: false on clients, true on servers
	ReconnectTimeout  time.Duration  `config:"reconnect_timeout"`       // default 72h
	RaftProtocol      int            `config:"raft_protocol"`
	Protocol          int            `config:"protocol"`
	SnapshotThreshold uint64         `config:"raft_snapshot_threshold"` // default 16384 entries
	SnapshotInterval  time.Duration  `config:"raft_snapshot_interval"`  // default 30s
	TrailingLogs      uint64         `config:"raft_trailing_logs"`      // default 10240 entries
	Performance       Performance    `config:"performance"`
	Autopilot         map[string]any `config:"autopilot"`

	// Gossip encryption.
	Encrypt         string `config:"encrypt"` // base64 of 16, 24 or 32 bytes
	EncryptIncoming *bool  `config:"encrypt_verify_incoming"`
	EncryptOutgoing *bool  `config:"encrypt_verify_outgoing"`
	NoKeyringFile   bool   `config:"disable_keyring_file"`

	// Doors.
	DNS              DNS               `config:"dns_config"`
	Recursors        []string          `config:"recursors,recursor"`
	HTTP             HTTP              `config:"http_config"`
	LegacyHeaders    map[string]string `config:"http_api_response_headers"`
	DefaultQueryTime time.Duration     `config:"default_query_time"` // default 300s
	MaxQueryTime     time.Duration     `config:"max_query_time"`     // default 600s
	Limits           Limits            `config:"limits"`
	UI               bool              `config:"ui"`
	UIConfig         UI                `config:"ui_config"`
	UIDir            string            `config:"ui_dir"`

	// Services and checks from files.
	Services           []*api.ServiceDefinition `config:"service,services"`
	Checks             []*api.CheckDefinition   `config:"check,checks"`
	EnableScripts      bool                     `config:"enable_script_checks"`
	EnableLocalScripts bool                     `config:"enable_local_script_checks"`
	UpdateInterval     *time.Duration           `config:"check_update_interval"` // default 5m; 0 sends every output
	OutputMaxSize      int                      `config:"check_output_max_size"` // default 4096 bytes

	// Operation.
	LogLevel    string `config:"log_level"` // default info
	LogJSON     bool   `config:"log_json"`
	PIDFile     string `config:"pid_file"`
	EnableDebug bool   `config:"enable_debug"`
}

// Addresses override ClientAddr for one door each.
type Addresses struct {
	HTTP  string `config:"http"`
	HTTPS string `config:"https"`
	DNS   string `config:"dns"`
	GRPC  string `config:"grpc"`
}

// Ports of every listener; -1 turns one off.
type Ports struct {
	DNS     int `config:"dns"`
	HTTP    int `config:"http"`
	HTTPS   int `config:"https"`
	GRPC    int `config:"grpc"`
	Server  int `config:"server"`
	SerfLAN int `config:"serf_lan"`
	SerfWAN int `config:"serf_wan"`
}

// Performance tunes timers.
type Performance struct {
	// RaftMultiplier stretches Raft's timers: 1 is quickest and the default.
	RaftMultiplier int           `config:"raft_multiplier"`
	LeaveDrainTime time.Duration `config:"leave_drain_time"` // default 5s
	RPCHoldTimeout time.Duration `config:"rpc_hold_timeout"` // default 7s
}

// DNS tunes the DNS door.
type DNS struct {
	AllowStale      *bool                    `config:"allow_stale"` // default true
	MaxStale        time.Duration            `config:"max_stale"`
	NodeTTL         time.Duration            `config:"node_ttl"`
	ServiceTTL      map[string]time.Duration `config:"service_ttl"`
	OnlyPassing     bool                     `config:"only_passing"`
	EnableTruncate  bool                     `config:"enable_truncate"`
	UDPAnswerLimit  int                      `config:"udp_answer_limit"` // default 3
	ARecordLimit    int                      `config:"a_record_limit"`
	NoCompression   bool                     `config:"disable_compression"`
	RecursorTimeout time.Duration            `config:"recursor_timeout"`
}

// HTTP tunes the HTTP door.
type HTTP struct {
	ResponseHeaders    map[string]string `config:"response_headers"`
	BlockEndpoints     []string          `config:"block_endpoints"`
	AllowWriteHTTPFrom []string          `config:"allow_write_http_from"`
}

// Limits bound what one client may ask.
type Limits struct {
	MaxConnsPerClient *int `config:"http_max_conns_per_client"` // default 200; 0 = no limit
	KVMaxValueSize    int  `config:"kv_max_value_size"`         // default 524288 bytes
	TxnMaxLen         int  `config:"txn_max_req_len"`
}

// UI is the newer form of the UI's keys.
type UI struct {
	Enabled     bool   `config:"enabled"`
	Dir         string `config:"dir"`
	ContentPath string `config:"content_path"`
}

// ignored are keys of today's configurations that belong to features Rollcall leaves
// out, or that have nothing to tune here.
var ignored = []string{
	"acl", "acl_*", "audit", "auto_config", "auto_encrypt", "auto_reload_config", "cache", "cloud", "config_entries", "connect",
	"disable_anonymous_signature", "disable_coordinates", "disable_remote_exec", "disable_update_check", "disable_http_unprintable_char_filter",
	"discard_check_output", "discovery_max_stale", "enable_acl_replication", "enable_agent_tls_for_checks", "enable_central_service_config", "enable_syslog",
	"experiments", "gossip_lan", "gossip_wan", "license_path", "locality", "log_file", "log_rotate_*", "non_voting_server", "peering",
	"ports.grpc_tls", "ports.proxy_*", "ports.sidecar_*", "ports.expose_*", "raft_logstore", "read_replica", "rpc", "segments",
	"server_rejoin_age_max", "session_ttl_min", "syslog_facility", "telemetry", "tls", "translate_wan_addrs", "unix_sockets", "use_streaming_backend", "version",
	"ca_file", "ca_path", "cert_file", "key_file", "verify_*", "server_name", "tls_*", "atlas_*", "watches", "advertise_addr_ipv4", "advertise_addr_ipv6",
	"advertise_addr_wan_*", "advertise_reconnect_timeout", "encrypt_*", "dns_config.*", "http_config.*", "limits.*", "performance.*",
	"ui_config.*", "addresses.*",
}

// Default gives the configuration before files and flags.
func Default() *Config {
	return &Config{
		Datacenter: "dc1", Domain: "consul.", BindAddr: "0.0.0.0", ClientAddr: "127.0.0.1",
		Ports:         Ports{DNS: 8600, HTTP: 8500, HTTPS: -1, GRPC: -1, Server: 8300, SerfLAN: 8301, SerfWAN: 8302},
		RetryInterval: 30 * time.Second, RetryIntervalWAN: 30 * time.Second, ReconnectTimeout: 72 * time.Hour,
		RaftProtocol: 3, SnapshotThreshold: 16384, SnapshotInterval: 30 * time.Second, TrailingLogs: 10240,
		Performance:      Performance{RaftMultiplier: 1, LeaveDrainTime: 5 * time.Second, RPCHoldTimeout: 7 * time.Second},
		DNS:              DNS{UDPAnswerLimit: 3},
		DefaultQueryTime: 300 * time.Second, MaxQueryTime: 600 * time.Second,
		Limits:        Limits{KVMaxValueSize: 512 << 10},
		OutputMaxSize: 4096, LogLevel: "info", Protocol: 2,
	}
}

// dev lays what -dev means over the defaults: a server in memory on loopback.
func (c *Config) dev() {
	c.Dev, c.Server, c.Bootstrap, c.UI, c.EnableDebug = true, true, true, true, true
	c.BindAddr, c.AdvertiseAddr, c.LogLevel = "127.0.0.1", "127.0.0.1", "debug"
	c.UIConfig.Enabled = true
}

// Load reads sources over the defaults and checks the whole. Warnings are for the log.
func Load(dev bool, sources ...*config.Source) (c *Config, warnings []string, err error) {
	c = Default()
	if dev {
		c.dev()
	}
	var errs []error
	for _, s := range sources {
		w, err := s.Decode(c, ignored...)
		warnings = append(warnings, w...)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, warnings, err
	}
	c.settle()
	if err := c.Validate(); err != nil {
		return nil, warnings, err
	}
	return c, warnings, nil
}

// settle fills what depends on other fields, and folds old keys into new ones.
func (c *Config) settle() {
	if c.NodeName == "" {
		c.NodeName, _ = os.Hostname() // an empty name is refused by Validate
	}
	c.Datacenter = strings.ToLower(c.Datacenter)
	c.Domain = strings.TrimSuffix(strings.ToLower(c.Domain), ".") + "."
	if c.AltDomain != "" {
		c.AltDomain = strings.TrimSuffix(strings.ToLower(c.AltDomain), ".") + "."
	}
	c.UI = c.UI || c.UIConfig.Enabled || c.UIDir != "" || c.UIConfig.Dir != ""
	if c.BootstrapExpect == 1 {
		c.Bootstrap, c.BootstrapExpect = true, 0
	}
	if c.HTTP.ResponseHeaders == nil {
		c.HTTP.ResponseHeaders = c.LegacyHeaders
	}
	defaultTo(&c.LeaveOnTerm, !c.Server)
	defaultTo(&c.SkipLeaveOnInt, c.Server)
	defaultTo(&c.DNS.AllowStale, true)
	defaultTo(&c.DisableHostID, true)
	defaultTo(&c.UpdateInterval, 5*time.Minute)
	defaultTo(&c.Limits.MaxConnsPerClient, 200)
}

func defaultTo[T any](p **T, v T) {
	if *p == nil {
		*p = &v
	}
}

var (
	validDC   = regexp.MustCompile(`^[a-z0-9_-]+$`)
	validNode = regexp.MustCompile(`^[^\s/\x00-\x1f]+$`)
)

// Validate reports everything that is wrong, joined, each fault naming its key.
func (c *Config) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(!validDC.MatchString(c.Datacenter), "datacenter %q: use lower-case letters, digits, - and _", c.Datacenter)
	fault(!validNode.MatchString(c.NodeName), "node_name %q: give a name without spaces and slashes (-node)", c.NodeName)
	fault(c.DataDir == "" && !c.Dev, "data_dir must be set: give a directory that outlives restarts (-data-dir), or try things with -dev")
	fault(c.Bootstrap && !c.Server, "bootstrap is for servers: add -server, or drop -bootstrap / -bootstrap-expect")
	fault(c.BootstrapExpect > 0 && !c.Server, "bootstrap_expect is for servers: add -server, or drop it")
	fault(c.BootstrapExpect < 0, "bootstrap_expect = %d: give the number of servers, 1 or more", c.BootstrapExpect)
	fault(c.BootstrapExpect > 0 && c.Bootstrap, "bootstrap and bootstrap_expect exclude each other: keep bootstrap_expect")
	fault(c.BootstrapExpect > 0 && c.Dev, "bootstrap_expect does not go with -dev, which is a cluster of one")
	fault(c.Performance.RaftMultiplier < 1 || c.Performance.RaftMultiplier > 10, "performance.raft_multiplier = %d: give 1 to 10", c.Performance.RaftMultiplier)
	fault(c.RaftProtocol != 3, "raft_protocol = %d: 3 is the one there is", c.RaftProtocol)
	fault(c.OutputMaxSize < 1, "check_output_max_size = %d: give 1 or more bytes", c.OutputMaxSize)
	if err := api.ValidMeta(c.NodeMeta); err != nil {
		errs = append(errs, fmt.Errorf("node_meta: %w", err))
	}
	if _, err := daemon.Level(c.LogLevel); err != nil {
		errs = append(errs, fmt.Errorf("log_level: %w", err))
	}
	for name, port := range map[string]int{"dns": c.Ports.DNS, "http": c.Ports.HTTP, "server": c.Ports.Server, "serf_lan": c.Ports.SerfLAN, "serf_wan": c.Ports.SerfWAN} {
		fault(port < -1 || port > 65535, "ports.%s = %d: give 1 to 65535, or -1 to turn it off", name, port)
	}
	for key, addr := range map[string]string{"bind_addr": c.BindAddr, "advertise_addr": c.AdvertiseAddr} {
		fault(addr != "" && !strings.Contains(addr, "{{") && net.ParseIP(strings.Trim(addr, "[]")) == nil, "%s %q: give an IP address", key, addr)
	}
	fault(c.AdvertiseAddr == "0.0.0.0" || c.AdvertiseAddr == "::", "advertise_addr %q: others cannot reach that; give one address of this host", c.AdvertiseAddr)
	for _, s := range c.Services {
		if err := s.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("service %q: %w", s.Name, err))
		}
	}
	for _, k := range c.Checks {
		if err := k.Validate(); err != nil {
			errs = append(errs, fmt.Errorf("check %q: %w", k.Name, err))
		}
	}
	return errors.Join(errs...)
}
