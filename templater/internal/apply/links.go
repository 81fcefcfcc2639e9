package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"

	"github.com/rollcall/rollcall/internal/atomicfile"
)

// links exchanges all files in one instant. Destinations are links that lead through
// "current" in the group's store into a folder of one generation; leading "current"
// elsewhere is one rename. So the disk holds one whole set at every moment, and nothing
// has to be undone after a crash.
type links struct {
	g      *Group
	files  []File
	dir    string // of the new generation
	staged map[string]string
	before string // where current led, "" if nowhere
	done   bool   // current leads to dir
	fresh  []string
}

const currentName = "current"

// inStore is a destination's name in a generation's folder.
func inStore(dest string) string { return url.PathEscape(dest) }

func (t *links) store() string   { return t.g.store(t.files) }
func (t *links) current() string { return filepath.Join(t.store(), currentName) }

func (t *links) stage() (map[string]string, error) {
	if before, err := os.Readlink(t.current()); err == nil && isDir(filepath.Join(t.store(), before)) {
		t.before = before
	}
	dir, err := os.MkdirTemp(t.store(), "set-") // a name that was never used: what runs may still read the old one
	if err != nil {
		return nil, err
	}
	t.dir = dir
	if err := os.Chmod(dir, 0o755); err != nil {
		return nil, err
	}
	staged := map[string]string{}
	for _, f := range t.files {
		path := filepath.Join(dir, inStore(f.Dest))
		if f.Remove { // until its link goes it must say nothing
			staged[f.Dest] = ""
			err = writeFile(path, nil, 0o644)
		} else {
			staged[f.Dest] = path
			err = f.write(path)
		}
		if err != nil {
			return staged, err
		}
	}
	t.staged = staged
	at("staged")
	return staged, nil
}

func (t *links) prepare() error {
	if err := syncFiles(t.staged); err != nil {
		return err
	}
	at("prepared")
	return atomicfile.SyncDir(t.dir)
}

// discard removes the new generation if it is not live.
func (t *links) discard() {
	if t.dir == "" || t.done {
		return
	}
	if err := os.RemoveAll(t.dir); err != nil {
		t.g.Log.Warn("staged files not removed", "folder", t.dir, "err", err)
	}
}

func (t *links) swap() error {
	if err := t.adopt(); err != nil {
		return err
	}
	at("before flip")
	if err := t.flip(filepath.Base(t.dir)); err != nil {
		return err
	}
	t.done = true
	at("swapped")
	return nil
}

// adopt makes every destination a link, without a change of what is read there: the
// content that it has goes to the present generation first, nothing as an empty file.
func (t *links) adopt() error {
	present := filepath.Join(t.store(), t.before)
	if t.before == "" {
		dir, err := os.MkdirTemp(t.store(), "set-")
		if err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
		present = dir
	}
	added := t.before == ""
	for i, f := range t.files {
		if t.linked(f.Dest) {
			continue
		}
		added = true
		at(fmt.Sprintf("before copy %d", i))
		path := filepath.Join(present, inStore(f.Dest))
		_, err := os.Stat(f.Dest)
		if err == nil {
			err = keep(f.Dest, path, false)
		} else if errors.Is(err, fs.ErrNotExist) {
			if f.Remove {
				continue
			}
			t.fresh = append(t.fresh, f.Dest)
			err = writeFile(path, nil, 0o644)
		}
		if err != nil {
			return err
		}
	}
	if !added {
		return nil
	}
	if err := atomicfile.SyncDir(present); err != nil {
		return err
	}
	if t.before == "" {
		t.before = filepath.Base(present)
		if err := errors.Join(t.flip(t.before), atomicfile.SyncDir(t.store())); err != nil {
			return err
		}
	}
	for i, f := range t.files {
		if t.linked(f.Dest) || f.Remove {
			continue
		}
		at(fmt.Sprintf("before link %d", i))
		if err := t.link(f.Dest); err != nil {
			return err
		}
	}
	return nil
}

// target is what a destination's link says.
func (t *links) target(dest string) string {
	path := filepath.Join(t.current(), inStore(dest))
	if rel, err := filepath.Rel(filepath.Dir(dest), path); err == nil {
		return rel // the folder may be mounted elsewhere for whoever reads it
	}
	return path
}

func (t *links) linked(dest string) bool {
	to, err := os.Readlink(dest)
	return err == nil && to == t.target(dest)
}

func (t *links) link(dest string) error {
	tmp := filepath.Join(filepath.Dir(dest), "."+filepath.Base(dest)+".templater-link")
	if err := remove(tmp); err != nil {
		return err
	}
	if err := os.Symlink(t.target(dest), tmp); err != nil {
		return err
	}
	if err := os.Rename(tmp, dest); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(dest))
}

// flip leads current to another generation. It is not synced.
func (t *links) flip(to string) error {
	tmp := t.current() + ".tmp"
	if err := remove(tmp); err != nil {
		return err
	}
	if err := os.Symlink(to, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, t.current())
}

func (t *links) undo() error {
	if t.done {
		if err := errors.Join(t.flip(t.before), atomicfile.SyncDir(t.store())); err != nil {
			return err
		}
		t.done = false
	}
	for _, dest := range t.fresh { // they were not there before
		if err := remove(dest); err != nil {
			return err
		}
	}
	t.discard()
	return nil
}

// commit removes the links of files that are gone, and generations that nobody needs.
func (t *links) commit() error {
	if err := atomicfile.SyncDir(t.store()); err != nil {
		return err
	}
	for _, f := range t.files {
		switch {
		case f.Remove:
			if err := remove(f.Dest); err != nil {
				return err
			}
		case f.Backup:
			old := filepath.Join(t.store(), t.before, inStore(f.Dest))
			if err := keep(old, f.Dest+".bak", false); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.g.Log.Warn("file before not put away", "file", f.Dest, "err", err)
			}
		}
	}
	at("committed")
	entries, err := os.ReadDir(t.store())
	if err != nil {
		return nil // they are removed another time
	}
	for _, e := range entries {
		if e.IsDir() && len(e.Name()) > 4 && e.Name()[:4] == "set-" && e.Name() != filepath.Base(t.dir) {
			if err := os.RemoveAll(filepath.Join(t.store(), e.Name())); err != nil {
				t.g.Log.Warn("old files not removed", "folder", e.Name(), "err", err)
			}
		}
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
