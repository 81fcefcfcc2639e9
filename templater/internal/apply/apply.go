// Package apply brings a rendered set of files to life as one transaction: stage, check,
// swap, reload, verify, and back to what was where a step fails. Whoever comes after a
// process that was killed finds, or makes, one whole set. What was applied is remembered
// on disk, so that a reload that was missed is made good.
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
	"time"

	"github.com/rollcall/rollcall/templater/internal/guard"
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
	Remove     bool // it shall not be there
	Stamp      bool // it says the generation, and is no part of it
}

// Checker looks at a set before it replaces anything. staged is where each destination's
// new content lies, "" for one that goes. An error says why the set must not go live.
type Checker interface {
	Check(ctx context.Context, staged map[string]string) error
}

// Checks are several, of which each has to be content.
type Checks []Checker

// Check asks one after the other.
func (c Checks) Check(ctx context.Context, staged map[string]string) error {
	for _, one := range c {
		if err := one.Check(ctx, staged); err != nil {
			return err
		}
	}
	return nil
}

// Reloader makes the new files count, and proves it. An error means that it is not known
// whether they do.
type Reloader interface {
	Reload(ctx context.Context, generation string) error
}

// Stages are how long each step of an apply took; Check has what is synced meanwhile in it.
// Reload is 0 where there was none.
type Stages struct{ Stage, Check, Swap, Reload time.Duration }

// Group is a set of files that live and die together. Its methods are for one goroutine
// at a time; other processes are kept out by a lock on disk.
type Group struct {
	Name     string
	Checker  Checker  // nil: none
	Reloader Reloader // nil: the files are all there is to it
	Log      *slog.Logger
	Dir      string // of the group's store; "" is where the first file is
	Links    bool   // swap all files in one instant: destinations are links into a store
	InPlace  bool   // write into the files that are there
	Keep     bool   // a failed reload leaves the new files, which passed the check
	History  int    // generations kept beside the present one
	// Same tells that two contents mean the same to the reader, so that nothing needs to be
	// reloaded. nil: they never do.
	Same func(before, after []byte) bool
	// Instances are how many there were of each service in the set that is applied next;
	// the mark keeps them.
	Instances guard.Counts
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
		if f.Remove || f.Stamp {
			continue
		}
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
		if f.Remove {
			onDisk = onDisk && errors.Is(err, fs.ErrNotExist)
		} else {
			onDisk = onDisk && err == nil && bytes.Equal(b, f.Content) && f.Undressed() == ""
		}
	}
	if g.Reloader == nil {
		return onDisk, onDisk
	}
	return onDisk, onDisk && g.Mark(files).Generation == Generation(files)
}

// transaction is a way to exchange a set. Its methods are called in their order; undo may
// be called at any time after stage, and again after it was cut off. What swap does is for
// good when commit returns.
type transaction interface {
	stage() (staged map[string]string, err error)
	prepare() error // has the set, and the way back, on disk; nothing is live
	swap() error
	undo() error
	commit() error
	discard() // what was staged and is not live
}

func (g *Group) begin(files []File) transaction {
	if g.Links {
		return &links{g: g, files: files}
	}
	return &renames{g: g, files: files}
}

