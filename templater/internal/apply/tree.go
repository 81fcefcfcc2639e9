package apply

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// tree is a view of the file system as it would be with what is staged: folders that lead to
// a destination are real ones, a destination is a copy of what is staged for it, and whatever
// else is in those folders is a link to where it lies. Its root lets nothing be changed by
// way of such a link.
type tree struct{ root *os.Root }

// lay makes the tree below dir, with cwd among the real folders.
func lay(dir, cwd string, staged map[string]string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	t := &tree{root}
	if err := t.links("/"); err != nil {
		return err
	}
	for dest, path := range staged {
		if dest, err = filepath.Abs(dest); err != nil {
			return err
		}
		if err := t.put(dest, path); err != nil {
			return err
		}
	}
	if _, err := t.root.Lstat(inside(cwd)); err == nil { // that of a destination yet to come, too
		return t.open(cwd)
	}
	if _, err := os.Stat(cwd); err != nil {
		return err
	}
	return t.open(cwd)
}

// inside is a path as the tree's root knows it.
func inside(path string) string { return filepath.Join(".", path) }

// put has a destination be what is staged for it, or not be there.
func (t *tree) put(dest, path string) error {
	if err := t.open(filepath.Dir(dest)); err != nil {
		return err
	}
	if err := t.remove(dest); err != nil || path == "" {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return t.root.WriteFile(inside(dest), b, info.Mode().Perm())
}

// open makes a folder a real one, and before it those above.
func (t *tree) open(dir string) error {
	if dir == "/" {
		return nil
	}
	if err := t.open(filepath.Dir(dir)); err != nil {
		return err
	}
	if info, err := t.root.Lstat(inside(dir)); err == nil && info.IsDir() {
		return nil
	}
	if err := errors.Join(t.remove(dir), t.root.Mkdir(inside(dir), 0o755)); err != nil {
		return err
	}
	if err := t.links(dir); !errors.Is(err, fs.ErrNotExist) { // else it is yet to come
		return err
	}
	return nil
}

// links gives a folder a link to each thing that is in the real one, but for what is only
// staged there.
func (t *tree) links(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && strings.Contains(e.Name(), ".templater-") {
			continue
		}
		if err := t.root.Symlink(filepath.Join(dir, e.Name()), inside(filepath.Join(dir, e.Name()))); err != nil {
			return err
		}
	}
	return nil
}

func (t *tree) remove(path string) error {
	if err := t.root.Remove(inside(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
