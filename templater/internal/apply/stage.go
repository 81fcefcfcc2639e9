package apply

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// side is a hidden file beside a destination, which no include of *.conf takes in. It
// lies where a link leads to, so that a rename stays on one file system.
func side(dest, what string) string {
	dest = resolve(dest)
	return filepath.Join(filepath.Dir(dest), "."+filepath.Base(dest)+".templater-"+what)
}

// resolve follows a symbolic link, so that the link stays and its target changes.
func resolve(dest string) string {
	if real, err := filepath.EvalSymlinks(dest); err == nil {
		return real
	}
	return dest
}

// remove has a file not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// write puts a file's new content at path, as it shall be at its destination. It is not
// synced.
func (f File) write(path string) error {
	if f.CreateDirs {
		if err := os.MkdirAll(filepath.Dir(f.Dest), 0o755); err != nil {
			return err
		}
	}
	if info, err := os.Lstat(f.Dest); err == nil && !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0 {
		return fmt.Errorf("%s is no regular file", f.Dest)
	}
	perms, owner := f.Perms, ownership{}
	if info, err := os.Stat(f.Dest); err == nil {
		if perms == 0 {
			perms = info.Mode().Perm()
		}
		owner = ownerOf(info)
	}
	if perms == 0 {
		perms = 0o644
	}
	if err := owner.set(f.User, f.Group); err != nil {
		return err
	}
	if err := writeLazily(path, f.Content, perms); err != nil {
		return err
	}
	return owner.apply(path)
}

// Undressed says what of the mode and the owner of the file that is there is not as
// wanted, "" if all is, or there is none.
func (f File) Undressed() string {
	info, err := os.Stat(f.Dest)
	if err != nil {
		return ""
	}
	if f.Perms != 0 && info.Mode().Perm() != f.Perms.Perm() {
		return fmt.Sprintf("mode %04o, want %04o", info.Mode().Perm(), f.Perms.Perm())
	}
	is := ownerOf(info)
	want := is
	if err := want.set(f.User, f.Group); err != nil {
		return err.Error()
	}
	if want != is {
		return fmt.Sprintf("owner %d:%d, want %d:%d", is.uid, is.gid, want.uid, want.gid)
	}
	return ""
}

// writeLazily writes a file; when it is on disk is open.
func writeLazily(path string, b []byte, perms fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perms)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(perms) // the umask does not count
	}
	return errors.Join(err, f.Close())
}

// writeFile writes a file and has it on disk when it returns.
func writeFile(path string, b []byte, perms fs.FileMode) error {
	if err := writeLazily(path, b, perms); err != nil {
		return err
	}
	return syncFile(path)
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// syncAtOnce is how many files are synced at a time: a file system then does it for them
// together.
const syncAtOnce = 16

func syncFiles(staged map[string]string) error {
	var all sync.WaitGroup
	turns := make(chan struct{}, syncAtOnce)
	faults := make(chan error, len(staged))
	for _, path := range staged {
		if path == "" {
			continue
		}
		turns <- struct{}{}
		all.Go(func() {
			faults <- syncFile(path)
			<-turns
		})
	}
	all.Wait()
	close(faults)
	var errs []error
	for err := range faults {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (g *Group) folder(files []File) string {
	if g.Dir == "" && len(files) > 0 {
		return filepath.Dir(files[0].Dest)
	}
	return g.Dir
}

// store is a hidden folder of the group beside its first file: mark, lock, journal, and
// generations.
func (g *Group) store(files []File) string {
	name := strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, g.Name)
	if len(name) > 40 || name != g.Name {
		name = name[:min(len(name), 40)] + "-" + sum(g.Name)
	}
	return filepath.Join(g.folder(files), ".templater-"+name)
}

// lockWait is how long to wait for a lock: one that was killed may leave it, for a moment,
// to a child that it was just starting.
const (
	lockWait = 2 * time.Second
	lockLook = 20 * time.Millisecond
)

// lock keeps other processes from the group's files.
func (g *Group) lock(files []File) (unlock func(), err error) {
	dir := g.store(files)
	if slices.ContainsFunc(files, func(f File) bool { return f.CreateDirs }) {
		err = os.MkdirAll(dir, 0o755)
	} else if err = os.Mkdir(dir, 0o755); errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("make a folder in %s: %w", g.folder(files), err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for end := time.Now().Add(lockWait); syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil; time.Sleep(lockLook) {
		if time.Now().After(end) {
			f.Close()
			return nil, fmt.Errorf("another templater is changing the files of group %q at this moment", g.Name)
		}
	}
	return func() {
		// by name: a child that is just being started may still hold the file open
		_ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN)
		f.Close()
	}, nil
}
