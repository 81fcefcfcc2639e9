package httpapi

import (
	"context"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

func queryList(ctx context.Context, r *request) (*reply, error) {
	return r.read(ctx, &endpoint.Query{Kind: endpoint.QueryList})
}

func queryCreate(ctx context.Context, r *request) (*reply, error) {
	var def api.PreparedQuery
	if err := r.decode(&def); err != nil {
		return nil, err
	}
	if def.ID != "" {
		return nil, api.Errorf(api.Internal, "ID must be empty when creating a new prepared query")
	}
	def.ID = uuid.NewString()
	if _, err := r.write(ctx, "", &command.Query{Verb: command.CreateQuery, Query: def}); err != nil {
		return nil, err
	}
	return &reply{value: map[string]string{"ID": def.ID}}, nil
}

// queryGet answers a definition, or what stands behind its name: execute, explain.
func queryGet(ctx context.Context, r *request) (*reply, error) {
	if name, ok := below(r.tail, "execute"); ok {
		return queryExecute(ctx, r, name)
	}
	if name, ok := below(r.tail, "explain"); ok {
		return r.read(ctx, &endpoint.Query{Kind: endpoint.QueryExplain, Name: name})
	}
	if err := queryID(r.tail); err != nil {
		return nil, err
	}
	rep, err := r.read(ctx, &endpoint.Query{Kind: endpoint.QueryGet, Name: r.tail})
	if err == nil && !rep.answer.Found {
		return nil, api.Errorf(api.NotFound, "Query not found")
	}
	return rep, err
}

func queryUpdate(ctx context.Context, r *request) (*reply, error) {
	if rep := onlyGet(r.tail, http.MethodPut); rep != nil {
		return rep, nil
	}
	var def api.PreparedQuery
	if err := r.decode(&def); err != nil {
		return nil, err
	}
	def.ID = r.tail // whatever the body says
	return r.changeQuery(ctx, &command.Query{Verb: command.UpdateQuery, Query: def})
}

func queryDelete(ctx context.Context, r *request) (*reply, error) {
	if rep := onlyGet(r.tail, http.MethodDelete); rep != nil {
		return rep, nil
	}
	return r.changeQuery(ctx, &command.Query{Verb: command.DeleteQuery, Query: api.PreparedQuery{ID: r.tail}})
}

func (r *request) changeQuery(ctx context.Context, c *command.Query) (*reply, error) {
	if err := queryID(c.Query.ID); err != nil {
		return nil, api.Errorf(api.Internal, "Prepared Query lookup failed: %v", err)
	}
	_, err := r.write(ctx, "", c)
	return nil, err
}

func queryExecute(ctx context.Context, r *request, name string) (*reply, error) {
	how := &endpoint.Execution{
		Source: endpoint.Source{Datacenter: r.opts.Datacenter, Node: r.query.get("near"), IP: r.from()},
		Agent:  endpoint.Source{Datacenter: r.server.cfg.Datacenter, Node: r.server.cfg.Node},
	}
	if r.query.has("limit") {
		n, err := strconv.Atoi(r.query.get("limit"))
		if err != nil {
			return nil, api.Errorf(api.Internal, "Bad limit: %v", err)
		}
		how.Limit = n
	}
	return r.read(ctx, &endpoint.Query{Kind: endpoint.QueryExecute, Name: name, Execution: how})
}

// from is the address of the client, as the first proxy on its way has it.
func (r *request) from() string {
	if list := r.Header.Get("X-Forwarded-For"); list != "" {
		first, _, _ := strings.Cut(list, ",")
		return strings.TrimSpace(first)
	}
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "" // a unix socket
	}
	return host
}

// below cuts a last element off a path; false if it ends otherwise.
func below(tail, last string) (string, bool) {
	if tail == last {
		return "", true
	}
	return strings.CutSuffix(tail, "/"+last)
}

// onlyGet refuses another verb where only GET has a meaning; nil elsewhere.
func onlyGet(tail, verb string) *reply {
	for _, last := range []string{"execute", "explain"} {
		if _, ok := below(tail, last); ok {
			return &reply{
				status: http.StatusMethodNotAllowed, raw: []byte("method " + verb + " not allowed"),
				header: http.Header{"Allow": {"GET"}, "Content-Type": {"text/plain; charset=utf-8"}},
			}
		}
	}
	return nil
}

// queryID refuses what cannot be the id of a query.
func queryID(id string) error {
	switch _, err := uuid.Parse(id); {
	case len(id) != 36:
		return api.Errorf(api.Internal, "failed prepared query lookup: index error: UUID must be 36 characters")
	case err != nil:
		return api.Errorf(api.Internal, "failed prepared query lookup: index error: %v", err)
	}
	return nil
}
