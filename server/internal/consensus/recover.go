package consensus

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/internal/api"
)

// peersFile lies in the folder raft of a data directory where an operator wants the log to
// begin anew with the servers that it lists; Consul's name and form.
const peersFile = "peers.json"

// Past is what the log of a server that does not run says.
type Past struct {
	Servers     []*api.RaftServer // ID, Address and Voter
	Index, Term uint64            // of the last entry
}

// offline opens the log below dir for f, which nobody else may have open meanwhile.
func offline(dir string, log *slog.Logger, f func(*stores, *raft.Config, raft.Transport) error) error {
	if _, err := os.Stat(filepath.Join(dir, "raft")); err != nil {
		return fmt.Errorf("%s holds no server's log: %w", dir, err)
	}
	adapter := newHCLogger(log.With("room", "consensus"))
	s, err := openStores(dir, adapter)
	if err != nil {
		return err
	}
	_, trans := raft.NewInmemTransport("")
	c := raftConfig(Config{ID: "nobody"}, adapter)
	c.NoSnapshotRestoreOnStart = true
	return errors.Join(f(s, c, trans), s.close())
}

// Look reads what the log below the data directory dir says. Its server must not run:
// ErrLocked.
func Look(dir string, log *slog.Logger) (*Past, error) {
	var p Past
	err := offline(dir, log, func(s *stores, c *raft.Config, trans raft.Transport) error {
		conf, err := raft.GetConfiguration(c, nil, s.logs, s.stable, s.snaps, trans)
		if err != nil {
			return err
		}
		for _, x := range conf.Servers {
			p.Servers = append(p.Servers, &api.RaftServer{ID: string(x.ID), Address: string(x.Address), Voter: x.Suffrage == raft.Voter})
		}
		snaps, err := s.snaps.List()
		if err != nil {
			return err
		}
		if len(snaps) > 0 {
			p.Index, p.Term = snaps[0].Index, snaps[0].Term
		}
		last, err := s.logs.LastIndex()
		if err != nil || last <= p.Index {
			return err
		}
		var entry raft.Log
		if err := s.logs.GetLog(last, &entry); err != nil {
			return err
		}
		p.Index, p.Term = entry.Index, entry.Term
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the log in %s: %w", dir, err)
	}
	return &p, nil
}

// Recover has the log below the data directory dir, whose server must not run, go on with
// these servers alone, as if they had always been all: for when a majority is lost for
// good. Every entry counts as committed. fsm is an empty state machine, only used for this.
// What was there before stays in a folder that it gives.
func Recover(dir string, servers []Server, fsm raft.FSM, log *slog.Logger) (kept string, err error) {
	var conf raft.Configuration
	for _, s := range servers {
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Addr)})
	}
	err = offline(dir, log, func(s *stores, c *raft.Config, trans raft.Transport) error {
		kept, err = recoverIn(dir, conf, fsm, s, c, trans)
		return err
	})
	return kept, err
}

func recoverIn(dir string, conf raft.Configuration, fsm raft.FSM, s *stores, c *raft.Config, trans raft.Transport) (kept string, err error) {
	switch has, err := raft.HasExistingState(s.logs, s.stable, s.snaps); {
	case err != nil:
		return "", err
	case !has:
		return "", errors.New("there is no log that could go on: a new cluster begins by -bootstrap-expect")
	}
	kept = filepath.Join(dir, "raft.before-"+time.Now().UTC().Format("20060102T150405.000"))
	if err := os.Mkdir(kept, 0o700); err != nil {
		return "", fmt.Errorf("keep a copy of the log: %w", err)
	}
	if err := os.CopyFS(kept, os.DirFS(filepath.Join(dir, "raft"))); err != nil {
		return "", fmt.Errorf("keep a copy of the log: %w", err)
	}
	if err := raft.RecoverCluster(c, fsm, s.logs, s.stable, s.snaps, trans, conf); err != nil {
		return kept, fmt.Errorf("recover the log in %s: %w", dir, err)
	}
	return kept, nil
}

// recoverByFile does so where an operator has left a peers.json, and takes the file away.
func recoverByFile(cfg Config, fsm raft.FSM, s *stores, c *raft.Config) error {
	path := filepath.Join(cfg.Dir, "raft", peersFile)
	if _, err := os.Stat(path); cfg.Dir == "" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	conf, err := raft.ReadConfigJSON(path)
	if err != nil {
		return fmt.Errorf(`%s: %w: give [{"id": "…", "address": "host:port"}, …], or remove the file`, path, err)
	}
	_, trans := raft.NewInmemTransport("")
	kept, err := recoverIn(cfg.Dir, conf, fsm, s, c, trans)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("recovered, and would be again at the next start: %w", err)
	}
	cfg.Log.Warn("the log goes on with the servers of "+peersFile, "servers", len(conf.Servers), "before", kept)
	return nil
}
