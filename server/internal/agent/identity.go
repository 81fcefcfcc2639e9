package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/rollcall/rollcall/internal/atomicfile"
	"github.com/rollcall/rollcall/server/internal/config"
)

// prepareDir makes the data directory and proves that it can be written.
func prepareDir(dir string) error {
	if dir == "" {
		return nil
	}
	advice := "give another with -data-dir, or make it writable for this user"
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("data_dir %s cannot be made: %w: %s", dir, err, advice)
	}
	probe, err := os.CreateTemp(dir, ".probe*")
	if err != nil {
		return fmt.Errorf("data_dir %s is not writable: %w: %s", dir, err, advice)
	}
	return errors.Join(probe.Close(), os.Remove(probe.Name()))
}

// nodeID gives the configured id, or the one made at the first start and kept.
func nodeID(cfg *config.Config) (string, error) {
	if cfg.NodeID != "" {
		id, err := uuid.Parse(cfg.NodeID)
		if err != nil {
			return "", fmt.Errorf("node_id %q: give a UUID: %w", cfg.NodeID, err)
		}
		return id.String(), writeID(cfg, id.String())
	}
	if cfg.DataDir == "" {
		return uuid.NewString(), nil
	}
	path := filepath.Join(cfg.DataDir, "node-id")
	b, err := os.ReadFile(path)
	if err == nil {
		id, err := uuid.Parse(strings.TrimSpace(string(b)))
		if err != nil {
			return "", fmt.Errorf("%s does not hold a UUID: %w: remove it to have a new id made", path, err)
		}
		return id.String(), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("read node id: %w", err)
	}
	id := uuid.NewString()
	return id, writeID(cfg, id)
}

func writeID(cfg *config.Config, id string) error {
	if cfg.DataDir == "" {
		return nil
	}
	if err := atomicfile.Write(filepath.Join(cfg.DataDir, "node-id"), []byte(id), 0o600); err != nil {
		return fmt.Errorf("write node id: %w", err)
	}
	return nil
}
