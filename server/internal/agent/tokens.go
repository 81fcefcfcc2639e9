package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/atomicfile"
	"github.com/rollcall/rollcall/server/internal/config"
)

// slot is what a token of the agent's own is for.
type slot string

// The slots of tokens, by the names that the configuration and the API have for them.
const (
	defaultSlot     slot = "default"        // requests that bring none
	agentSlot       slot = "agent"          // what the agent does by itself
	recoverySlot    slot = "agent_recovery" // accepted by this agent alone, also while no server answers
	replicationSlot slot = "replication"
	fileSlot        slot = "config_file_service_registration" // services and checks from files
	dnsSlot         slot = "dns"
)

// slots are those that can be set, under all their names.
var slots = map[string]slot{
	"default": defaultSlot, "acl_token": defaultSlot,
	"agent": agentSlot, "acl_agent_token": agentSlot,
	"agent_recovery": recoverySlot, "agent_master": recoverySlot, "acl_agent_master_token": recoverySlot,
	"replication": replicationSlot, "acl_replication_token": replicationSlot,
	"config_file_service_registration": fileSlot, "dns": dnsSlot,
}

// tokens are the agent's own tokens. Those set over the API win over the configuration's;
// where they are kept, also after a restart.
type tokens struct {
	path string // "" keeps none

	mu   sync.Mutex
	conf map[slot]string // guarded by mu; from the configuration
	set  map[slot]string // guarded by mu; over the API

	inUse atomic.Pointer[map[slot]string] // set over conf
}

const tokensFile = "acl-tokens.json"

// openTokens reads what was kept, if the configuration wants that.
func openTokens(cfg *config.Config) (*tokens, error) {
	t := &tokens{set: map[slot]string{}}
	t.configure(cfg)
	if !cfg.ACL.TokenPersistence || cfg.DataDir == "" {
		return t, nil
	}
	t.path = filepath.Join(cfg.DataDir, tokensFile)
	b, err := os.ReadFile(t.path)
	if errors.Is(err, fs.ErrNotExist) {
		return t, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the tokens that were kept: %w", err)
	}
	kept := map[string]string{}
	if err := json.Unmarshal(b, &kept); err != nil {
		return nil, fmt.Errorf("%s is not readable; mend it, or remove it and set the tokens again: %w", t.path, err)
	}
	for name, secret := range kept {
		if s, ok := slots[name]; ok {
			t.set[s] = secret
		}
	}
	t.use()
	return t, nil
}

// configure takes over the configuration's tokens.
func (t *tokens) configure(cfg *config.Config) {
	c := &cfg.ACL.Tokens
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conf = map[slot]string{
		defaultSlot: c.Default, agentSlot: c.Agent, recoverySlot: c.AgentRecovery, replicationSlot: c.Replication,
		fileSlot: c.FileRegistration, dnsSlot: c.DNS,
	}
	t.use()
}

// use puts in use what is set. Called with mu held.
func (t *tokens) use() {
	now := maps.Clone(t.conf)
	maps.Copy(now, t.set)
	t.inUse.Store(&now)
}

// get gives the token of the first of slots that has one, "" if none has.
func (t *tokens) get(of ...slot) string {
	now := *t.inUse.Load()
	for _, s := range of {
		if now[s] != "" {
			return now[s]
		}
	}
	return ""
}

// update sets a slot, by any of its names; it is on disk first, where tokens are kept.
func (t *tokens) update(name, secret string) error {
	s, ok := slots[name]
	if !ok {
		return api.Errorf(api.NotFound, "Token %q is unknown: there are default, agent, agent_recovery, replication, config_file_service_registration and dns", name)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	next := map[slot]string{}
	for k, v := range t.set {
		next[k] = v
	}
	next[s] = secret
	if err := t.save(next); err != nil {
		return err
	}
	t.set = next
	t.use()
	return nil
}

// save is called with mu held.
func (t *tokens) save(set map[slot]string) error {
	if t.path == "" {
		return nil
	}
	out := map[slot]string{}
	for k, v := range set {
		if v != "" {
			out[k] = v
		}
	}
	b, err := json.Marshal(out)
	if err != nil {
		return fmt.Errorf("encode tokens: %w", err)
	}
	if err := atomicfile.Write(t.path, b, 0o600); err != nil {
		return fmt.Errorf("keep tokens: %w", err)
	}
	return nil
}
