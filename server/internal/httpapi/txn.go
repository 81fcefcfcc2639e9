package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// maxTxnOps is how many operations a transaction may have.
const maxTxnOps = 128

func txn(ctx context.Context, r *request) (*reply, error) {
	b, err := r.body(r.server.txnLimit())
	if api.KindOf(err) == api.TooLarge {
		err = api.Errorf(api.TooLarge, "%v See limits.txn_max_req_len.", err)
	}
	if err != nil {
		return nil, err
	}
	var ops []api.TxnOp
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&ops); err != nil {
		return nil, api.Errorf(api.Invalid, "Failed to parse body: %v", err)
	}
	if len(ops) > maxTxnOps {
		return nil, api.Errorf(api.TooLarge, "Transaction contains too many operations (%d > %d)", len(ops), maxTxnOps)
	}
	reads := true
	for i := range ops {
		reads = reads && ops[i].Reads()
		if kv := ops[i].KV; kv != nil && len(kv.Value) > r.server.cfg.KVMaxValueSize {
			return nil, api.Errorf(api.TooLarge, "Value for key %q is too large (%d > %d bytes)", kv.Key, len(kv.Value), r.server.cfg.KVMaxValueSize)
		}
	}
	if reads {
		return txnRead(ctx, r, ops)
	}
	res, err := r.commit(ctx, "", &command.Txn{Ops: ops})
	if err != nil {
		return nil, err
	}
	if res.Txn == nil {
		return nil, api.Errorf(api.Internal, "the transaction has no outcome")
	}
	return &reply{value: asClientsExpect(res.Txn), status: txnStatus(res.Txn)}, nil
}

// txnRead is a read like others: as fresh as asked for.
func txnRead(ctx context.Context, r *request, ops []api.TxnOp) (*reply, error) {
	r.opts.MinIndex = 0
	rep, err := r.read(ctx, &endpoint.Query{Kind: endpoint.TxnRead, Txn: ops})
	if err != nil {
		return nil, err
	}
	a, err := endpoint.Into[*api.TxnAnswer](rep.answer)
	if err != nil || a == nil {
		return nil, err
	}
	m := rep.answer.Meta
	body := struct { // Consul has the headers of a read in the body as well
		*api.TxnAnswer
		Index            uint64
		LastContact      time.Duration
		KnownLeader      bool
		ConsistencyLevel string
	}{TxnAnswer: asClientsExpect(a), LastContact: m.LastContact, KnownLeader: m.KnownLeader}
	return &reply{value: body, status: txnStatus(a), header: http.Header{
		"X-Consul-Knownleader": {strconv.FormatBool(m.KnownLeader)},
		"X-Consul-Lastcontact": {strconv.FormatInt(m.LastContact.Milliseconds(), 10)},
	}}, nil
}

// asClientsExpect gives the answer with null for the tags of checks that belong to no
// service; everywhere else Consul has an empty list there.
func asClientsExpect(a *api.TxnAnswer) *api.TxnAnswer {
	out := &api.TxnAnswer{Results: slices.Clone(a.Results), Errors: a.Errors}
	for i, r := range out.Results {
		if r.Check != nil && r.Check.ServiceID == "" {
			c := *r.Check
			c.ServiceTags = nil
			out.Results[i].Check = &c
		}
	}
	return out
}

func txnStatus(a *api.TxnAnswer) int {
	if a.Errors != nil {
		return http.StatusConflict
	}
	return http.StatusOK
}

// txnLimit is the larger of the two limits that bear on a transaction.
func (s *Server) txnLimit() int { return max(s.cfg.TxnMaxReqLen, s.cfg.KVMaxValueSize) }
