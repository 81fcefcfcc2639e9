// Package config is the agent's configuration: one struct with Consul's keys, filled
// from defaults, then files, then flags, and checked as a whole. Old spellings are folded
// into the present ones; keys of features that Rollcall leaves out (mesh, peering, …) are
// accepted with a warning; unknown ones are faults. Other rooms get small structs of their
// own, cut from this one by package agent. docs/configuration.md lists every key.
package config

import (
	"errors"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/config"
)

// Config is the agent's whole configuration. The zero value of a field is its default
// unless Default says otherwise.
type Config struct {
	// Identity.
	NodeName      string            `config:"node_name"`  // default: the host's name
	NodeID        string            `config:"node_id"`    // default: made once, kept in data_dir
	NodeMeta      map[string]string `config:"node_meta"`  // at most 64 pairs
	Datacenter    string            `config:"datacenter"` // default dc1
	PrimaryDC     string            `config:"primary_datacenter"`
	Server        bool              `config:"server"`
	Dev           bool              `config:"-"` // only by flag: in memory, loopback, quick timers
	DataDir       string            `config:"data_dir"`
	Domain        string            `config:"domain"` // default consul.
	AltDomain     string            `config:"alt_domain"`
	DisableHostID *bool             `config:"disable_host_node_id"` // accepted: ids are made at random

	// Addresses. Each may be an IP or a go-sockaddr template.
	BindAddr         string            `config:"bind_addr"`      // cluster traffic; default 0.0.0.0
	BindInterface    string            `config:"bind_interface"` // instead of BindAddr: an interface's first address
	AdvertiseAddr    string            `config:"advertise_addr"` // default: BindAddr, else the private address
	AdvertiseIPv4    string            `config:"advertise_addr_ipv4"`
	AdvertiseIPv6    string            `config:"advertise_addr_ipv6"`
	AdvertiseWAN     string            `config:"advertise_addr_wan"` // default: AdvertiseAddr
	AdvertiseWANIPv4 string            `config:"advertise_addr_wan_ipv4"`
	AdvertiseWANIPv6 string            `config:"advertise_addr_wan_ipv6"`
	ClientAddr       string            `config:"client_addr"` // HTTP and DNS; several, separated by spaces; default 127.0.0.1
	SerfLAN          string            `config:"serf_lan"`    // default: BindAddr
	SerfWAN          string            `config:"serf_wan"`    // default: BindAddr
	SerfLANCIDRs     []string          `config:"serf_lan_allowed_cidrs"`
	SerfWANCIDRs     []string          `config:"serf_wan_allowed_cidrs"`
	Addresses        Addresses         `config:"addresses"`
	Ports            Ports             `config:"ports"`
	Tagged           map[string]string `config:"tagged_addresses"`
	TranslateWAN     bool              `config:"translate_wan_addrs"`
	UnixSockets      UnixSockets       `config:"unix_sockets"`

	Cluster
	Crypt

	// Doors.
	DNS               DNS               `config:"dns_config"`
	Recursors         []string          `config:"recursors,recursor"`
	HTTP              HTTP              `config:"http_config"`
	LegacyHeaders     map[string]string `config:"http_api_response_headers"`
	DefaultQueryTime  time.Duration     `config:"default_query_time"`  // default 300s
	MaxQueryTime      time.Duration     `config:"max_query_time"`      // default 600s
	DiscoveryMaxStale time.Duration     `config:"discovery_max_stale"` // catalog and health stale by default; 0 = off
	AllowUnprintable  bool              `config:"disable_http_unprintable_char_filter"`
	Limits            Limits            `config:"limits"`
	UI                bool              `config:"ui"`
	UIConfig          UI                `config:"ui_config"`
	UIDir             string            `config:"ui_dir"`
	UIContentPath     string            `config:"ui_content_path"`

	Access

	// The mesh is left out; these only say whether /v1/connect/ca/roots has a root to show.
	Connect Connect `config:"connect"`

	// Services and checks from files, and watches.
	Services           []*api.ServiceDefinition `config:"service,services"`
	Checks             []*api.CheckDefinition   `config:"check,checks"`
	Watches            []*Watch                 `config:"watches"`
	EnableScripts      bool                     `config:"enable_script_checks"`
	EnableLocalScripts bool                     `config:"enable_local_script_checks"`
	AgentTLSForChecks  bool                     `config:"enable_agent_tls_for_checks"` // checks present the agent's certificate
	UpdateInterval     *time.Duration           `config:"check_update_interval"`       // default 5m; 0 sends every output
	OutputMaxSize      int                      `config:"check_output_max_size"`       // default 4096 bytes
	DiscardOutput      bool                     `config:"discard_check_output"`        // keep no output of checks
	NoRemoteExec       *bool                    `config:"disable_remote_exec"`         // default true
	NoCoordinates      bool                     `config:"disable_coordinates"`
	SessionTTLMin      time.Duration            `config:"session_ttl_min"` // default 10s

	Operation
}

