// Package endpoint is every operation of the catalog, once: who may, how fresh, where.
// Reads are Query values, writes are command values, and an Endpoint answers both. The
// server's Local answers in place, forwarding to the leader what only the leader may
// answer; rpc.Remote is the same interface over the wire, for client agents. The one
// function that blocks on an index is here.
package endpoint

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
)

// Endpoint answers reads and carries out writes. Both methods may be called
// concurrently, honour ctx, and return *api.Error for what a client should read.
type Endpoint interface {
	// Read answers q, blocking while q.MinIndex asks for it. What is missing is an
	// Answer with Found false (its Meta still counts), not an error.
	Read(ctx context.Context, q *Query) (*Answer, error)
	// Write commits w. An error means that the caller cannot know whether it was
	// applied, unless it is an *api.Error of kind Invalid or Forbidden: then it was not.
	Write(ctx context.Context, w *Write) (*command.Result, error)
}

// Kind names a read.
type Kind string

// The kinds of read. Beside each: what Name means, and the type of the answer.
const (
	Datacenters   Kind = "catalog.datacenters"   // - , []string
	Nodes         Kind = "catalog.nodes"         // address or "" for any, []*api.Node
	Services      Kind = "catalog.services"      // - , map[string][]string: name to tags
	ServiceNodes  Kind = "catalog.service"       // service, []*api.ServiceNode
	InstancesAt   Kind = "catalog.at"            // address, []*api.ServiceNode: instances with this address of their own
	NodeServices  Kind = "catalog.node"          // node, *api.NodeServices, nil if unknown
	NodeList      Kind = "catalog.node-services" // node, *NodeServiceList, nil if unknown
	NodeAge       Kind = "catalog.node-age"      // node, null: only the index tells
	HealthNode    Kind = "health.node"           // node, []*api.Check
	HealthChecks  Kind = "health.checks"         // service, []*api.Check
	HealthState   Kind = "health.state"          // state or any, []*api.Check
	HealthService Kind = "health.service"        // service, []*api.Instance
	KVGet         Kind = "kv.get"                // key, []*api.KVPair of one; Found false if missing
	KVList        Kind = "kv.list"               // prefix, []*api.KVPair; Found false if none
	KVKeys        Kind = "kv.keys"               // prefix, []string; Found false if none
	SessionList   Kind = "session.list"          // - , []*api.Session
	SessionNode   Kind = "session.node"          // node, []*api.Session
	SessionInfo   Kind = "session.info"          // id, []*api.Session of one, or none
	SessionRenew  Kind = "session.renew"         // id, []*api.Session of one; restarts its TTL
	TxnRead       Kind = "txn"                   // - , *api.TxnAnswer
	Leader        Kind = "status.leader"         // - , string "ip:8300", "" without a leader; with ArgKnown and an index it waits
	Peers         Kind = "status.peers"          // - , []string
	Raft          Kind = "operator.raft"         // - , *api.RaftConfiguration

	RaftStanding    Kind = "operator.raft.standing"    // - , *api.RaftStats: where the asked server's own log stands
	AutopilotConfig Kind = "operator.autopilot.config" // - , *api.AutopilotConfig
	AutopilotHealth Kind = "operator.autopilot.health" // - , *api.AutopilotHealth
	AutopilotState  Kind = "operator.autopilot.state"  // - , *api.AutopilotState
	Usage           Kind = "operator.usage"            // - , *api.DatacenterUsage

	UINodes    Kind = "ui.nodes"    // - , []*api.NodeInfo
	UINode     Kind = "ui.node"     // node, []*api.NodeInfo of one; Found false if unknown
	UIServices Kind = "ui.services" // - , []*api.ServiceSummary
	UIOverview Kind = "ui.overview" // - , *api.CatalogOverview

	QueryList    Kind = "query.list"    // - , []*api.PreparedQuery
	QueryGet     Kind = "query.get"     // id, []*api.PreparedQuery of one; Found false if missing
	QueryExecute Kind = "query.execute" // id or name, *api.QueryResult
	QueryExplain Kind = "query.explain" // name, *api.QueryExplanation
	QueryRemote  Kind = "query.remote"  // - , *api.QueryResult; for another datacenter's servers

	CoordinateNodes Kind = "coordinate.nodes" // - , []*api.CoordinateEntry
	CoordinateNode  Kind = "coordinate.node"  // node, []*api.CoordinateEntry of one; Found false if none
	// CoordinateDatacenters: - , []*api.DatacenterCoordinates
	CoordinateDatacenters Kind = "coordinate.datacenters"
)

// Query is one read. Two queries that differ only in QueryOptions ask the same.
type Query struct {
	Kind      Kind
	Name      string
	Tags      []string          `codec:",omitempty"` // all must be there; match in any case
	Passing   bool              `codec:",omitempty"` // only instances whose checks all pass
	NodeMeta  map[string]string `codec:",omitempty"`
	Near      string            `codec:",omitempty"` // sort by the distance from this node
	Filter    string            `codec:",omitempty"` // a bexpr expression
	Separator string            `codec:",omitempty"` // KVKeys: fold deeper keys here
	Execution *Execution        `codec:",omitempty"` // of prepared queries
	Txn       []api.TxnOp       `codec:",omitempty"` // TxnRead: what to read
	Args      map[string]string `codec:",omitempty"` // what only one kind asks for; see there
	api.QueryOptions
}

// NodeServiceList is a node with its services in a list.
type NodeServiceList struct {
	Node     *api.Node
	Services []*api.Service
}

// Write is one write with what decides whether and where it is carried out.
type Write struct {
	Datacenter string
	Token      string
	Command    command.Command
}

// Answer is what a read found. Value is the typed answer where it was read in place,
// nil where it came over the wire. What an answer refers to is shared by everyone who
// asked the same: never change it.
type Answer struct {
	Meta  api.QueryMeta
	Found bool
	Value any
	body  *body
}

// body is an encoded answer, made once by whoever first asks and shared by all.
type body struct {
	once   sync.Once
	encode func() ([]byte, error) // nil where bytes are there from the start
	bytes  []byte
	err    error
}

// Encoded makes an Answer from a body that came over the wire.
func Encoded(meta api.QueryMeta, found bool, bytes []byte) *Answer {
	return &Answer{Meta: meta, Found: found, body: &body{bytes: bytes}}
}

// JSON gives the answer's encoded body.
func (a *Answer) JSON() ([]byte, error) {
	if a.body == nil {
		return json.Marshal(a.Value)
	}
	if a.body.encode == nil {
		return a.body.bytes, nil
	}
	a.body.once.Do(func() { a.body.bytes, a.body.err = a.body.encode() })
	return a.body.bytes, a.body.err
}

// Into gives the answer's value as T, decoding the body where it came over the wire.
func Into[T any](a *Answer) (T, error) {
	if v, ok := a.Value.(T); ok {
		return v, nil
	}
	var v T
	if a.Value != nil || !a.Found && a.body == nil {
		return v, nil
	}
	b, err := a.JSON()
	if err != nil || len(b) == 0 {
		return v, err
	}
	err = json.Unmarshal(b, &v)
	return v, err
}
