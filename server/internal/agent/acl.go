package agent

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/rollcall/rollcall/server/internal/config"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/httpapi"
	"github.com/rollcall/rollcall/server/internal/leader"
	"github.com/rollcall/rollcall/server/internal/local"
	"github.com/rollcall/rollcall/server/internal/login"
)

// serverACLs is how this server enforces ACLs.
func (a *Agent) serverACLs(cfg *config.Config) endpoint.ACLs {
	return endpoint.ACLs{
		Enabled: cfg.ACL.Enabled, DefaultAllow: cfg.ACL.DefaultPolicy == "allow", KeyList: cfg.ACL.KeyListPolicy,
		Primary: cfg.PrimaryDC, Replicate: cfg.ACL.TokenReplication, ReplicationToken: func() string { return a.tokens.get(replicationSlot) },
		Down: endpoint.Down(cfg.ACL.DownPolicy), TokenTTL: cfg.ACL.TokenTTL,
		ResetIndex: a.resetIndex, NoBootstrap: cfg.ACL.BootstrapDisabled, Login: login.New(),
	}
}

// leaderACLs is what the leader sets up.
func leaderACLs(cfg *config.Config) leader.ACLs {
	if cfg.PrimaryDC != cfg.Datacenter { // the token comes from there
		return leader.ACLs{Enabled: cfg.ACL.Enabled}
	}
	return leader.ACLs{Enabled: cfg.ACL.Enabled, InitialManagement: cfg.ACL.Tokens.InitialManagement}
}

// newResolver finds what tokens may that come with requests about this agent.
func (a *Agent) newResolver(cfg *config.Config) *endpoint.Resolver {
	ttl := cfg.ACL.TokenTTL
	if cfg.Server { // the state is here: there is nothing to spare
		ttl = 0
	}
	return endpoint.NewResolver(endpoint.ResolverConfig{
		Enabled: cfg.ACL.Enabled, Datacenter: cfg.Datacenter, Node: cfg.NodeName,
		Recovery:     func() string { return a.tokens.get(recoverySlot) },
		DefaultAllow: cfg.ACL.DefaultPolicy == "allow", Down: endpoint.Down(cfg.ACL.DownPolicy), TTL: ttl,
	}, a.endpoint)
}

// httpACL is what the HTTP door asks about tokens.
func (a *Agent) httpACL(cfg *config.Config) httpapi.ACL {
	return httpapi.ACL{
		Enabled: cfg.ACL.Enabled, DefaultPolicy: cfg.ACL.DefaultPolicy, DownPolicy: cfg.ACL.DownPolicy,
		Resolve: a.resolver.Resolve, DefaultToken: func() string { return a.tokens.get(defaultSlot) },
		UpdateToken: func(slot, secret string) error {
			if err := a.tokens.update(slot, secret); err != nil {
				return err
			}
			a.log.Info("token updated", "slot", slot)
			a.syncer.Trigger()
			return nil
		},
	}
}

const resetFile = "acl-bootstrap-reset"

// resetIndex reads the file by which an operator allows another bootstrap, and takes it
// away: it holds for one attempt.
func (a *Agent) resetIndex() uint64 {
	dir := a.cfg().DataDir
	if dir == "" {
		return 0
	}
	path := filepath.Join(dir, resetFile)
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	var index uint64
	if err == nil {
		index, err = strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	}
	if err != nil {
		a.log.Error("the reset file of ACLs is not readable; write the reset index into it, as the refusal names it", "path", path, "err", err)
		return 0
	}
	if err := os.Remove(path); err != nil {
		a.log.Error("the reset file of ACLs stays; remove it", "path", path, "err", err)
	}
	return index
}

// serviceToken is with which token a service of this agent is written: its own, or for one
// from a file that of files, else the default one.
func (a *Agent) serviceToken(id string) string {
	secret, src := a.local.ServiceToken(id)
	return a.tokenOf(secret, src)
}

// checkToken is serviceToken of a check.
func (a *Agent) checkToken(id string) string {
	secret, src := a.local.CheckToken(id)
	return a.tokenOf(secret, src)
}

func (a *Agent) tokenOf(secret string, src local.Source) string {
	switch {
	case secret != "":
		return secret
	case src == local.FromConfig:
		return a.tokens.get(fileSlot, defaultSlot, agentSlot)
	}
	return a.tokens.get(defaultSlot, agentSlot)
}

// agentToken is with which token the agent does what is its own business.
func (a *Agent) agentToken() string { return a.tokens.get(agentSlot, defaultSlot) }
