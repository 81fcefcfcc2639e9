package config

import "time"

// Cluster is how agents find each other and agree.
type Cluster struct {
	Bootstrap          bool          `config:"bootstrap"`
	BootstrapExpect    int           `config:"bootstrap_expect"`
	StartJoin          []string      `config:"start_join"`
	StartJoinWAN       []string      `config:"start_join_wan"`
	RetryJoin          []string      `config:"retry_join"`
	RetryJoinWAN       []string      `config:"retry_join_wan"`
	RetryInterval      time.Duration `config:"retry_interval"`     // default 30s
	RetryIntervalWAN   time.Duration `config:"retry_interval_wan"` // default 30s
	RetryMax           int           `config:"retry_max"`          // 0 = for ever
	RetryMaxWAN        int           `config:"retry_max_wan"`
	RejoinAfterLeave   bool          `config:"rejoin_after_leave"`
	LeaveOnTerm        *bool         `config:"leave_on_terminate"`          // default: true on clients, false on servers
	SkipLeaveOnInt     *bool         `config:"skip_leave_on_interrupt"`     // default: false on clients, true on servers
	ReconnectTimeout   time.Duration `config:"reconnect_timeout"`           // default 72h, at least 8h
	ReconnectWAN       time.Duration `config:"reconnect_timeout_wan"`       // default 72h
	AdvertiseReconnect time.Duration `config:"advertise_reconnect_timeout"` // how long the others wait for this client; 0 = as they do
	ServerRejoinAgeMax time.Duration `config:"server_rejoin_age_max"`       // default 168h
	RaftProtocol       int           `config:"raft_protocol"`
	Protocol           int           `config:"protocol"`
	SnapshotThreshold  uint64        `config:"raft_snapshot_threshold"` // default 16384 entries
	SnapshotInterval   time.Duration `config:"raft_snapshot_interval"`  // default 30s
	TrailingLogs       uint64        `config:"raft_trailing_logs"`      // default 10240 entries
	Performance        Performance   `config:"performance"`
	Autopilot          Autopilot     `config:"autopilot"`
	GossipLAN          Gossip        `config:"gossip_lan"`
	GossipWAN          Gossip        `config:"gossip_wan"`
}

// Performance tunes timers.
type Performance struct {
	// RaftMultiplier stretches Raft's timers: 1 is quickest and the default.
	RaftMultiplier int           `config:"raft_multiplier"`
	LeaveDrainTime time.Duration `config:"leave_drain_time"` // default 5s
	RPCHoldTimeout time.Duration `config:"rpc_hold_timeout"` // default 7s
}

// Autopilot is what a new cluster begins with; later the catalog's own copy counts.
type Autopilot struct {
	CleanupDeadServers *bool         `config:"cleanup_dead_servers"`      // default true
	LastContact        time.Duration `config:"last_contact_threshold"`    // default 200ms
	MaxTrailingLogs    int           `config:"max_trailing_logs"`         // default 250 entries
	MinQuorum          int           `config:"min_quorum"`                // servers that cleaning up leaves at least
	Stabilization      time.Duration `config:"server_stabilization_time"` // default 10s
}

// Gossip tunes one pool; zero values are the pool's defaults.
type Gossip struct {
	Interval       time.Duration `config:"gossip_interval"`
	Nodes          int           `config:"gossip_nodes"`
	ProbeInterval  time.Duration `config:"probe_interval"`
	ProbeTimeout   time.Duration `config:"probe_timeout"`
	SuspicionMult  int           `config:"suspicion_mult"`
	RetransmitMult int           `config:"retransmit_mult"`
}

func defaultCluster() Cluster {
	return Cluster{
		RetryInterval: 30 * time.Second, RetryIntervalWAN: 30 * time.Second,
		ReconnectTimeout: 72 * time.Hour, ReconnectWAN: 72 * time.Hour, ServerRejoinAgeMax: 168 * time.Hour,
		RaftProtocol: 3, Protocol: 2, SnapshotThreshold: 16384, SnapshotInterval: 30 * time.Second, TrailingLogs: 10240,
		Performance: Performance{RaftMultiplier: 1, LeaveDrainTime: 5 * time.Second, RPCHoldTimeout: 7 * time.Second},
		Autopilot:   Autopilot{LastContact: 200 * time.Millisecond, MaxTrailingLogs: 250, Stabilization: 10 * time.Second},
	}
}
