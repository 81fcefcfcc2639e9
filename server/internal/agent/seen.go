package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/rollcall/rollcall/internal/atomicfile"
)

// seenEvery is how often a server notes that it runs.
const seenEvery = time.Hour

// lastSeen keeps in server_metadata.json when a server last ran, as Consul does: one that
// was away for very long has a log that nobody else remembers.
type lastSeen struct {
	dir string // "" keeps nothing
	log *slog.Logger
}

type serverMetadata struct {
	LastSeenUnix int64 `json:"last_seen_unix"`
}

func (l lastSeen) path() string { return filepath.Join(l.dir, "server_metadata.json") }

// check refuses the start of a server that has been away for longer than most.
func (l lastSeen) check(most time.Duration) error {
	if l.dir == "" {
		return nil
	}
	b, err := os.ReadFile(l.path())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var m serverMetadata
	if err == nil {
		err = json.Unmarshal(b, &m)
	}
	if err != nil {
		return fmt.Errorf("when this server last ran cannot be read from %s: %w: remove the file if the data directory is to be used", l.path(), err)
	}
	seen := time.Unix(m.LastSeenUnix, 0)
	if away := time.Since(seen); away > most {
		return fmt.Errorf("this server last ran at %s, longer ago than server_rejoin_age_max (%s): what it knows is old. Start it with an empty data_dir (it fetches everything from the others); to use this one, remove %s",
			seen.UTC().Format(time.RFC3339), most, l.path())
	}
	return nil
}

// keep notes that the server runs, now and every hour, until ctx ends.
func (l lastSeen) keep(ctx context.Context) error {
	tick := time.NewTicker(seenEvery)
	defer tick.Stop()
	for {
		if err := l.note(time.Now()); err != nil {
			l.log.Warn("not noted that this server runs", "err", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

func (l lastSeen) note(at time.Time) error {
	if l.dir == "" {
		return nil
	}
	b, err := json.Marshal(serverMetadata{at.Unix()})
	if err != nil {
		return err
	}
	return atomicfile.Write(l.path(), b, 0o600)
}
