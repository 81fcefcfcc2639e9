package command

import (
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// The kinds of command about prepared queries, coordinates and operating the cluster.
const (
	OpQuery     Op = 20
	OpPlaces    Op = 21
	OpAutopilot Op = 22
	OpOperate   Op = 23 // never in the log
)

// QueryVerb is what a Query command does.
type QueryVerb uint8

// The verbs of Query.
const (
	CreateQuery QueryVerb = 1
	UpdateQuery QueryVerb = 2 // it must be there
	DeleteQuery QueryVerb = 3 // it must be there
)

// Query writes or removes a prepared query; who creates one chooses its id.
type Query struct {
	Verb  QueryVerb
	Query api.PreparedQuery
}

// Op is OpQuery.
func (*Query) Op() Op { return OpQuery }

// Exclusive is true: it depends on the names of all other queries.
func (*Query) Exclusive() bool { return true }

// Keys is the query.
func (q *Query) Keys() []string { return []string{"query/" + q.Query.ID} }

// Places writes coordinates of nodes, as many as came in a while.
type Places struct{ Entries []*api.CoordinateEntry }

// Op is OpPlaces.
func (*Places) Op() Op { return OpPlaces }

// Exclusive is false.
func (*Places) Exclusive() bool { return false }

// Keys are the nodes' coordinates.
func (p *Places) Keys() []string {
	keys := make([]string, 0, len(p.Entries))
	for _, e := range p.Entries {
		keys = append(keys, "place/"+strings.ToLower(e.Node))
	}
	return keys
}

// Autopilot writes the configuration of autopilot; with CAS only if the present one's
// ModifyIndex is that of Config, where 0 means that there is none yet.
type Autopilot struct {
	Config api.AutopilotConfig
	CAS    bool `codec:",omitempty"`
}

// Op is OpAutopilot.
func (*Autopilot) Op() Op { return OpAutopilot }

// Exclusive is false.
func (*Autopilot) Exclusive() bool { return false }

// Keys is the configuration.
func (*Autopilot) Keys() []string { return []string{"autopilot"} }

// OperateVerb is what an Operate command does.
type OperateVerb uint8

// The verbs of Operate.
const (
	RemovePeer     OperateVerb = 1 // take a server's seat, by ID or Address
	TransferLeader OperateVerb = 2 // hand leadership to the voter ID, or to the one furthest along
)

// Operate changes who takes part in the log. It travels to the leader as every write
// does, and is carried out there; it never is in the log itself.
type Operate struct {
	Verb        OperateVerb
	ID, Address string `codec:",omitempty"`
}

// Op is OpOperate.
func (*Operate) Op() Op { return OpOperate }

// Exclusive is true.
func (*Operate) Exclusive() bool { return true }

// Keys is empty.
func (*Operate) Keys() []string { return nil }