// Addresses override ClientAddr for one door each; several may be given, separated by
// spaces, and unix://PATH is a socket.
type Addresses struct {
	HTTP  string `config:"http"`
	HTTPS string `config:"https"`
	DNS   string `config:"dns"`
	GRPC  string `config:"grpc"` // accepted: there is no gRPC door
}

// Ports of every listener; -1 turns one off.
type Ports struct {
	DNS     int `config:"dns"`
	HTTP    int `config:"http"`
	HTTPS   int `config:"https"`
	GRPC    int `config:"grpc"` // accepted: there is no gRPC door
	Server  int `config:"server"`
	SerfLAN int `config:"serf_lan"`
	SerfWAN int `config:"serf_wan"`
}

// UnixSockets are the rights of the sockets that addresses name.
type UnixSockets struct {
	User  string `config:"user"`  // name or number
	Group string `config:"group"` // name or number
	Mode  string `config:"mode"`  // octal, such as "0770"
}

// DNS tunes the DNS door.
type DNS struct {
	AllowStale     *bool                    `config:"allow_stale"` // default true
	MaxStale       time.Duration            `config:"max_stale"`   // default 87600h
	NodeTTL        time.Duration            `config:"node_ttl"`
	ServiceTTL     map[string]time.Duration `config:"service_ttl"` // by name, or prefix*
	OnlyPassing    bool                     `config:"only_passing"`
	EnableTruncate bool                     `config:"enable_truncate"`
	UDPAnswerLimit int                      `config:"udp_answer_limit"` // default: by size; 3 with strict_compatibility
	ARecordLimit   int                      `config:"a_record_limit"`
	NoCompression  bool                     `config:"disable_compression"`
	NodeMetaTXT    *bool                    `config:"enable_additional_node_meta_txt"` // default true
	SOA            SOA                      `config:"soa"`
	// Strict answers exactly as Consul does where Rollcall otherwise does better: at most
	// 3 records over UDP without EDNS, TC only with enable_truncate, even shuffles.
	Strict bool `config:"strict_compatibility"`

	RecursorTimeout  time.Duration `config:"recursor_timeout"`  // of each; default 2s
	RecursorStrategy string        `config:"recursor_strategy"` // sequential (default) or random

	// UseCache lets a client agent follow what it is asked for, instead of asking a
	// server each time.
	UseCache    bool          `config:"use_cache"`
	CacheMaxAge time.Duration `config:"cache_max_age"` // 0 = as old as may be
}

// SOA are the numbers of the zone's SOA record, in seconds.
type SOA struct {
	Refresh uint32 `config:"refresh"` // default 3600
	Retry   uint32 `config:"retry"`   // default 600
	Expire  uint32 `config:"expire"`  // default 86400
	MinTTL  uint32 `config:"min_ttl"` // default 0
}

// HTTP tunes the HTTP door.
type HTTP struct {
	ResponseHeaders    map[string]string `config:"response_headers"`
	BlockEndpoints     []string          `config:"block_endpoints"`       // path prefixes
	AllowWriteHTTPFrom []string          `config:"allow_write_http_from"` // networks
	UseCache           *bool             `config:"use_cache"`             // accepted: ?cached is answered always
	MaxHeaderBytes     int               `config:"max_header_bytes"`      // default 1 MiB
}

