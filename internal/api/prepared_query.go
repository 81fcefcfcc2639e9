package api

// TemplatePrefixMatch is the kind of template that answers for every name that begins
// with the query's.
const TemplatePrefixMatch = "name_prefix_match"

// HiddenToken stands where a stored token is not shown.
const HiddenToken = "<hidden>"

// PreparedQuery is a search for instances that is kept by the servers and carried out by
// its name or id.
type PreparedQuery struct {
	ID          string
	Name        string
	Session     string // the query goes when this session does
	Token       string // executes the query; else the caller's
	Template    QueryTemplate
	Service     ServiceQuery
	DNS         QueryDNS
	CreateIndex uint64
	ModifyIndex uint64
}

// QueryTemplate makes a query answer for many names.
type QueryTemplate struct {
	Type            string // TemplatePrefixMatch, or empty: no template
	Regexp          string // matched against the name asked for; fills ${match(N)}
	RemoveEmptyTags bool
}

// ServiceQuery says which instances are wanted, and where to look when there are none.
type ServiceQuery struct {
	Service        string
	Failover       QueryFailover
	OnlyPassing    bool     // leave out warnings too
	IgnoreCheckIDs []string // checks that do not count
	Near           string   // sort from here: a node, _agent or _ip
	Tags           []string // must be there, or with a leading ! must not
	NodeMeta       map[string]string
	ServiceMeta    map[string]string
	Connect        bool // instances of the service mesh only: none
}

// QueryFailover names other datacenters to ask: the nearest ones, then a list; or Targets
// alone, one by one.
type QueryFailover struct {
	NearestN    int
	Datacenters []string
	Targets     []QueryTarget `json:",omitempty" codec:",omitempty"`
}

// QueryTarget is a datacenter to ask.
type QueryTarget struct {
	Peer       string `json:",omitempty" codec:",omitempty"` // of peered clusters: there are none
	Datacenter string
}

// QueryDNS says how DNS serves a query's results.
type QueryDNS struct {
	TTL string // a duration; empty is the agent's setting
}

// IsTemplate reports whether the query answers for a prefix of names.
func (q *PreparedQuery) IsTemplate() bool { return q.Template.Type != "" }

// QueryResult is what the execution of a prepared query found. The last four fields are
// printed for readers of Consul's API; the headers of the answer say the same.
type QueryResult struct {
	Service          string
	Nodes            []*Instance
	DNS              QueryDNS
	Datacenter       string // where the instances are
	Failovers        int    // how many other datacenters were asked
	Near             string `json:",omitempty"` // the node that the instances are sorted from; ours alone
	Index            uint64
	LastContact      int64 // nanoseconds
	KnownLeader      bool
	ConsistencyLevel string
}

// QueryExplanation is a query as it would be executed for a name.
type QueryExplanation struct {
	Query            *PreparedQuery
	Index            uint64
	LastContact      int64 // nanoseconds
	KnownLeader      bool
	ConsistencyLevel string
}
