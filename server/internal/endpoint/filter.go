package endpoint

import (
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	expr "github.com/rollcall/rollcall/server/internal/filter"
	"github.com/rollcall/rollcall/server/internal/store"
)

// filter is what a query asks of a row beside its name, and what its asker may see. A fault
// of the expression that shows only on a row is kept in err; nothing passes from then on.
type filter struct {
	q      *Query
	want   []string // tags, lower case
	eval   *expr.Filter
	err    error
	may    *acl.Authorizer // nil sees all
	hidden bool            // something was left out that the asker may not see
}

func newFilter(q *Query, may *acl.Authorizer) (*filter, error) {
	f := &filter{q: q, may: may}
	for _, t := range q.Tags {
		f.want = append(f.want, strings.ToLower(t))
	}
	if q.Filter == "" {
		return f, nil
	}
	var err error
	if f.eval, err = expr.Compile(q.Filter, rowOf(q.Kind)); err != nil {
		return nil, api.Errorf(api.Invalid, "%v", err)
	}
	return f, nil
}

// rowOf is what the expression of a query is about.
func rowOf(k Kind) any {
	switch k {
	case Nodes:
		return &api.Node{}
	case Services, ServiceNodes:
		return &api.ServiceNode{}
	case NodeServices, NodeList:
		return &api.Service{}
	case HealthService, UIServices:
		return &api.Instance{}
	case UINodes, UINode:
		return &api.NodeInfo{}
	}
	return &api.Check{}
}

// sees reports whether the asker may read what is called name.
func (f *filter) sees(res acl.Resource, name string) bool {
	if f.may == nil || f.may.Allowed(res, name, acl.Read) {
		return true
	}
	f.hidden = true
	return false
}

func (f *filter) node(name string) bool    { return f.sees(acl.Node, name) }
func (f *filter) service(name string) bool { return f.sees(acl.Service, name) }

// instance reports whether the asker may read an instance: its node and its service.
func (f *filter) instance(r store.Instance) bool {
	return f.node(r.Node.Node.Node) && f.service(r.Service.Service.Service)
}

// check reports whether the asker may read a check: its node, and its service if it has one.
func (f *filter) check(c *api.Check) bool {
	return f.node(c.Node) && (c.ServiceName == "" || f.service(c.ServiceName))
}

// keys leaves out the keys that the asker may not read.
func (f *filter) keys(rows []*store.Pair) []*store.Pair {
	if f.may == nil {
		return rows
	}
	return slices.DeleteFunc(slices.Clone(rows), func(p *store.Pair) bool { return !f.sees(acl.Key, p.Key) })
}

func (f *filter) wantsMeta() bool { return len(f.q.NodeMeta) > 0 }

// meta reports whether a node's meta holds every pair asked for.
func (f *filter) meta(have map[string]string) bool {
	for k, v := range f.q.NodeMeta {
		if got, ok := have[k]; !ok || got != v {
			return false
		}
	}
	return true
}

// tags reports whether every tag asked for is there, in any case.
func (f *filter) tags(have []string) bool {
	for _, w := range f.want {
		if !slices.ContainsFunc(have, func(t string) bool { return strings.EqualFold(t, w) }) {
			return false
		}
	}
	return true
}

// expr reports whether the expression holds of a row.
func (f *filter) expr(row any) bool {
	if f.eval == nil {
		return true
	}
	if f.err != nil {
		return false
	}
	ok, err := f.eval.Match(row)
	if err != nil {
		f.err = api.Errorf(api.Invalid, "Failed to evaluate filter expression %q: %v", f.q.Filter, err)
	}
	return ok && err == nil
}
