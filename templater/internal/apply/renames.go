package apply

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/rollcall/rollcall/internal/atomicfile"
)

// renames exchanges files one by one. A journal on disk, from before the first rename
// until the new files are proven, says how to get back; whoever finds it undoes.
type renames struct {
	g      *Group
	files  []File
	staged map[string]string
	j      *journal
}

// journal is how to get back to the files before.
type journal struct {
	path    string
	InPlace bool
	Files   []entry
}

func (g *Group) journalPath(files []File) string { return filepath.Join(g.store(files), "journal") }

// entry is one file: Old is a copy of what was there, "" where nothing was; New is what
// was staged, "" where the file goes.
type entry struct{ Dest, New, Old string }

// crash is a test's way to stop the process at a point; nil otherwise.
var crash func(point string)

func at(point string) {
	if crash != nil {
		crash(point)
	}
}

func (t *renames) stage() (map[string]string, error) {
	t.staged = map[string]string{}
	for _, f := range t.files {
		if f.Remove {
			t.staged[f.Dest] = ""
			continue
		}
		path := side(f.Dest, "new")
		t.staged[f.Dest] = path
		if err := f.write(path); err != nil {
			return t.staged, err
		}
	}
	at("staged")
	return t.staged, nil
}

func (t *renames) discard() {
	for _, path := range t.staged {
		if path == "" {
			continue
		}
		if err := remove(path); err != nil {
			t.g.Log.Warn("staged file not removed", "file", path, "err", err)
		}
	}
}

func (t *renames) prepare() error {
	if err := syncFiles(t.staged); err != nil {
		return err
	}
	t.j = &journal{path: t.g.journalPath(t.files), InPlace: t.g.InPlace}
	for i, f := range t.files {
		at(fmt.Sprintf("before copy %d", i))
		e := entry{Dest: resolve(f.Dest), New: t.staged[f.Dest]}
		switch _, err := os.Stat(e.Dest); {
		case err == nil:
			e.Old = side(f.Dest, "old")
			if err := keep(e.Dest, e.Old, !t.g.InPlace); err != nil {
				return err
			}
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		t.j.Files = append(t.j.Files, e)
	}
	at("before journal")
	b, err := json.Marshal(t.j)
	if err == nil {
		err = atomicfile.Write(t.j.path, b, 0o644)
	}
	if err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	at("prepared")
	return nil
}

func (t *renames) swap() error {
	for i, e := range t.j.Files {
		at(fmt.Sprintf("before rename %d", i))
		if err := t.j.put(e); err != nil {
			return err
		}
	}
	at("swapped")
	return nil
}

// put brings one file's new content to its place.
func (j *journal) put(e entry) error {
	if e.New == "" {
		return remove(e.Dest)
	}
	if j.InPlace && e.Old != "" {
		return copyInto(e.New, e.Dest)
	}
	err := os.Rename(e.New, e.Dest)
	if errors.Is(err, syscall.EBUSY) {
		return fmt.Errorf("%w (%s is a mount of its own, which cannot be replaced: mount its directory instead, or set write_mode = \"in-place\")", err, e.Dest)
	}
	return err
}

// copyInto writes a file's content into another one, which stays the same file.
func copyInto(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(to, os.O_WRONLY|os.O_TRUNC, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Sync(), f.Close())
}

// keep makes to a second name of from, or a copy where links cannot be made or are not
// wanted.
func keep(from, to string, link bool) error {
	if err := remove(to); err != nil {
		return err
	}
	if link && os.Link(from, to) == nil {
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
			errs = append(errs, atomicfile.SyncDir(dir))
		}
	}
	return errors.Join(errs...)
}

func (t *renames) undo() error {
	if t.j == nil {
		return nil
	}
	return t.j.undo()
}

// undo puts the files before back. It may be called again after it was cut off.
func (j *journal) undo() error {
	var errs []error
	for _, e := range j.Files {
		if j.untouched(e) {
			errs = append(errs, removeOld(e))
			continue
		}
		if e.Old == "" {
			errs = append(errs, remove(e.Dest))
			continue
		}
		var err error
		if j.InPlace && e.New != "" {
			err = copyInto(e.Old, e.Dest)
		} else {
			err = os.Rename(e.Old, e.Dest)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = nil // put back before
		}
		if err == nil { // two names of one file are not renamed: it was never replaced
			err = remove(e.Old)
		}
		errs = append(errs, err)
	}
	errs = append(errs, j.sync())
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return forget(j.path)
}

// untouched reports whether a file is what it was: what was staged for it is still where it
// was, or it has not gone.
func (j *journal) untouched(e entry) bool {
	if j.InPlace && e.New != "" && e.Old != "" { // staged files stay
		old, err := os.ReadFile(e.Old)
		live, also := os.ReadFile(e.Dest)
		return err == nil && also == nil && bytes.Equal(old, live)
	}
	place := e.New
	if place == "" {
		place = e.Dest
	}
	_, err := os.Lstat(place)
	return err == nil || e.New == "" && e.Old == ""
}

func removeOld(e entry) error {
	if e.Old == "" {
		return nil
	}
	return remove(e.Old)
}

func (t *renames) commit() error {
	if err := t.j.sync(); err != nil {
		return err
	}
	if err := forget(t.j.path); err != nil {
		return err
	}
	at("committed")
	for i, e := range t.j.Files {
		if e.Old == "" {
			continue
		}
		var err error
		if t.files[i].Backup {
			err = os.Rename(e.Old, e.Dest+".bak")
		} else {
			err = os.Remove(e.Old)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.g.Log.Warn("file before not put away", "file", e.Old, "err", err)
		}
	}
	return nil
}

// forget removes the journal for good.
func forget(path string) error {
	if err := remove(path); err != nil {
		return fmt.Errorf("remove journal: %w", err)
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// Recover undoes what was begun and not finished, by a run before or by this one. It
// reports whether it did.
func (g *Group) Recover(files []File) (undone bool, err error) {
	if _, err := os.Stat(g.store(files)); errors.Is(err, fs.ErrNotExist) {
		return false, nil // nothing was ever begun there
	}
	unlock, err := g.lock(files)
	if err != nil {
		return false, err
	}
	defer unlock()
	return g.recoverLocked(files)
}

func (g *Group) recoverLocked(files []File) (undone bool, err error) {
	undone, err = recoverJournal(g.journalPath(files))
	if err != nil {
		return undone, err
	}
	if undone {
		// nginx may run what was undone: the mark must not say that all is well
		return true, g.clearMark(files)
	}
	for _, f := range files { // copies that a killed process had no more use for
		if err := errors.Join(remove(side(f.Dest, "old")), remove(side(f.Dest, "new"))); err != nil {
			return false, err
		}
	}
	return false, g.clean(files)
}

func recoverJournal(path string) (bool, error) {
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
	undone := slices.ContainsFunc(j.Files, func(e entry) bool { return !j.untouched(e) })
	if err := j.undo(); err != nil {
		return false, fmt.Errorf("undo an unfinished change: %w", err)
	}
	for _, e := range j.Files {
		if e.New == "" {
			continue
		}
		if err := remove(e.New); err != nil { // staged, and never live
			return undone, err
		}
	}
	return undone, nil
}
