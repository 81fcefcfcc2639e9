// Package atomicfile replaces small files that must not be lost: a reader, and whoever
// comes after a crash or a power cut, finds the old contents or the new, whole.
package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Write makes b the contents of the file at path, with the given permissions, whatever
// the umask. It returns once that is on disk. After an error the file is as it was,
// unless only the last step failed, which makes the new name durable. The new contents
// are beside it for a moment, as path with ".new" appended.
func Write(path string, b []byte, perm fs.FileMode) error {
	next := path + ".new"
	f, err := os.OpenFile(next, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perm)
	if err != nil {
		return err
	}
	err = f.Chmod(perm)
	if err == nil {
		_, err = f.Write(b)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(next, path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(next))
	}
	return SyncDir(filepath.Dir(path))
}

// SyncDir makes names in a directory durable: files made, renamed and removed in it.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
