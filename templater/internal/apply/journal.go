package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// journal says how to get back to the files before. It is on disk from before the first
// rename until the new files are proven; whoever finds it undoes.
type journal struct {
	path  string
	Files []entry
}

// entry is one file: Old is a link to what was there, "" where nothing was.
type entry struct{ Dest, New, Old string }

// crash is a test's way to stop the process at a point; nil otherwise.
var crash func(point string)

func at(point string) {
	if crash != nil {
		crash(point)
	}
}

// The journal and the mark of a group lie beside its first file, so that they are on the
// same disk and under the same rights.
func (g *Group) journalPath(files []File) string { return side(files[0].Dest, "journal") }
func (g *Group) markPath(files []File) string    { return side(files[0].Dest, "applied") }

// swap puts the staged files in place. With an error the journal tells undo what was
// done so far.
func (g *Group) swap(files []File, staged map[string]string) (*journal, error) {
	j := &journal{path: g.journalPath(files)}
	for _, f := range files {
		e := entry{Dest: resolve(f.Dest), New: staged[f.Dest]}
		switch _, err := os.Stat(e.Dest); {
		case err == nil:
			e.Old = side(f.Dest, "old")
			if err := link(e.Dest, e.Old); err != nil {
				return j, err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return j, err
		}
		j.Files = append(j.Files, e)
	}
	at("before journal")
	b, err := json.Marshal(j)
	if err == nil {
		err = writeFile(j.path+".tmp", b, 0o644)
	}
	if err == nil {
		err = os.Rename(j.path+".tmp", j.path)
	}
	if err == nil {
		err = syncDir(filepath.Dir(j.path))
	}
	if err != nil {
		return j, fmt.Errorf("write journal: %w", err)
	}
	for i, e := range j.Files {
		at(fmt.Sprintf("before rename %d", i))
		if err := os.Rename(e.New, e.Dest); errors.Is(err, syscall.EBUSY) {
			return j, fmt.Errorf("%w (%s is a mount of its own, which cannot be replaced: mount its directory instead)", err, e.Dest)
		} else if err != nil {
			return j, err
		}
	}
	at("swapped")
	return j, j.sync()
}

// link makes to a second name of from, or a copy where links cannot be made.
func link(from, to string) error {
	if err := remove(to); err != nil {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if err := writeFile(to, b, info.Mode().Perm()); err != nil {
		return err
	}
	owner := ownerOf(info)
	return owner.apply(to)
}

func (j *journal) sync() error {
	seen := map[string]bool{}
	var errs []error
	for _, e := range j.Files {
		if dir := filepath.Dir(e.Dest); !seen[dir] {
			seen[dir] = true
			errs = append(errs, syncDir(dir))
		}
	}
	return errors.Join(errs...)
}

// undo puts the files before back. It may be called again after it was cut off.
func (g *Group) undo(j *journal) error {
	if j == nil {
		return nil
	}
	var errs []error
	for _, e := range j.Files {
		if e.Old == "" {
			errs = append(errs, remove(e.Dest))
			continue
		}
		err := os.Rename(e.Old, e.Dest)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // put back before
		}
		// two names of one file are not renamed: it was never replaced
		errs = append(errs, err, remove(e.Old))
	}
	errs = append(errs, j.sync())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return forget(j.path)
}

// commit ends the transaction: the new files stay. applied tells whether they count
// already, or have yet to be reloaded.
func (g *Group) commit(j *journal, files []File, applied bool) error {
	at("before commit")
	if !applied {
		if err := remove(g.markPath(files)); err != nil {
			return err
		}
	} else if g.Reloader != nil {
		if err := writeFile(g.markPath(files), []byte(Generation(files)), 0o644); err != nil {
			return fmt.Errorf("remember what was applied: %w", err)
		}
	}
	if err := forget(j.path); err != nil {
		return err
	}
	at("committed")
	for i, e := range j.Files {
		if e.Old == "" {
			continue
		}
		var err error
		if files[i].Backup {
			err = os.Rename(e.Old, e.Dest+".bak")
		} else {
			err = os.Remove(e.Old)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			g.Log.Warn("file before not put away", "file", e.Old, "err", err)
		}
	}
	return nil
}

// forget removes the journal for good.
func forget(path string) error {
	if err := remove(path); err != nil {
		return fmt.Errorf("remove journal: %w", err)
	}
	return syncDir(filepath.Dir(path))
}

// Recover undoes what was begun and not finished, by a run before or by this one. It
// reports whether it did. The journal may lie beside any file of the set: a changed
// configuration may name them in another order.
func (g *Group) Recover(files []File) (undone bool, err error) {
	for _, f := range files {
		did, err := g.recover(side(f.Dest, "journal"))
		if err != nil {
			return undone, err
		}
		undone = undone || did
	}
	if !undone {
		return false, nil
	}
	// nginx may run what was undone: the mark must not say that all is well
	return true, remove(g.markPath(files))
}

func (g *Group) recover(path string) (bool, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read journal: %w", err)
	}
	j := &journal{path: path}
	if err := json.Unmarshal(b, j); err != nil {
		return false, fmt.Errorf("journal %s is not readable: %w", path, err)
	}
	if err := g.undo(j); err != nil {
		return false, fmt.Errorf("undo an unfinished change: %w", err)
	}
	for _, e := range j.Files {
		if err := remove(e.New); err != nil { // staged, and never live
			return true, err
		}
	}
	return true, nil
}