// Apply makes the set live. With an error the files before are live again, or were never
// touched; whether the reload of them worked too is part of the error. When ctx ends a
// step that has begun may finish within a second.
func (g *Group) Apply(ctx context.Context, files []File) (s Stages, err error) {
	unlock, err := g.lock(files)
	if err != nil {
		return s, err
	}
	defer unlock()
	began := time.Now()
	if _, err := g.recoverLocked(files); err != nil { // an undo that did not work out before
		return s, err
	}
	tx := g.begin(files)
	staged, err := tx.stage()
	defer tx.discard()
	if err != nil {
		return s, fmt.Errorf("stage: %w", err)
	}
	s.Stage = time.Since(began)
	began = time.Now()
	err = g.judge(ctx, staged, tx.prepare)
	s.Check = time.Since(began)
	if err != nil {
		return s, errors.Join(err, tx.undo())
	}
	quiet := g.sameMeaning(files)
	before := g.Mark(files).Generation
	began = time.Now()
	err = tx.swap()
	s.Swap = time.Since(began)
	if err != nil {
		return s, fmt.Errorf("swap: %w", errors.Join(err, tx.undo()))
	}
	if g.Reloader != nil && !quiet {
		began = time.Now()
		err = g.reload(ctx, Generation(files))
		s.Reload = time.Since(began)
	}
	if err != nil && !errors.Is(err, ErrNotRunning) && !g.Keep {
		return s, g.rollBack(ctx, tx, files, before, fmt.Errorf("reload: %w", err))
	}
	unsure := err
	at("before commit")
	err = g.setMark(files, unsure == nil)
	if err == nil {
		err = tx.commit()
	}
	if err != nil {
		return s, g.rollBack(ctx, tx, files, before, fmt.Errorf("commit: %w", err))
	}
	if err := g.remember(files); err != nil {
		g.Log.Warn("generation not kept for a rollback", "err", err)
	}
	if unsure != nil {
		return s, fmt.Errorf("reload: %w", unsure)
	}
	return s, nil
}

// judge has the set checked, and meanwhile prepared: a disk takes its time to sync.
func (g *Group) judge(ctx context.Context, staged map[string]string, prepare func() error) error {
	prepared := make(chan error, 1)
	go func() { prepared <- prepare() }()
	var refused error
	if g.Checker != nil {
		if err := g.Checker.Check(ctx, staged); err != nil {
			refused = fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	if err := <-prepared; err != nil {
		return errors.Join(refused, fmt.Errorf("stage: %w", err))
	}
	return refused
}

// sameMeaning reports whether the set says what the applied one on disk does.
func (g *Group) sameMeaning(files []File) bool {
	if g.Same == nil || g.Reloader == nil || g.Mark(files).Generation == "" {
		return false
	}
	h := ""
	for _, f := range files {
		b, err := os.ReadFile(f.Dest)
		if f.Stamp {
			continue
		}
		if f.Remove || err != nil || !g.Same(b, f.Content) {
			return false
		}
		h += string(b)
	}
	return g.Mark(files).Content == sum(h)
}

func sum(s string) string {
	h := sha256.Sum256([]byte(s))
	return hex.EncodeToString(h[:8])
}

// rollBack puts the files before back, and has them reloaded too: whoever was told of
// the new ones may have taken them. It returns why, with what else went wrong.
func (g *Group) rollBack(ctx context.Context, tx transaction, files []File, before string, why error) error {
	if err := tx.undo(); err != nil {
		return errors.Join(why, fmt.Errorf("roll back: %w", err))
	}
	if g.Reloader == nil {
		return why
	}
	if err := g.reload(ctx, before); err != nil {
		why = errors.Join(why, fmt.Errorf("reload of the files before: %w", err))
		// what runs is not known: the mark must not say that all is well
		if err := g.clearMark(files); err != nil {
			why = errors.Join(why, err)
		}
	}
	return why
}

// reload has the reloader work. Begun, it is not cut off at once when ctx ends: half a
// reload is worse than a late stop.
func (g *Group) reload(ctx context.Context, generation string) error {
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
	return g.Reloader.Reload(own, generation)
}

// Touch reloads for a set that is on disk already and was not applied.
func (g *Group) Touch(ctx context.Context, files []File) (s Stages, err error) {
	unlock, err := g.lock(files)
	if err != nil {
		return s, err
	}
	defer unlock()
	if g.Reloader != nil {
		began := time.Now()
		err = g.reload(ctx, Generation(files))
		s.Reload = time.Since(began)
	}
	if err != nil {
		return s, fmt.Errorf("reload: %w", err)
	}
	if err := g.setMark(files, true); err != nil {
		return s, err
	}
	return s, g.remember(files)
}

// Check stages the set and has it judged; nothing goes live.
func (g *Group) Check(ctx context.Context, files []File) error {
	unlock, err := g.lock(files)
	if err != nil {
		return err
	}
	defer unlock()
	tx := g.begin(files)
	staged, err := tx.stage()
	defer tx.discard()
	if err != nil {
		return fmt.Errorf("stage: %w", err)
	}
	return g.judge(ctx, staged, func() error { return nil })
}
