// Package apply brings a rendered set of files to life as one transaction: stage, check,
// swap, reload, verify, and back to what was where a step fails. A journal makes it
// whole also when the process is killed: whoever comes next undoes what was not
// finished. What was applied is remembered on disk, so that a reload that was missed is
// made good.
package apply

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"
)

// File is one file of a set, as it shall be.
type File struct {
	Dest       string
	Content    []byte
	Perms      fs.FileMode // 0 keeps what is there, else 0644
	User       string      // name or id, "" keeps
	Group      string
	Backup     bool // keep the file before as Dest.bak
	CreateDirs bool
}

// Checker looks at a set before it replaces anything. staged is where each destination's
// new content lies. An error says why the set must not go live.
type Checker interface {
	Check(ctx context.Context, staged map[string]string) error
}

// Reloader makes the new files count, and proves it. An error means that it is not known
// whether they do.
type Reloader interface {
	Reload(ctx context.Context) error
}

// Stages are how long each step of an apply took.
type Stages struct{ Stage, Check, Swap, Reload time.Duration }

// Group is a set of files that live and die together.
type Group struct {
	Name     string
	Checker  Checker  // nil: none
	Reloader Reloader // nil: the files are all there is to it
	Log      *slog.Logger
}

// ErrRefused marks an error of a check: nothing was touched.
var ErrRefused = errors.New("refused")

// Generation sums up a set: equal generations are equal files.
func Generation(files []File) string {
	h := sha256.New()
	for _, f := range files {
		fmt.Fprintf(h, "%q %d %o %q %q\n", f.Dest, len(f.Content), f.Perms, f.User, f.Group)
		h.Write(f.Content)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// Current reports whether the set is on disk already, and whether it was applied: then
// there is nothing to do.
func (g *Group) Current(files []File) (onDisk, applied bool) {
	onDisk = true
	for _, f := range files {
		b, err := os.ReadFile(f.Dest)
		if err != nil || !bytes.Equal(b, f.Content) {
			onDisk = false
			break
		}
	}
	if g.Reloader == nil {
		return onDisk, onDisk
	}
	mark, err := os.ReadFile(g.markPath(files))
	return onDisk, onDisk && err == nil && string(mark) == Generation(files)
}

// Apply makes the set live. With an error the files before are live again, or were never
// touched; whether the reload of them worked too is part of the error.
func (g *Group) Apply(ctx context.Context, files []File) (s Stages, err error) {
	began := time.Now()
	staged, err := g.stage(files)
	defer g.unstage(staged)
	if err != nil {
		return s, fmt.Errorf("stage: %w", err)
	}
	s.Stage = time.Since(began)
	if g.Checker != nil {
		began = time.Now()
		err = g.Checker.Check(ctx, staged)
		s.Check = time.Since(began)
		if err != nil {
			return s, fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	began = time.Now()
	j, err := g.swap(files, staged)
	s.Swap = time.Since(began)
	if err != nil {
		return s, fmt.Errorf("swap: %w", errors.Join(err, g.undo(j)))
	}
	if g.Reloader != nil {
		began = time.Now()
		err = g.Reloader.Reload(ctx)
		s.Reload = time.Since(began)
	}
	if err != nil {
		err = fmt.Errorf("reload: %w", err)
		if e := g.undo(j); e != nil {
			return s, errors.Join(err, fmt.Errorf("roll back: %w", e))
		}
		// the master may have taken the new files: have it take the old ones again
		again, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if e := g.Reloader.Reload(again); e != nil {
			err = errors.Join(err, fmt.Errorf("reload of the files before: %w", e))
		}
		return s, err
	}
	return s, g.commit(j, files)
}

// Touch reloads for a set that is on disk already and was not applied.
func (g *Group) Touch(ctx context.Context, files []File) (s Stages, err error) {
	if g.Reloader != nil {
		began := time.Now()
		err = g.Reloader.Reload(ctx)
		s.Reload = time.Since(began)
	}
	if err != nil {
		return s, fmt.Errorf("reload: %w", err)
	}
	return s, writeFile(g.markPath(files), []byte(Generation(files)), 0o644)
}

// side is a hidden file beside a destination, which no include of *.conf takes in.
func side(dest, what string) string {
	return filepath.Join(filepath.Dir(dest), "."+filepath.Base(dest)+".templater-"+what)
}

// stage writes the new contents beside their destinations.
func (g *Group) stage(files []File) (map[string]string, error) {
	staged := map[string]string{}
	for _, f := range files {
		if f.CreateDirs {
			if err := os.MkdirAll(filepath.Dir(f.Dest), 0o755); err != nil {
				return staged, err
			}
		}
		if info, err := os.Lstat(f.Dest); err == nil && !info.Mode().IsRegular() && info.Mode()&fs.ModeSymlink == 0 {
			return staged, fmt.Errorf("%s is no regular file", f.Dest)
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
			return staged, err
		}
		path := side(f.Dest, "new")
		staged[f.Dest] = path
		if err := writeFile(path, f.Content, perms); err != nil {
			return staged, err
		}
		if err := owner.apply(path); err != nil {
			return staged, err
		}
	}
	return staged, nil
}

// unstage removes what was staged and did not go live.
func (g *Group) unstage(staged map[string]string) {
	for _, path := range staged {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			g.Log.Warn("staged file not removed", "file", path, "err", err)
		}
	}
}

// writeFile writes a file and has it on disk when it returns.
func writeFile(path string, b []byte, perms fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, perms)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(perms) // the umask does not count
	}
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
