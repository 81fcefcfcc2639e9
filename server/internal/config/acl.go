package config

import (
	"fmt"
	"time"
)

// Access is who may do what: the present keys, and those of before 1.4, which settle
// folds into ACL.
type Access struct {
	ACL ACL `config:"acl"`

	LegacyDatacenter       string        `config:"acl_datacenter"` // names the primary, and turns ACLs on
	LegacyDefaultPolicy    string        `config:"acl_default_policy"`
	LegacyDownPolicy       string        `config:"acl_down_policy"`
	LegacyTTL              time.Duration `config:"acl_ttl"`
	LegacyToken            string        `config:"acl_token"`
	LegacyMasterToken      string        `config:"acl_master_token"`
	LegacyAgentToken       string        `config:"acl_agent_token"`
	LegacyAgentMasterToken string        `config:"acl_agent_master_token"`
	LegacyReplicationToken string        `config:"acl_replication_token"`
	LegacyReplication      bool          `config:"enable_acl_replication"`
	LegacyKeyList          bool          `config:"acl_enable_key_list_policy"`
}

// ACL is access control.
type ACL struct {
	Enabled           bool          `config:"enabled"`
	DefaultPolicy     string        `config:"default_policy"` // allow (default) or deny
	DownPolicy        string        `config:"down_policy"`    // extend-cache (default), allow, deny or async-cache
	TokenTTL          time.Duration `config:"token_ttl"`      // default 30s
	PolicyTTL         time.Duration `config:"policy_ttl"`     // default 30s
	RoleTTL           time.Duration `config:"role_ttl"`       // default: PolicyTTL
	TokenReplication  bool          `config:"enable_token_replication"`
	TokenPersistence  bool          `config:"enable_token_persistence"` // tokens set over HTTP outlive a restart
	KeyListPolicy     bool          `config:"enable_key_list_policy"`   // listing keys needs the right to list
	Tokens            Tokens        `config:"tokens"`
	BootstrapDisabled bool          `config:"msp_disable_bootstrap"`
}

// Tokens are the secrets this agent uses. They are never logged nor shown.
type Tokens struct {
	InitialManagement string `config:"initial_management,master"` // servers: made at the first start
	Agent             string `config:"agent"`                     // for what the agent does itself
	AgentRecovery     string `config:"agent_recovery,agent_master"`
	Default           string `config:"default"` // for requests without one
	Replication       string `config:"replication"`
	DNS               string `config:"dns"`
	FileRegistration  string `config:"config_file_service_registration"` // for services and checks from files
}

func defaultACL() ACL {
	return ACL{DefaultPolicy: "allow", DownPolicy: "extend-cache", TokenTTL: 30 * time.Second, PolicyTTL: 30 * time.Second}
}

// settle folds the old keys in. An old key counts only where the new one is not given.
func (a *Access) settle(c *Config) {
	acl, d := &a.ACL, defaultACL()
	if a.LegacyDatacenter != "" {
		acl.Enabled = true
		first(&c.PrimaryDC, a.LegacyDatacenter)
	}
	instead(&acl.DefaultPolicy, d.DefaultPolicy, a.LegacyDefaultPolicy)
	instead(&acl.DownPolicy, d.DownPolicy, a.LegacyDownPolicy)
	instead(&acl.TokenTTL, d.TokenTTL, a.LegacyTTL)
	first(&acl.Tokens.Default, a.LegacyToken)
	first(&acl.Tokens.InitialManagement, a.LegacyMasterToken)
	first(&acl.Tokens.Agent, a.LegacyAgentToken)
	first(&acl.Tokens.AgentRecovery, a.LegacyAgentMasterToken)
	first(&acl.Tokens.Replication, a.LegacyReplicationToken)
	acl.TokenReplication = acl.TokenReplication || a.LegacyReplication
	acl.KeyListPolicy = acl.KeyListPolicy || a.LegacyKeyList
	first(&acl.RoleTTL, acl.PolicyTTL)
	*a = Access{ACL: *acl}
}

func (a *ACL) faults(fault func(bool, string, ...any)) {
	switch a.DefaultPolicy {
	case "allow", "deny":
	default:
		fault(true, "acl.default_policy %q: give allow or deny", a.DefaultPolicy)
	}
	switch a.DownPolicy {
	case "allow", "deny", "extend-cache", "async-cache":
	default:
		fault(true, "acl.down_policy %q: give extend-cache, async-cache, allow or deny", a.DownPolicy)
	}
	for key, d := range map[string]time.Duration{"token_ttl": a.TokenTTL, "policy_ttl": a.PolicyTTL, "role_ttl": a.RoleTTL} {
		fault(d < 0, "acl.%s = %s: give a time of 0 or more", key, d)
	}
}

// String keeps the secrets out of whatever prints a configuration.
func (t Tokens) String() string {
	return fmt.Sprintf("%d tokens", len(t.set()))
}

// GoString does the same for %#v.
func (t Tokens) GoString() string { return t.String() }

// set gives the names of the slots that hold a token.
func (t Tokens) set() []string {
	var out []string
	for name, secret := range map[string]string{
		"initial_management": t.InitialManagement, "agent": t.Agent, "agent_recovery": t.AgentRecovery, "default": t.Default,
		"replication": t.Replication, "dns": t.DNS, "config_file_service_registration": t.FileRegistration,
	} {
		if secret != "" {
			out = append(out, name)
		}
	}
	return out
}
