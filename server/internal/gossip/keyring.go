package gossip

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"

	"github.com/rollcall/rollcall/internal/api"
)

// KeyOp is what is done about the keys that gossip is encrypted with.
type KeyOp string

// The operations on keys.
const (
	ListKeys   KeyOp = "list"
	InstallKey KeyOp = "install" // everybody reads with it from now on
	UseKey     KeyOp = "use"     // everybody writes with it from now on; it must be installed
	RemoveKey  KeyOp = "remove"  // it must not be in use
)

// maxKeyring bounds a keyring file, in bytes.
const maxKeyring = 1 << 20

// keyring gives the keys to begin with, the one in use first; nil without encryption. A
// file beats the key of the configuration, since the others may have changed keys while
// this agent was away. A key without a file makes one.
func (c *Config) keyring() (*memberlist.Keyring, error) {
	keys := [][]byte{c.Key}
	if len(c.Key) == 0 {
		keys = nil
	}
	if c.Keyring != "" {
		found, err := readKeyring(c.Keyring)
		switch {
		case err == nil:
			keys = found
		case !errors.Is(err, fs.ErrNotExist):
			return nil, fmt.Errorf("keyring file %s: %w; mend it, or remove it to begin anew with `encrypt`", c.Keyring, err)
		case keys != nil:
			if err := writeKeyring(c.Keyring, c.Key); err != nil {
				return nil, fmt.Errorf("keyring file: %w", err)
			}
		}
	}
	if len(keys) == 0 {
		return nil, nil
	}
	return memberlist.NewKeyring(keys, keys[0])
}

func readKeyring(file string) ([][]byte, error) {
	st, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if st.Size() > maxKeyring {
		return nil, fmt.Errorf("it has %d bytes", st.Size())
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var texts []string
	if err := json.Unmarshal(b, &texts); err != nil {
		return nil, errors.New("it is not a JSON list of keys in base64")
	}
	if len(texts) == 0 {
		return nil, errors.New("it has no keys")
	}
	keys := make([][]byte, 0, len(texts))
	for i, t := range texts {
		key, err := base64.StdEncoding.DecodeString(t)
		if err != nil || memberlist.ValidateKey(key) != nil { // the key itself is not to be told
			return nil, fmt.Errorf("key %d is not the base64 of 16, 24 or 32 bytes", i+1)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func writeKeyring(file string, key []byte) error {
	b, err := json.Marshal([]string{base64.StdEncoding.EncodeToString(key)})
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	return os.WriteFile(file, b, 0o600)
}

// Keys asks all members to do op with a key (base64; "" to list), and gathers what they
// say. Members that are down are not asked, and those that did not do it are in the
// error. relay is through how many others each answer is sent as well, 0 to 5.
func (p *Pool) Keys(op KeyOp, key string, relay uint8) (*api.KeyringAnswer, error) {
	if !p.serf.EncryptionEnabled() {
		return nil, api.Errorf(api.Internal, "%s error: Keyring is empty (encryption not enabled)", p.where())
	}
	if op != ListKeys {
		raw, err := base64.StdEncoding.DecodeString(key)
		if err != nil {
			return nil, api.Errorf(api.Internal, "the key is not base64: %v", err)
		}
		if err := memberlist.ValidateKey(raw); err != nil {
			return nil, api.Errorf(api.Internal, "%v", err)
		}
	}
	manager, o := p.serf.KeyManager(), &serf.KeyRequestOptions{RelayFactor: relay}
	var r *serf.KeyResponse
	var err error
	switch op {
	case ListKeys:
		r, err = manager.ListKeysWithOptions(o)
	case InstallKey:
		r, err = manager.InstallKeyWithOptions(key, o)
	case UseKey:
		r, err = manager.UseKeyWithOptions(key, o)
	case RemoveKey:
		r, err = manager.RemoveKeyWithOptions(key, o)
	default:
		return nil, api.Errorf(api.Invalid, "unknown keyring operation %q", op)
	}
	if err != nil {
		text := fmt.Sprintf("%s error: %v", p.where(), err)
		if r != nil {
			for _, node := range slices.Sorted(maps.Keys(r.Messages)) {
				text += fmt.Sprintf("; %s: %s", node, strings.TrimSpace(r.Messages[node]))
			}
		}
		return nil, api.Errorf(api.Internal, "%s", text)
	}
	return &api.KeyringAnswer{
		WAN: p.cfg.WAN, Datacenter: p.cfg.Datacenter, Messages: r.Messages, Keys: r.Keys, PrimaryKeys: r.PrimaryKeys, NumNodes: r.NumNodes,
	}, nil
}

// where names the pool to an operator of several datacenters.
func (p *Pool) where() string { return p.cfg.Datacenter + " (" + p.cfg.label() + ")" }
