package render

import consul "github.com/hashicorp/consul/api"

// Values of dependencies, with the field names that templates written for
// consul-template use.

// Instance is one instance of a service.
type Instance struct {
	Node                   string
	NodeID                 string
	NodeAddress            string
	NodeTaggedAddresses    map[string]string
	NodeMeta               map[string]string
	ServiceMeta            map[string]string
	Address                string // the service's, else the node's
	ServiceTaggedAddresses map[string]TaggedAddress
	ID                     string
	Name                   string
	Tags                   []string // sorted
	Checks                 consul.HealthChecks
	Status                 string
	Port                   int
	Weights                Weights
}

// TaggedAddress is one tagged address of a service.
type TaggedAddress struct {
	Address string
	Port    int
}

// Weights are an instance's shares of traffic.
type Weights struct{ Passing, Warning int }

// ServiceName is a service with the tags of its instances, sorted.
type ServiceName struct {
	Name string
	Tags []string
}

// NodeInfo is a node of the catalog.
type NodeInfo struct {
	ID, Node, Address, Datacenter string
	TaggedAddresses, Meta         map[string]string
}

// NodeWithServices is a node with what is on it. Of an unknown node Node is nil.
type NodeWithServices struct {
	Node     *NodeInfo
	Services []*NodeService
}

// NodeService is a service on a node.
type NodeService struct {
	ID, Service       string
	Tags              []string
	Meta              map[string]string
	Port              int
	Address           string
	EnableTagOverride bool
}

// Pair is a key. In a list Key is the part behind the prefix.
type Pair struct {
	Path, Key, Value                           string
	CreateIndex, ModifyIndex, LockIndex, Flags uint64
	Session                                    string
}
