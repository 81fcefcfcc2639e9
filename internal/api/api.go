// Package api holds the nouns of service discovery, once: nodes, services, checks,
// keys, sessions, members, and the options and metadata of a query. The Go field
// names are the JSON names of Consul's HTTP API, so a value marshals as that API
// answers it. The package validates data and names error kinds; it does no input
// or output. Every binary's rooms build on it and it imports nothing of ours.
package api

import (
	"maps"
	"slices"
	"strings"
)

// Health states of a check, worst last.
const (
	Passing  = "passing"
	Warning  = "warning"
	Critical = "critical"
	// Any selects every state in a query by state.
	Any = "any"
)

// Ids of checks that have a meaning of their own.
const (
	// SerfHealth is the check that the leader keeps for every gossip member.
	SerfHealth     = "serfHealth"
	SerfHealthName = "Serf Health Status"
	// NodeMaintenance is the critical check that takes a whole node out.
	NodeMaintenance = "_node_maintenance"
	// ServiceMaintenancePrefix, followed by a service id, takes one instance out.
	ServiceMaintenancePrefix = "_service_maintenance:"
	// ServerService is the name under which servers list themselves.
	ServerService = "consul"
)

// IsMaintenance tells whether a check is one that takes its node or instance out.
func IsMaintenance(checkID string) bool {
	return checkID == NodeMaintenance || strings.HasPrefix(checkID, ServiceMaintenancePrefix)
}

// Node is one host in the catalog.
type Node struct {
	ID              string
	Node            string
	Address         string
	Datacenter      string
	TaggedAddresses map[string]string
	Meta            map[string]string
	CreateIndex     uint64
	ModifyIndex     uint64
}

// ServiceAddress is one tagged address of a service.
type ServiceAddress struct {
	Address string
	Port    int
}

// Weights are the shares of traffic an instance takes, by its health.
type Weights struct {
	Passing int
	Warning int
}

// Locality is where something runs, as its cloud names it.
type Locality struct {
	Region string
	Zone   string
}

// Service is one instance of a service on a node.
type Service struct {
	ID                string
	Service           string
	Tags              []string
	Address           string
	TaggedAddresses   map[string]ServiceAddress `json:",omitempty"`
	Meta              map[string]string
	Port              int
	Weights           Weights
	EnableTagOverride bool
	Proxy, Connect    Mesh      `codec:"-"`
	SocketPath        string    `json:",omitempty"` // of a service that listens on one
	Locality          *Locality `json:",omitempty"`
	CreateIndex       uint64
	ModifyIndex       uint64
}

// Equal reports whether two instances say the same, indexes left out.
func (s *Service) Equal(o *Service) bool {
	return s.ID == o.ID && s.Service == o.Service && s.Address == o.Address && s.Port == o.Port && s.Weights == o.Weights &&
		s.EnableTagOverride == o.EnableTagOverride && s.SocketPath == o.SocketPath &&
		(s.Locality == o.Locality || s.Locality != nil && o.Locality != nil && *s.Locality == *o.Locality) &&
		slices.Equal(s.Tags, o.Tags) && maps.Equal(s.TaggedAddresses, o.TaggedAddresses) && maps.Equal(s.Meta, o.Meta)
}

// Check is a health check as the catalog knows it: its result, and what ran it.
type Check struct {
	Node        string
	CheckID     string
	Name        string
	Status      string
	Notes       string
	Output      string
	ServiceID   string
	ServiceName string
	ServiceTags []string
	Type        string
	Interval    string
	Timeout     string
	ExposedPort int
	Definition  CheckInfo
	CreateIndex uint64
	ModifyIndex uint64
}

// CheckInfo is the part of a check's definition that the catalog carries for
// external monitors; agents leave it empty.
type CheckInfo struct {
	HTTP                           string              `json:",omitempty"`
	TLSServerName                  string              `json:",omitempty"`
	TLSSkipVerify                  bool                `json:",omitempty"`
	Header                         map[string][]string `json:",omitempty"`
	Method                         string              `json:",omitempty"`
	Body                           string              `json:",omitempty"`
	DisableRedirects               bool                `json:",omitempty" codec:",omitempty"`
	TCP                            string              `json:",omitempty"`
	TCPUseTLS                      bool                `json:",omitempty" codec:",omitempty"`
	UDP                            string              `json:",omitempty" codec:",omitempty"`
	GRPC                           string              `json:",omitempty" codec:",omitempty"`
	GRPCUseTLS                     bool                `json:",omitempty" codec:",omitempty"`
	H2PING                         string              `json:",omitempty" codec:",omitempty"`
	OSService                      string              `json:",omitempty" codec:",omitempty"`
	Interval                       Duration            `json:",omitempty"`
	Timeout                        Duration            `json:",omitempty"`
	DeregisterCriticalServiceAfter Duration            `json:",omitempty"`
}

