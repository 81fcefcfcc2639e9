package checks

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// An alias check mirrors the health of something else: of a service of this agent, told
// by its changes; or of a node, or a service on a node, read from the catalog.

// follow begins an alias check.
func (r *Runner) follow(e *entry) {
	def := e.want.Def
	if def.AliasNode != "" {
		r.group.Go(func() { r.followNode(e) })
		return
	}
	if r.aliases[def.AliasService] == nil {
		r.aliases[def.AliasService] = map[*entry]bool{}
	}
	r.aliases[def.AliasService][e] = true
	r.mirror(e)
}

// unfollow ends a local alias check.
func (r *Runner) unfollow(e *entry) {
	service := e.want.Def.AliasService
	delete(r.aliases[service], e)
	if len(r.aliases[service]) == 0 {
		delete(r.aliases, service)
	}
}

// followers brings the local aliases of services up to date. What bears on the node
// bears on all.
func (r *Runner) followers(services []string) {
	for _, id := range services {
		if id == "" {
			for _, set := range r.aliases {
				r.mirrorAll(set)
			}
			return
		}
	}
	for _, id := range services {
		r.mirrorAll(r.aliases[id])
	}
}

func (r *Runner) mirrorAll(set map[*entry]bool) {
	for e := range set {
		r.mirror(e)
	}
}

// mirror gives a local alias the health that its service has now.
func (r *Runner) mirror(e *entry) {
	all, known := r.src.ServiceChecks(e.want.Def.AliasService)
	count := make([]*api.Check, 0, len(all))
	for _, c := range all {
		if !r.reflects(c.CheckID, e) {
			count = append(count, c)
		}
	}
	status, output := r.worst(count, e.id)
	if !known {
		status, output = api.Critical, fmt.Sprintf("Service %s could not be found on this agent", e.want.Def.AliasService)
	}
	r.report(e, status, output)
}

// reflects reports whether a check is an alias of the very service that e belongs to: two
// that look at each other would hold what one of them saw for ever.
func (r *Runner) reflects(id string, e *entry) bool {
	other := r.entries[id]
	return other != nil && e.want.Def.ServiceID != "" && other.want.Def.Kind() == "alias" && other.want.Def.AliasService == e.want.Def.ServiceID
}

// followNode mirrors the health that the catalog has of a node, until the check ends.
func (r *Runner) followNode(e *entry) {
	def := e.want.Def
	var index uint64
	for e.ctx.Err() == nil {
		status, output, next, err := r.readNode(e, index)
		if err != nil {
			status, output, next = api.Critical, fmt.Sprintf("Failure checking alias of node %s: %v", def.AliasNode, err), 0
		}
		if next < index {
			next = 0 // the catalog was restored: begin anew
		}
		select {
		case r.results <- result{e, status, output}:
		case <-e.ctx.Done():
			return
		}
		index = next
		if index > 0 {
			continue
		}
		select {
		case <-time.After(aliasRetry + rand.N(aliasRetry)):
		case <-e.ctx.Done():
			return
		}
	}
}

// aliasRetry is about how long an alias waits after a read that failed.
const aliasRetry = 5 * time.Second

func (r *Runner) readNode(e *entry, index uint64) (status, output string, next uint64, err error) {
	def := e.want.Def
	checks, next, err := r.cfg.Catalog.NodeChecks(e.ctx, def.AliasNode, index)
	if err != nil {
		return "", "", 0, err
	}
	mine := checks[:0:0]
	found := def.AliasService == "" && len(checks) > 0
	for _, c := range checks {
		if c.ServiceID == "" || c.ServiceID == def.AliasService {
			mine = append(mine, c)
			found = found || c.ServiceID != ""
		}
	}
	if !found && def.AliasService != "" {
		if found, err = r.cfg.Catalog.NodeService(e.ctx, def.AliasNode, def.AliasService); err != nil {
			return "", "", 0, err
		}
	}
	switch {
	case found:
		status, output = r.worst(mine, e.id)
	case def.AliasService != "":
		status, output = api.Critical, fmt.Sprintf("Service %s could not be found on node %s", def.AliasService, def.AliasNode)
	default:
		status, output = api.Critical, fmt.Sprintf("Node %s has no checks; is there such a node?", def.AliasNode)
	}
	return status, output, next, nil
}

// worst is the worst of some checks, and says which it is. The alias itself does not
// count, nor do other aliases of the node: they bear on every service, and would follow
// one another.
func (r *Runner) worst(all []*api.Check, self string) (status, output string) {
	status, output = api.Passing, "No checks found."
	for _, c := range all {
		switch {
		case c.CheckID == self && c.Node == r.cfg.Node, c.Type == "alias" && c.ServiceID == "":
			continue
		case c.Status == api.Critical:
			return api.Critical, fmt.Sprintf("Aliased check %q failing: %s", c.Name, c.Output)
		case c.Status == api.Warning && status == api.Passing:
			status, output = api.Warning, fmt.Sprintf("Aliased check %q failing: %s", c.Name, c.Output)
		case status == api.Passing:
			output = "All checks passing."
		}
	}
	return status, output
}
