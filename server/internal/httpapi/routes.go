package httpapi

import (
	"net/http"
	"net/http/pprof"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// route is a path, or all below it where it ends in a slash, with its verbs.
type route struct {
	path  string
	verbs map[string]handler
}

func get(h handler) map[string]handler { return map[string]handler{http.MethodGet: h} }
func put(h handler) map[string]handler { return map[string]handler{http.MethodPut: h} }

// table is every route we answer.
var table = []route{
	{"/v1/status/leader", get(clusterStatus(endpoint.Leader))},
	{"/v1/status/peers", get(clusterStatus(endpoint.Peers))},

	{"/v1/agent/self", get(agentSelf)},
	{"/v1/agent/members", get(agentMembers)},
	{"/v1/agent/services", get(agentServices)},
	{"/v1/agent/service/", get(agentService)},
	{"/v1/agent/checks", get(agentChecks)},
	{"/v1/agent/health/service/id/", get(agentHealthByID)},
	{"/v1/agent/health/service/name/", get(agentHealthByName)},
	{"/v1/agent/version", get(agentVersion)},
	{"/v1/agent/metrics", get(agentMetrics)},
	{"/v1/agent/metrics/stream", get(agentMetricsStream)},
	{"/v1/agent/monitor", get(agentMonitor)},
	{"/v1/agent/host", get(agentHost)},
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
	{"/v1/catalog/datacenters", get(everywhere(endpoint.Datacenters))},
	{"/v1/catalog/nodes", get(listed(endpoint.Nodes))},
	{"/v1/catalog/services", get(listed(endpoint.Services))},
	{"/v1/catalog/service/", get(named(endpoint.ServiceNodes, "service name"))},
	{"/v1/catalog/node/", get(named(endpoint.NodeServices, "node name"))},
	{"/v1/catalog/node-services/", get(named(endpoint.NodeList, "node name"))},

	{"/v1/health/node/", get(named(endpoint.HealthNode, "node name"))},
	{"/v1/health/checks/", get(named(endpoint.HealthChecks, "service name"))},
	{"/v1/health/state/", get(named(endpoint.HealthState, "check state"))},
	{"/v1/health/service/", get(healthService)},
	{"/v1/health/watch", get(healthWatch)}, // not Consul's

	{"/v1/coordinate/nodes", get(coordinates(coordinateNodes))},
	{"/v1/coordinate/node/", get(coordinates(coordinateNode))},
	{"/v1/coordinate/datacenters", get(coordinates(everywhere(endpoint.CoordinateDatacenters)))},
	{"/v1/coordinate/update", put(coordinates(coordinateUpdate))},

	{"/v1/event/fire/", put(eventFire)},
	{"/v1/event/list", get(eventList)},

	{"/v1/query", map[string]handler{http.MethodGet: queryList, http.MethodPost: queryCreate}},
	{"/v1/query/", map[string]handler{http.MethodGet: queryGet, http.MethodPut: queryUpdate, http.MethodDelete: queryDelete}},

	{"/v1/kv/", map[string]handler{http.MethodGet: kvGet, http.MethodPut: kvPut, http.MethodDelete: kvDelete}},

	{"/v1/session/create", put(sessionCreate)},
	{"/v1/session/destroy/", put(sessionDestroy)},
	{"/v1/session/renew/", put(sessionRenew)},
	{"/v1/session/info/", get(sessionsOf(endpoint.SessionInfo, "session"))},
	{"/v1/session/node/", get(sessionsOf(endpoint.SessionNode, "node name"))},
	{"/v1/session/list", get(sessionsOf(endpoint.SessionList, ""))},
	{"/v1/txn", put(txn)},

	{"/v1/operator/keyring", map[string]handler{
		http.MethodGet: keyringList, http.MethodPost: keyringChange(command.InstallKey), http.MethodPut: keyringChange(command.UseKey), http.MethodDelete: keyringChange(command.RemoveKey),
	}},
	{"/v1/snapshot", map[string]handler{http.MethodGet: snapshotSave, http.MethodPut: snapshotRestore}},

	{"/v1/operator/raft/configuration", get(clusterStatus(endpoint.Raft))},
	{"/v1/operator/raft/peer", map[string]handler{http.MethodDelete: raftRemovePeer}},
	{"/v1/operator/raft/transfer-leader", map[string]handler{http.MethodPost: raftTransferLeader}},
	{"/v1/operator/autopilot/configuration", map[string]handler{http.MethodGet: autopilotGet, http.MethodPut: autopilotPut}},
	{"/v1/operator/autopilot/health", get(autopilotHealth)},
	{"/v1/operator/autopilot/state", get(clusterStatus(endpoint.AutopilotState))},
	{"/v1/operator/usage", get(operatorUsage)},

	{"/v1/internal/ui/nodes", get(ui(endpoint.UINodes))},
	{"/v1/internal/ui/node/", get(uiNode)},
	{"/v1/internal/ui/services", get(ui(endpoint.UIServices))},
	{"/v1/internal/ui/catalog-overview", get(ui(endpoint.UIOverview))},

	{"/v1/connect/ca/roots", get(caRootsList)},
	{"/v1/agent/connect/ca/roots", get(caRootsList)},
}

// left are areas of Consul's API that this server does not have, with what to say.
var left = map[string]string{
	"/v1/connect/":          "the service mesh is left out of Rollcall",
	"/v1/agent/connect/":    "the service mesh is left out of Rollcall",
	"/v1/config":            "config entries are left out of Rollcall",
	"/v1/config/":           "config entries are left out of Rollcall",
	"/v1/discovery-chain/":  "the service mesh is left out of Rollcall",
	"/v1/exported-services": "exported services are left out of Rollcall",
	"/v1/peering":           "peering is left out of Rollcall",
	"/v1/peering/":          "peering is left out of Rollcall",
	"/v1/namespace":         "namespaces are left out of Rollcall",
	"/v1/partition":         "partitions are left out of Rollcall",
	"/v1/catalog/connect/":  "the service mesh is left out of Rollcall",
	"/v1/health/connect/":   "the service mesh is left out of Rollcall",
	"/v1/health/ingress/":   "the service mesh is left out of Rollcall",
}

// everyRoute is the whole table.
func everyRoute() []route { return slices.Concat(table, aclTable) }

// routes builds the router from the tables.
func (s *Server) routes() *router {
	to := newRouter()
	for _, r := range everyRoute() {
		to.add(r.path, s.wrap(r.path, r.verbs))
	}
	for _, area := range []map[string]string{left, aclLeft} {
		for path, why := range area {
			to.add(path, func(w http.ResponseWriter, _ *http.Request, path string) {
				fail(w, http.StatusNotFound, path+": "+why)
			})
		}
	}
	to.add("/v1/acl/", func(w http.ResponseWriter, _ *http.Request, path string) {
		if !s.cfg.ACL.Enabled {
			fail(w, http.StatusUnauthorized, api.ErrACLDisabled.Text)
			return
		}
		s.unknown(w, path)
	})
	if s.cfg.UI != nil {
		page := strings.TrimSuffix(s.cfg.UIPath, "/") + "/"
		moved := func(w http.ResponseWriter, r *http.Request, _ string) {
			http.Redirect(w, r, page, http.StatusMovedPermanently)
		}
		to.exact("/", moved)
		to.exact(strings.TrimSuffix(page, "/"), moved)
		to.add(page, foreign(s.cfg.UI, pieceTime))
	}
	if s.cfg.Debug {
		to.add("/debug/pprof/", foreign(http.HandlerFunc(pprof.Index), 0))
		to.add("/debug/pprof/cmdline", foreign(http.HandlerFunc(pprof.Cmdline), 0))
		to.add("/debug/pprof/profile", foreign(http.HandlerFunc(pprof.Profile), 0))
		to.add("/debug/pprof/symbol", foreign(http.HandlerFunc(pprof.Symbol), 0))
		to.add("/debug/pprof/trace", foreign(http.HandlerFunc(pprof.Trace), 0))
	}
	return to
}

// unknown answers what no route does.
func (s *Server) unknown(w http.ResponseWriter, path string) {
	switch {
	case path == "/":
		fail(w, http.StatusOK, "Rollcall agent (the web UI is off: start it with -ui)")
	case strings.HasPrefix(path, "/v1/"):
		fail(w, http.StatusNotFound, "Invalid URL path: "+path+" is no route of this API")
	default:
		fail(w, http.StatusNotFound, "Invalid URL path: the API is below /v1/")
	}
}
