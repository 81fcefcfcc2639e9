package api

import "time"

// AutopilotConfig is how autopilot looks after the servers. The enterprise fields are
// kept for readers of Consul's API and have no effect.
type AutopilotConfig struct {
	CleanupDeadServers      bool
	LastContactThreshold    Duration // a server that has not heard from the leader for longer is unhealthy
	MaxTrailingLogs         uint64   // a server that is further behind is unhealthy
	MinQuorum               uint     // no dead server is removed below this many voters
	ServerStabilizationTime Duration // how long a server must be healthy before it gets a vote
	RedundancyZoneTag       string
	DisableUpgradeMigration bool
	UpgradeVersionTag       string
	CreateIndex             uint64
	ModifyIndex             uint64
}

// DefaultAutopilot is the configuration of a cluster where nobody said another.
func DefaultAutopilot() AutopilotConfig {
	return AutopilotConfig{
		CleanupDeadServers:      true,
		LastContactThreshold:    Duration(200 * time.Millisecond),
		MaxTrailingLogs:         250,
		ServerStabilizationTime: Duration(10 * time.Second),
	}
}

// AutopilotHealth is how the servers are, as the leader's autopilot sees them.
type AutopilotHealth struct {
	Healthy          bool
	FailureTolerance int // how many healthy voters can be lost without losing the quorum
	Servers          []ServerHealth
}

// ServerHealth is how one server is.
type ServerHealth struct {
	ID          string
	Name        string
	Address     string
	SerfStatus  string
	Version     string
	Leader      bool
	LastContact Duration
	LastTerm    uint64
	LastIndex   uint64
	Healthy     bool
	Voter       bool
	StableSince time.Time
}

// AutopilotState is what autopilot knows of the cluster.
type AutopilotState struct {
	Healthy                    bool
	FailureTolerance           int
	OptimisticFailureTolerance int
	Servers                    map[string]AutopilotServer // by id
	Leader                     string
	Voters                     []string
}

// AutopilotServer is what autopilot knows of a server.
type AutopilotServer struct {
	ID          string
	Name        string
	Address     string
	NodeStatus  string
	Version     string
	LastContact Duration
	LastTerm    uint64
	LastIndex   uint64
	Healthy     bool
	StableSince time.Time
	ReadReplica bool
	Status      string // leader, voter, non-voter
	Meta        map[string]string
	NodeType    string
}

// RaftStats is where a server's log stands.
type RaftStats struct {
	LastContact Duration
	LastTerm    uint64
	LastIndex   uint64
}

// Usage counts what the catalog of each datacenter holds.
type Usage struct{ Usage map[string]DatacenterUsage }

// DatacenterUsage counts what a catalog holds.
type DatacenterUsage struct {
	Nodes                    int
	Services                 int // names
	ServiceInstances         int
	ConnectServiceInstances  map[string]int // of each kind of the mesh: none
	BillableServiceInstances int            // the servers' own left out
}

// KeyringAnswer is what the members of a gossip pool say of its keys. Keys are in base64.
type KeyringAnswer struct {
	WAN         bool
	Datacenter  string
	Segment     string
	Messages    map[string]string `json:",omitempty"` // what went wrong, by node
	Keys        map[string]int    // on how many nodes each key is installed
	PrimaryKeys map[string]int    // on how many nodes each key is used
	NumNodes    int
	Error       string `json:",omitempty"`
}
