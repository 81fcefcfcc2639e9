package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"

	"github.com/rollcall/rollcall/server/internal/archive"
	"github.com/rollcall/rollcall/server/internal/fsm"
	"github.com/rollcall/rollcall/server/internal/store"
)

func (a *app) snapshot() *cli.Command {
	return &cli.Command{
		Name: "snapshot", Usage: "save the servers' state, restore it, look into a file",
		Commands: []*cli.Command{
			asking("save", "save the state to a file", "FILE", "rollcall snapshot save backup.snap", catalogFlags(
				&cli.StringFlag{Name: "append-filename", Usage: "add to the file's name: version, dc, node, status, separated by commas"},
			), a.snapshotSave),
			asking("restore", "replace the servers' state by a file's", "FILE", "rollcall snapshot restore backup.snap", catalogFlags(), a.snapshotRestore),
			a.snapshotInspect(),
		},
	}
}

// snapshotSave writes beside the file, verifies, and then gives it its name: a file that
// is there is whole.
func (a *app) snapshotSave(ctx context.Context, c *cli.Command, cl *consul.Client) error {
	name, err := one(c, "FILE")
	if err != nil {
		return err
	}
	if extra := c.String("append-filename"); extra != "" {
		if name, err = appended(name, extra, cl); err != nil {
			return err
		}
	}
	if err := replaceable(name); err != nil {
		return fmt.Errorf("Error saving snapshot: %w", err)
	}
	from, meta, err := cl.Snapshot().Save(options(c).WithContext(ctx))
	if err != nil {
		return explain("saving snapshot", err)
	}
	defer from.Close()
	file, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+"-")
	if err != nil {
		return fmt.Errorf("Error saving snapshot: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	show := a.progress("saving", 0, bytesOf)
	_, err = io.Copy(io.MultiWriter(file, show), from)
	show.end()
	if err == nil {
		err = file.Sync()
	}
	if err != nil {
		return fmt.Errorf("Error saving snapshot: %w", err)
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if _, err := archive.Read(file, io.Discard); err != nil {
		return fmt.Errorf("Error verifying snapshot: %w: nothing was written to %s", err, name)
	}
	if err := os.Rename(file.Name(), name); err != nil {
		return fmt.Errorf("Error saving snapshot: %w", err)
	}
	a.printf("Saved and verified snapshot to index %d\n", meta.LastIndex)
	return nil
}

// appended adds to a file's name what tells snapshots apart.
func appended(name, extra string, cl *consul.Client) (string, error) {
	self, err := cl.Agent().Self()
	if err != nil {
		return "", explain("querying agent", err)
	}
	ext := filepath.Ext(name)
	base := strings.TrimSuffix(name, ext)
	for what := range strings.SplitSeq(extra, ",") {
		part := ""
		switch what {
		case "version":
			part = fmt.Sprint(self["Config"]["Version"])
		case "dc":
			part = fmt.Sprint(self["Config"]["Datacenter"])
		case "node":
			part = fmt.Sprint(self["Config"]["NodeName"])
		case "status":
			part = "follower"
			if s, ok := self["Stats"]["consul"].(map[string]any); ok && s["leader"] == "true" {
				part = "leader"
			}
		default:
			return "", fmt.Errorf("-append-filename: %q: use version, dc, node or status", what)
		}
		base += "-" + part
	}
	return base + ext, nil
}

func (a *app) snapshotRestore(ctx context.Context, c *cli.Command, cl *consul.Client) error {
	name, err := one(c, "FILE")
	if err != nil {
		return err
	}
	file, err := os.Open(name)
	if err != nil {
		return fmt.Errorf("Error opening snapshot file: %w", err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	show := a.progress("restoring", info.Size(), bytesOf)
	err = cl.Snapshot().Restore(writeOptionsIn(c).WithContext(ctx), io.TeeReader(file, show))
	show.end()
	if err != nil {
		return explain("restoring snapshot", err)
	}
	a.printf("Restored snapshot\n")
	return nil
}

func writeOptionsIn(c *cli.Command) *consul.WriteOptions {
	return &consul.WriteOptions{Datacenter: c.String("datacenter")}
}

func (a *app) snapshotInspect() *cli.Command {
	return &cli.Command{
		Name: "inspect", Usage: "say what a snapshot file holds", ArgsUsage: "FILE", UsageText: "rollcall snapshot inspect -kvdetails backup.snap",
		Flags: []cli.Flag{
			format(),
			&cli.BoolFlag{Name: "kvdetails", Usage: "also the keys, gathered by prefix"},
			&cli.IntFlag{Name: "kvdepth", Usage: "how many parts of a key make a prefix", Value: 2},
			&cli.StringFlag{Name: "kvfilter", Usage: "only keys that begin with this"},
		},
		Action: func(_ context.Context, c *cli.Command) error {
			name, err := one(c, "FILE")
			if err != nil {
				return err
			}
			got, err := inspect(name, c.Int("kvdepth"), c.String("kvfilter"))
			if err != nil {
				return fmt.Errorf("Error verifying snapshot: %w", err)
			}
			if !c.Bool("kvdetails") {
				got.KV = nil
			}
			if c.String("format") == "json" {
				return a.json(got)
			}
			m := got.Meta
			a.table([]string{"ID", m.ID}, []string{"Size", fmt.Sprint(m.Size)}, []string{"Index", fmt.Sprint(m.Index)},
				[]string{"Term", fmt.Sprint(m.Term)}, []string{"Version", fmt.Sprint(m.Version)})
			a.printf("\n")
			a.tallies("Type", got.Types)
			if got.KV != nil {
				a.printf("\n")
				a.tallies("Key Name", got.KV)
			}
			return nil
		},
	}
}

// inspected is what a snapshot holds.
type inspected struct {
	Meta  archive.Meta
	Types []tally
	KV    []tally `json:",omitempty"`
}

type tally struct {
	Name  string
	Count int
	Size  int // bytes
}

func inspect(name string, depth int, filter string) (*inspected, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	types, keys := map[string]*tally{}, map[string]*tally{}
	count := func(in map[string]*tally, name string, size int) {
		t := in[name]
		if t == nil {
			t = &tally{Name: name}
			in[name] = t
		}
		t.Count++
		t.Size += size
	}
	pipe, w := io.Pipe()
	defer pipe.Close()
	var meta *archive.Meta
	read := make(chan error, 1)
	go func() {
		var err error
		meta, err = archive.Read(file, w)
		w.CloseWithError(err)
		read <- err
	}()
	err = fsm.Tally(pipe, func(r *store.Record, size int) {
		count(types, kindOf(r), size)
		if r.Pair != nil && strings.HasPrefix(r.Pair.Key, filter) {
			count(keys, prefixOf(r.Pair.Key, depth), size)
		}
	})
	if err == nil {
		_, err = io.Copy(io.Discard, pipe)
	} else {
		pipe.CloseWithError(err)
	}
	if failed := <-read; failed != nil && (err == nil || errors.Is(failed, archive.ErrArchive)) {
		err = failed
	}
	if err != nil {
		return nil, err
	}
	return &inspected{*meta, sorted(types), sorted(keys)}, nil
}

// kindOf names the one field of a record that is set.
func kindOf(r *store.Record) string {
	v := reflect.ValueOf(*r)
	for i := range v.NumField() {
		if !v.Field(i).IsNil() {
			if r.ACL != nil {
				inner := reflect.ValueOf(*r.ACL)
				for k := range inner.NumField() {
					if f := inner.Field(k); f.Kind() == reflect.Pointer && !f.IsNil() {
						return "ACL" + inner.Type().Field(k).Name
					}
				}
			}
			return v.Type().Field(i).Name
		}
	}
	return "Unknown"
}

// prefixOf gives the first parts of a key.
func prefixOf(key string, depth int) string {
	parts := strings.SplitAfterN(key, "/", depth+1)
	if len(parts) > depth {
		parts = parts[:depth]
	}
	return strings.TrimSuffix(strings.Join(parts, ""), "/")
}

func sorted(in map[string]*tally) []tally {
	out := []tally{}
	for _, t := range in {
		out = append(out, *t)
	}
	slices.SortFunc(out, func(x, y tally) int {
		return cmp.Or(cmp.Compare(y.Size, x.Size), strings.Compare(x.Name, y.Name))
	})
	return out
}

func (a *app) tallies(what string, list []tally) {
	rows := [][]string{{what, "Count", "Size"}, {"----", "----", "----"}}
	total := 0
	for _, t := range list {
		rows = append(rows, []string{t.Name, fmt.Sprint(t.Count), bytesOf(int64(t.Size))})
		total += t.Size
	}
	rows = append(rows, []string{"----", "----", "----"}, []string{"Total", "", bytesOf(int64(total))})
	a.table(rows...)
}
