package agent

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/server/internal/certificate"
	"github.com/rollcall/rollcall/server/internal/checks"
	"github.com/rollcall/rollcall/server/internal/config"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/local"
)

// newRunner makes what runs this agent's checks.
func (a *Agent) newRunner() *checks.Runner {
	cfg := a.cfg()
	return checks.New(checks.Config{
		Node: cfg.NodeName, MaxOutput: cfg.OutputMaxSize, TLS: a.checkTLS.Load, Docker: new(engine), Catalog: catalog{a.endpoint, a, cfg.Datacenter, new(highest)}, Log: a.log,
	}, source{a.local, a.local.Feed(), a.cfg})
}

// readCheckTLS reads what checks use over TLS where they show the agent's certificate,
// nil where they do not.
func readCheckTLS(cfg *config.Config) (*tls.Config, error) {
	if !cfg.AgentTLSForChecks {
		return nil, nil
	}
	t := cfg.TLS.InternalRPC
	c, err := certificate.Client(certificate.Config{
		CertFile: t.CertFile, KeyFile: t.KeyFile, CAFile: t.CAFile, CAPath: t.CAPath, MinVersion: t.MinVersion, CipherSuites: t.CipherSuites,
	})
	if err != nil {
		return nil, fmt.Errorf("enable_agent_tls_for_checks: %w", err)
	}
	return c, nil
}

// source is the local state as the checks see it.
type source struct {
	*local.State
	feed *local.Feed
	cfg  func() *config.Config
}

// Wake gives the channel that holds a token when there are changes.
func (s source) Wake() <-chan struct{} { return s.feed.Wake() }

// Take gives what changed.
func (s source) Take() checks.Changes {
	news := s.feed.Take()
	out := checks.Changes{Checks: make(map[string]*checks.Wanted, len(news.Definitions))}
	for id := range news.Definitions {
		out.Checks[id] = nil
		if r, ok := s.Runnable(id); ok {
			// a script that was allowed when it was registered may not be now
			out.Checks[id] = &checks.Wanted{Def: r.Def, Status: r.Status, Refused: allowed(s.cfg(), r.Def, r.Source)}
		}
	}
	for id := range news.Health {
		out.Health = append(out.Health, id)
	}
	return out
}

// Report takes a check's result.
func (s source) Report(id, status, output string) { s.UpdateCheck(id, status, output) }

// allowed refuses commands that this agent may not run.
func allowed(cfg *config.Config, c *api.CheckDefinition, src local.Source) error {
	kind := c.Kind()
	switch {
	case kind != "script" && kind != "docker", cfg.EnableScripts, cfg.EnableLocalScripts && src == local.FromConfig:
		return nil
	case src == local.FromAPI:
		return api.Errorf(api.Internal, "Scripts are disabled on this agent from remote calls; to enable, configure 'enable_script_checks' to true")
	}
	return api.Errorf(api.Internal, "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or 'enable_local_script_checks' to true")
}

// aliasWait is how long an alias check's read blocks for news of its node.
const aliasWait = time.Minute

// NodeChecks blocks until a node's checks are newer than index.
func (c catalog) NodeChecks(ctx context.Context, node string, index uint64) ([]*api.Check, uint64, error) {
	q := &endpoint.Query{Kind: endpoint.HealthNode, Name: node, QueryOptions: api.QueryOptions{
		Datacenter: c.dc, Token: c.agent.agentToken(), Consistency: api.Stale, MinIndex: index, MaxWait: aliasWait,
	}}
	ans, err := c.Read(ctx, q)
	if err != nil {
		return nil, 0, err
	}
	all, err := endpoint.Into[[]*api.Check](ans)
	return all, ans.Meta.Index, err
}

// NodeService reports whether a node has a service of that id.
func (c catalog) NodeService(ctx context.Context, node, service string) (bool, error) {
	_, services, _, err := c.Registered(ctx, node)
	return services[service] != nil, err
}

// engine is this host's Docker engine, looked for when the first check needs it.
type engine struct {
	once   sync.Once
	client *docker.Client
	err    error
}

// Exec runs a command inside a container.
func (e *engine) Exec(ctx context.Context, id string, cmd []string, out io.Writer) (int, error) {
	e.once.Do(func() { e.client, e.err = docker.New(docker.Options{}) })
	if e.err != nil {
		return 0, e.err
	}
	return e.client.Exec(ctx, id, cmd, out)
}
