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

// Errors that callers branch on.
var (
	// ErrRefused marks an error of a check: nothing was touched.
	ErrRefused = errors.New("refused")
	// ErrNotRunning is a Reloader's when there is nobody to tell. Whoever starts later
	// reads the files as they are then, so the new ones, which passed the check, stay.
	ErrNotRunning = errors.New("not running")
)

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
// touched; whether the reload of them worked too is part of the error. When ctx ends a
// step that has begun may finish within a second.
func (g *Group) Apply(ctx context.Context, files []File) (s Stages, err error) {
	began := time.Now()
	if _, err := g.Recover(files); err != nil { // an undo that did not work out before
		return s, err
	}
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
		err = g.reload(ctx)
		s.Reload = time.Since(began)
	}
	if err != nil && !errors.Is(err, ErrNotRunning) {
		return s, g.rollBack(ctx, j, files, fmt.Errorf("reload: %w", err))
	}
	if e := g.commit(j, files, err == nil); e != nil {
		return s, fmt.Errorf("commit: %w", errors.Join(e, g.undo(j)))
	}
	if err != nil {
		return s, fmt.Errorf("reload: %w", err)
	}
	return s, nil
}

// rollBack puts the files before back, and has them reloaded too: whoever was told of
// the new ones may have taken them. It returns why, with what else went wrong.
func (g *Group) rollBack(ctx context.Context, j *journal, files []File, why error) error {
	if err := g.undo(j); err != nil {
		return errors.Join(why, fmt.Errorf("roll back: %w", err))
	}
	if err := g.reload(ctx); err != nil {
		why = errors.Join(why, fmt.Errorf("reload of the files before: %w", err))
		// what runs is not known: the mark must not say that all is well
		if err := remove(g.markPath(files)); err != nil {
			why = errors.Join(why, err)
		}
	}
	return why
}

// reload has the reloader work. Begun, it is not cut off at once when ctx ends: half a
// reload is worse than a late stop.
func (g *Group) reload(ctx context.Context) error {
	const late = 700 * time.Millisecond
	own, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	stop := context.AfterFunc(ctx, func() {
		t := time.NewTimer(late)
		defer t.Stop()
		select {
		case <-own.Done():
		case <-t.C:
			cancel()
		}
	})
	defer stop()
	return g.Reloader.Reload(own)
}

// Touch reloads for a set that is on disk already and was not applied.
func (g *Group) Touch(ctx context.Context, files []File) (s Stages, err error) {
	if g.Reloader != nil {
		began := time.Now()
		err = g.reload(ctx)
		s.Reload = time.Since(began)
	}
	if err != nil {
		return s, fmt.Errorf("reload: %w", err)
	}
	return s, writeFile(g.markPath(files), []byte(Generation(files)), 0o644)
}

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
		if err := remove(path); err != nil {
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