// Kind is the word for the check that the definition describes; "" if none.
func (c *CheckInfo) Kind() string {
	switch {
	case c.HTTP != "":
		return "http"
	case c.TCP != "":
		return "tcp"
	case c.UDP != "":
		return "udp"
	case c.GRPC != "":
		return "grpc"
	case c.H2PING != "":
		return "h2ping"
	case c.OSService != "":
		return "os_service"
	}
	return ""
}

// Mesh stands where clients of Consul look for what a service says of the mesh: they read
// its fields without asking whether there is any.
type Mesh struct{}

// Instance is one instance of a service with its node and every check that bears
// on it: its own and its node's.
type Instance struct {
	Node    *Node
	Service *Service
	Checks  []*Check
}

// ServiceNode is an instance as /v1/catalog/service answers it, flat.
type ServiceNode struct {
	ID                       string
	Node                     string
	Address                  string
	Datacenter               string
	TaggedAddresses          map[string]string
	NodeMeta                 map[string]string
	ServiceKind              string
	ServiceID                string
	ServiceName              string
	ServiceTags              []string
	ServiceAddress           string
	ServiceTaggedAddresses   map[string]ServiceAddress `json:",omitempty"`
	ServiceWeights           Weights
	ServiceMeta              map[string]string
	ServicePort              int
	ServiceEnableTagOverride bool
	ServiceProxy             Mesh      `codec:"-"`
	ServiceConnect           Mesh      `codec:"-"`
	ServiceSocketPath        string    `json:",omitempty"`
	ServiceLocality          *Locality `json:",omitempty"`
	CreateIndex              uint64
	ModifyIndex              uint64
}

// NodeServices is a node with its services by id, as /v1/catalog/node answers it.
type NodeServices struct {
	Node     *Node
	Services map[string]*Service
}

// Registration writes a node, and with it at will a service and checks, in one
// atomic step. With SkipNodeUpdate an existing node is left as it is.
type Registration struct {
	Datacenter      string
	ID              string
	Node            string
	Address         string
	TaggedAddresses map[string]string
	NodeMeta        map[string]string
	Service         *Service
	Check           *Check
	Checks          []*Check
	SkipNodeUpdate  bool
}

// Deregistration removes a service, a check, or with neither named the whole node.
type Deregistration struct {
	Datacenter string
	Node       string
	ServiceID  string
	CheckID    string
}

// KVPair is one key. Value is nil for an empty value, as clients expect.
type KVPair struct {
	LockIndex   uint64
	Key         string
	Flags       uint64
	Value       []byte
	Session     string `json:",omitempty"`
	CreateIndex uint64
	ModifyIndex uint64
}

// Member is one agent in the gossip pool.
type Member struct {
	Name        string
	Addr        string
	Port        uint16
	Tags        map[string]string
	Status      MemberStatus
	ProtocolMin uint8
	ProtocolMax uint8
	ProtocolCur uint8
	DelegateMin uint8
	DelegateMax uint8
	DelegateCur uint8
}

// MemberStatus is a member's state as the HTTP API numbers it.
type MemberStatus int

// The states of a member.
const (
	StatusNone MemberStatus = iota
	StatusAlive
	StatusLeaving
	StatusLeft
	StatusFailed
)

// String gives the word the command line prints.
func (s MemberStatus) String() string {
	switch s {
	case StatusAlive:
		return "alive"
	case StatusLeaving:
		return "leaving"
	case StatusLeft:
		return "left"
	case StatusFailed:
		return "failed"
	}
	return "none"
}

// RaftServer is one row of the Raft configuration.
type RaftServer struct {
	ID              string
	Node            string
	Address         string
	Leader          bool
	ProtocolVersion string
	Voter           bool
	LastIndex       uint64
}

// RaftConfiguration is what /v1/operator/raft/configuration answers.
type RaftConfiguration struct {
	Servers []*RaftServer
	Index   uint64
}
