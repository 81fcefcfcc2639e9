package httpapi

import (
	"context"
	"net/http"
	"net/http/pprof"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// route is a path, all below it where it ends in a slash, with its verbs.
type route struct {
	path  string
	verbs map[string]handler
}

func get(h handler) map[string]handler { return map[string]handler{http.MethodGet: h} }
func put(h handler) map[string]handler {
	// POST is what some clients send where PUT is meant
	return map[string]handler{http.MethodPut: h}
}

// table is every route we answer.
var table = []route{
	{"/v1/status/leader", get(statusLeader)},
	{"/v1/status/peers", get(statusPeers)},

	{"/v1/agent/self", get(agentSelf)},
	{"/v1/agent/members", get(agentMembers)},
	{"/v1/agent/services", get(agentServices)},
	{"/v1/agent/service/", get(agentService)},
	{"/v1/agent/checks", get(agentChecks)},
	{"/v1/agent/health/service/id/", get(agentHealthByID)},
	{"/v1/agent/health/service/name/", get(agentHealthByName)},
	{"/v1/agent/version", get(agentVersion)},
	{"/v1/agent/metrics", get(agentMetrics)},
	{"/v1/agent/reload", put(agentReload)},
	{"/v1/agent/join/", put(agentJoin)},
	{"/v1/agent/leave", put(agentLeave)},
	{"/v1/agent/force-leave/", put(agentForceLeave)},
	{"/v1/agent/maintenance", put(agentMaintenance)},
	{"/v1/agent/service/register", put(agentRegisterService)},
	{"/v1/agent/service/deregister/", put(agentDeregisterService)},
	{"/v1/agent/service/maintenance/", put(agentServiceMaintenance)},
	{"/v1/agent/check/register", put(agentRegisterCheck)},
	{"/v1/agent/check/deregister/", put(agentDeregisterCheck)},
	{"/v1/agent/check/pass/", put(agentReport(api.Passing))},
	{"/v1/agent/check/warn/", put(agentReport(api.Warning))},
	{"/v1/agent/check/fail/", put(agentReport(api.Critical))},
	{"/v1/agent/check/update/", put(agentUpdate)},

	{"/v1/catalog/register", put(catalogRegister)},
	{"/v1/catalog/deregister", put(catalogDeregister)},
	{"/v1/catalog/datacenters", get(catalogDatacenters)},
	{"/v1/catalog/nodes", get(catalogNodes)},
	{"/v1/catalog/services", get(catalogServices)},
	{"/v1/catalog/service/", get(catalogService)},
	{"/v1/catalog/node/", get(catalogNode)},
	{"/v1/catalog/node-services/", get(catalogNodeServices)},

	{"/v1/health/node/", get(healthNode)},
	{"/v1/health/checks/", get(healthChecks)},
	{"/v1/health/state/", get(healthState)},
	{"/v1/health/service/", get(healthService)},

	{"/v1/kv/", map[string]handler{http.MethodGet: kvGet, http.MethodPut: kvPut, http.MethodDelete: kvDelete}},

	{"/v1/operator/raft/configuration", get(raftConfiguration)},
}

// left are areas of Consul's API that this server does not have, with what to say.
var left = map[string]string{
	"/v1/connect/":            "the service mesh is left out of Rollcall",
	"/v1/agent/connect/":      "the service mesh is left out of Rollcall",
	"/v1/config":              "config entries are left out of Rollcall",
	"/v1/config/":             "config entries are left out of Rollcall",
	"/v1/discovery-chain/":    "the service mesh is left out of Rollcall",
	"/v1/exported-services":   "exported services are left out of Rollcall",
	"/v1/peering":             "peering is left out of Rollcall",
	"/v1/peering/":            "peering is left out of Rollcall",
	"/v1/namespace":           "namespaces are left out of Rollcall",
	"/v1/partition":           "partitions are left out of Rollcall",
	"/v1/catalog/connect/":    "the service mesh is left out of Rollcall",
	"/v1/health/connect/":     "the service mesh is left out of Rollcall",
	"/v1/health/ingress/":     "the service mesh is left out of Rollcall",
	"/v1/session/":            "sessions are not part of this version yet",
	"/v1/txn":                 "transactions are not part of this version yet",
	"/v1/query":               "prepared queries are not part of this version yet",
	"/v1/query/":              "prepared queries are not part of this version yet",
	"/v1/event/":              "events are not part of this version yet",
	"/v1/snapshot":            "snapshots over HTTP are not part of this version yet",
	"/v1/coordinate/":         "coordinates are not part of this version yet",
	"/v1/operator/autopilot/": "autopilot is not part of this version yet",
	"/v1/operator/keyring":    "the keyring is not part of this version yet",
	"/v1/agent/monitor":       "log streaming is not part of this version yet",
	"/v1/agent/host":          "host information is not part of this version yet",
}

// routes builds the mux from the table.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	for _, r := range table {
		mux.HandleFunc(r.path, s.wrap(r.path, r.verbs))
	}
	for path, why := range left {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			fail(w, http.StatusNotFound, r.URL.Path+": "+why)
		})
	}
	mux.HandleFunc("/v1/acl/", func(w http.ResponseWriter, _ *http.Request) {
		fail(w, http.StatusUnauthorized, "ACL support disabled")
	})
	if s.cfg.UI != nil {
		mux.Handle(s.cfg.UIPath, s.cfg.UI)
	}
	if s.cfg.Debug {
		mux.HandleFunc("/debug/pprof/", pprof.Index)
		mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	}
	mux.HandleFunc("/", s.unknown)
	return mux
}

// unknown answers what no route does.
func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/" && s.cfg.UI != nil:
		http.Redirect(w, r, s.cfg.UIPath, http.StatusMovedPermanently)
	case r.URL.Path == "/":
		fail(w, http.StatusOK, "Rollcall agent (the web UI is off: start it with -ui)")
	case strings.HasPrefix(r.URL.Path, "/v1/"):
		fail(w, http.StatusNotFound, "Invalid URL path: "+r.URL.Path+" is no route of this API")
	default:
		fail(w, http.StatusNotFound, "Invalid URL path: the API is below /v1/")
	}
}

// done is the reply of handlers that say nothing but that it worked.
func done(err error) (*reply, error) { return nil, err }

// outcome is the reply of writes that answer true or false.
func outcome(ok bool, err error) (*reply, error) {
	if err != nil {
		return nil, err
	}
	return &reply{value: ok}, nil
}

var _ handler = func(context.Context, *request) (*reply, error) { return nil, nil }
