package endpoint

import (
	"slices"
	"strings"

	"github.com/hashicorp/go-bexpr"

	"github.com/rollcall/rollcall/internal/api"
)

// filter is what a query asks of a row beside its name. A fault of the expression that
// shows only on a row is kept in err; nothing passes from then on.
type filter struct {
	q    *Query
	want []string // tags, lower case
	eval *bexpr.Evaluator
	err  error
}

func newFilter(q *Query) (*filter, error) {
	f := &filter{q: q}
	for _, t := range q.Tags {
		f.want = append(f.want, strings.ToLower(t))
	}
	if q.Filter == "" {
		return f, nil
	}
	var err error
	if f.eval, err = bexpr.CreateEvaluator(q.Filter); err != nil {
		return nil, api.Errorf(api.Invalid, "Failed to parse filter expression: %v", err)
	}
	return f, nil
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
	ok, err := f.eval.Evaluate(row)
	if err != nil {
		f.err = api.Errorf(api.Invalid, "Failed to evaluate filter expression %q: %v", f.q.Filter, err)
	}
	return ok && err == nil
}
