package httpapi

import (
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

// TestTxnTags: the tags of a node's check are null in a transaction's answer, those of a
// service's an empty list, and the state's own rows stay as they are.
func TestTxnTags(t *testing.T) {
	node, service := &api.Check{CheckID: "n", ServiceTags: []string{}}, &api.Check{CheckID: "s", ServiceID: "web", ServiceTags: []string{}}
	a := asClientsExpect(&api.TxnAnswer{Results: []api.TxnResult{{Check: node}, {Check: service}}})
	if got := a.Results[0].Check.ServiceTags; got != nil {
		t.Errorf("a node's check: %v, want null", got)
	}
	if got := a.Results[1].Check.ServiceTags; got == nil {
		t.Error("a service's check: null, want an empty list")
	}
	if node.ServiceTags == nil {
		t.Error("the row was changed")
	}
}
