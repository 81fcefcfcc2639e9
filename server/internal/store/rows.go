package store

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/rollcall/rollcall/internal/api"
)

// fragment is a row's JSON, encoded once by whoever first asks. Two who ask at once may
// both encode; one result stays.
type fragment struct{ json atomic.Pointer[[]byte] }

func (f *fragment) encode(v any) []byte {
	if b := f.json.Load(); b != nil {
		return *b
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil { // the nouns hold nothing that cannot be encoded
		panic("store: encode row: " + err.Error())
	}
	b := slices.Clone(bytes.TrimSuffix(buf.Bytes(), []byte("\n")))
	f.json.Store(&b)
	return b
}

// Node is a node's row. Rows are immutable once committed.
type Node struct {
	api.Node
	key string // the name in lower case
	at  string // the address in its one form
	fragment
}

// JSON gives the node as the HTTP API prints it. It is shared: do not change it.
func (n *Node) JSON() []byte { return n.encode(&n.Node) }

// Service is an instance's row.
type Service struct {
	api.Service
	Node string // the node's name as it was registered
	node string // in lower case
	name string // the service's name in lower case
	at   string // the instance's own address in its one form
	fragment
}

// JSON gives the service as the HTTP API prints it. It is shared: do not change it.
func (s *Service) JSON() []byte { return s.encode(&s.Service) }

// Check is a check's row.
type Check struct {
	api.Check
	node string // in lower case
	name string // the service's name in lower case
	fragment
}

// JSON gives the check as the HTTP API prints it. It is shared: do not change it.
func (c *Check) JSON() []byte { return c.encode(&c.Check) }

// Pair is a key's row.
type Pair struct {
	api.KVPair
	fragment
}

// List gives the pair as the HTTP API prints a list of it alone. It is shared: do not
// change it.
func (p *Pair) List() []byte { return p.encode([]*api.KVPair{&p.KVPair}) }

// JSON gives the pair as the HTTP API prints it. It is shared: do not change it.
func (p *Pair) JSON() []byte {
	b := p.List()
	return b[1 : len(b)-1]
}

// Instance is an instance with its node and the checks that bear on it: the node's
// first, then its own, by id.
type Instance struct {
	Node    *Node
	Service *Service
	Checks  []*Check
}

// ServiceName is a name with the tags of all its instances, each once.
type ServiceName struct {
	Name string
	Tags []string
}

// Mark says how new an answer is. Index is what clients are told and wait on; Version
// changes whenever a byte of the answer may have changed, also for the output of a
// check, which does not move Index. Equal marks mean equal answers.
type Mark struct{ Index, Version, epoch uint64 }

// stamp is the age of a service or node in the state.
type stamp struct {
	key            string // lower case
	name           string
	count          int // instances, of a service
	index, version uint64
}

// tombstone remembers the deletion of a key.
type tombstone struct {
	key   string
	index uint64
}

// What is empty is printed as an empty list or object, never as null. The empty map is
// shared: rows are not changed.
var none = map[string]string{}

func orNone(m map[string]string) map[string]string {
	if len(m) == 0 {
		return none
	}
	return m
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func compare2(a1, b1, a2, b2 string) int {
	if c := strings.Compare(a1, b1); c != 0 {
		return c
	}
	return strings.Compare(a2, b2)
}

func compare3(a1, b1, a2, b2, a3, b3 string) int {
	if c := compare2(a1, b1, a2, b2); c != 0 {
		return c
	}
	return strings.Compare(a3, b3)
}

// The orders of the trees.
func byNodeKey(a, b *Node) bool { return a.key < b.key }
func byNodeID(a, b *Node) bool  { return strings.ToLower(a.ID) < strings.ToLower(b.ID) }
func byNodeAt(a, b *Node) bool  { return compare2(a.at, b.at, a.key, b.key) < 0 }
func byServiceAt(a, b *Service) bool {
	return compare3(a.at, b.at, a.node, b.node, a.ID, b.ID) < 0
}
func byStamp(a, b *stamp) bool      { return a.key < b.key }
func byPair(a, b *Pair) bool        { return a.Key < b.Key }
func byGrave(a, b *tombstone) bool  { return a.key < b.key }
func byInstance(a, b *Service) bool { return compare2(a.node, b.node, a.ID, b.ID) < 0 }
func byName(a, b *Service) bool     { return compare3(a.name, b.name, a.node, b.node, a.ID, b.ID) < 0 }
func byCheck(a, b *Check) bool      { return compare2(a.node, b.node, a.CheckID, b.CheckID) < 0 }
func byOwner(a, b *Check) bool {
	return compare3(a.node, b.node, a.ServiceID, b.ServiceID, a.CheckID, b.CheckID) < 0
}
func byCheckedName(a, b *Check) bool {
	return compare3(a.name, b.name, a.node, b.node, a.CheckID, b.CheckID) < 0
}
func byStatus(a, b *Check) bool {
	return compare3(a.Status, b.Status, a.node, b.node, a.CheckID, b.CheckID) < 0
}

// Equality of content, indexes left out.
func sameNode(a, b *api.Node) bool {
	return a.ID == b.ID && a.Node == b.Node && a.Address == b.Address && a.Datacenter == b.Datacenter &&
		maps.Equal(a.TaggedAddresses, b.TaggedAddresses) && maps.Equal(a.Meta, b.Meta)
}

// sameCheck leaves the output out too.
func sameCheck(a, b *api.Check) bool {
	return a.CheckID == b.CheckID && a.Name == b.Name && a.Status == b.Status && a.Notes == b.Notes && a.Node == b.Node &&
		a.ServiceID == b.ServiceID && a.ServiceName == b.ServiceName && slices.Equal(a.ServiceTags, b.ServiceTags) &&
		a.Type == b.Type && a.Interval == b.Interval && a.Timeout == b.Timeout && a.ExposedPort == b.ExposedPort &&
		sameInfo(&a.Definition, &b.Definition)
}

func sameInfo(a, b *api.CheckInfo) bool {
	return a.HTTP == b.HTTP && a.TLSServerName == b.TLSServerName && a.TLSSkipVerify == b.TLSSkipVerify && a.Method == b.Method &&
		a.Body == b.Body && a.DisableRedirects == b.DisableRedirects && a.TCP == b.TCP && a.TCPUseTLS == b.TCPUseTLS && a.UDP == b.UDP &&
		a.GRPC == b.GRPC && a.GRPCUseTLS == b.GRPCUseTLS && a.H2PING == b.H2PING && a.OSService == b.OSService && a.Interval == b.Interval && a.Timeout == b.Timeout &&
		a.DeregisterCriticalServiceAfter == b.DeregisterCriticalServiceAfter &&
		maps.EqualFunc(a.Header, b.Header, func(x, y []string) bool { return slices.Equal(x, y) })
}