// Limits bound what one client, or all, may ask.
type Limits struct {
	MaxConnsPerClient *int           `config:"http_max_conns_per_client"` // default 200; 0 = no limit
	HTTPSHandshake    time.Duration  `config:"https_handshake_timeout"`   // default 5s
	RPCHandshake      time.Duration  `config:"rpc_handshake_timeout"`     // default 5s
	RPCClientTimeout  time.Duration  `config:"rpc_client_timeout"`        // default 60s
	RPCRate           float64        `config:"rpc_rate"`                  // calls a second to servers; -1 = no limit
	RPCMaxBurst       int            `config:"rpc_max_burst"`             // default 1000
	RPCMaxConns       *int           `config:"rpc_max_conns_per_client"`  // default 100; 0 = no limit
	KVMaxValueSize    int            `config:"kv_max_value_size"`         // default 524288 bytes
	TxnMaxLen         int            `config:"txn_max_req_len"`           // default 524288 bytes; the larger of the two counts
	Requests          RequestsLimits `config:"request_limits"`
}

// RequestsLimits bound how many requests a server takes a second.
type RequestsLimits struct {
	Mode      string  `config:"mode"`       // disabled (default), permissive (log only) or enforcing
	ReadRate  float64 `config:"read_rate"`  // a second; -1 (default) = no limit
	WriteRate float64 `config:"write_rate"` // the same for writes
}

// Connect is what is left of the mesh's keys.
type Connect struct {
	Enabled bool           `config:"enabled"`
	CA      map[string]any `config:"ca_config"` // cluster_id names the trust domain
}

// TrustDomain is that of the root certificate which clients of a mesh wait for; empty if
// connect is not enabled. Without a cluster_id, it has the datacenter's name.
func (c *Config) TrustDomain() string {
	if !c.Connect.Enabled {
		return ""
	}
	id, ok := c.Connect.CA["cluster_id"].(string)
	if !ok || id == "" {
		id = c.Datacenter
	}
	return id + ".consul"
}

// UI is the newer form of the UI's keys.
type UI struct {
	Enabled     bool   `config:"enabled"`
	Dir         string `config:"dir"` // accepted: the UI is built in
	ContentPath string `config:"content_path"`
}

// Default gives the configuration before files and flags.
func Default() *Config {
	return &Config{
		Datacenter: "dc1", Domain: "consul.", BindAddr: "0.0.0.0", ClientAddr: "127.0.0.1",
		Ports:   Ports{DNS: 8600, HTTP: 8500, HTTPS: -1, GRPC: -1, Server: 8300, SerfLAN: 8301, SerfWAN: 8302},
		Cluster: defaultCluster(),
		DNS: DNS{
			MaxStale: 87600 * time.Hour, RecursorTimeout: 2 * time.Second, RecursorStrategy: "sequential",
			SOA: SOA{Refresh: 3600, Retry: 600, Expire: 86400},
		},
		HTTP:             HTTP{MaxHeaderBytes: 1 << 20},
		DefaultQueryTime: 300 * time.Second, MaxQueryTime: 600 * time.Second,
		Limits: Limits{
			HTTPSHandshake: 5 * time.Second, RPCHandshake: 5 * time.Second, RPCClientTimeout: 60 * time.Second,
			RPCRate: -1, RPCMaxBurst: 1000, KVMaxValueSize: 512 << 10, TxnMaxLen: 512 << 10,
			Requests: RequestsLimits{Mode: "disabled", ReadRate: -1, WriteRate: -1},
		},
		Access:        Access{ACL: defaultACL()},
		OutputMaxSize: 4096, SessionTTLMin: 10 * time.Second,
		Operation: Operation{
			LogLevel: "info", LogRotateDuration: 24 * time.Hour, SyslogFacility: "LOCAL0", Telemetry: Telemetry{Prefix: "consul"},
		},
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
	warnings = append(warnings, c.settle()...)
	if err := c.Validate(); err != nil {
		return nil, warnings, err
	}
	return c, warnings, nil
}
