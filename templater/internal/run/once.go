package run

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/rollcall/rollcall/templater/internal/apply"
)

// renderAll renders until everything has its data, then calls use, which may ask the
// groups. A fault of a template ends it, and so does ctx, with the names of what is
// missing.
func (r *Runner) renderAll(ctx context.Context, use func(context.Context) error) error {
	own, cancel := context.WithCancel(ctx)
	defer r.pool.Wait()
	defer cancel()
	again := time.NewTicker(turn) // keys that are not there yet, and files, say nothing
	defer again.Stop()
	for {
		r.pass(own)
		ready := true
		for _, g := range r.groups {
			if err := g.fault(); err != nil {
				return err
			}
			ready = ready && g.complete()
		}
		if ready {
			return use(own)
		}
		if err := r.lookup(); err != nil {
			return err
		}
		if err := r.pool.Lost(); err != nil {
			return fmt.Errorf("the catalog does not answer, as often as consul.retry has it asked: %w", err)
		}
		select {
		case <-ctx.Done():
			return r.stillMissing(context.Cause(ctx))
		case <-r.pool.Changed():
		case <-again.C:
		}
	}
}

func (r *Runner) stillMissing(why error) error {
	if errors.Is(why, context.DeadlineExceeded) {
		why = errors.New("the time is up")
	}
	var waits []string
	for _, g := range r.groups {
		for _, dest := range slices.Sorted(maps.Keys(g.state.Missing)) {
			waits = append(waits, fmt.Sprintf("%s waits for %s", dest, strings.Join(g.state.Missing[dest], ", ")))
		}
	}
	if r.pool.Down() {
		waits = append(waits, "the catalog does not answer")
	}
	if len(waits) == 0 {
		return why
	}
	return fmt.Errorf("%w: %s", why, strings.Join(waits, "; "))
}

// Once renders all and applies all, and gives what went wrong.
func (r *Runner) Once(ctx context.Context) error {
	return r.renderAll(ctx, func(ctx context.Context) error {
		for _, g := range r.groups {
			if err := g.once(ctx); err != nil {
				return fmt.Errorf("group %s: %w", g.name, err)
			}
		}
		return nil
	})
}

// Print renders all and writes it out; nothing is touched.
func (r *Runner) Print(ctx context.Context, out io.Writer) error {
	return r.renderAll(ctx, func(context.Context) error {
		for _, g := range r.groups {
			for _, f := range g.compose().files {
				if !f.Remove {
					fmt.Fprintf(out, "> %s\n%s", f.Dest, f.Content)
				}
			}
		}
		return nil
	})
}

// Change is a file that an apply would touch.
type Change struct {
	Dest          string
	Before, After []byte // nil: it is not there
	Dress         string // what of its mode or owner changes
}

// Plan renders all and gives what differs from the disk. Where the time is up before all
// has its data, it gives that of the groups that have theirs, with an error that says what
// the others wait for.
func (r *Runner) Plan(ctx context.Context) ([]Change, error) {
	err := r.renderAll(ctx, func(context.Context) error { return nil })
	if err != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, err
	}
	var changes []Change
	for _, g := range r.groups {
		if !g.complete() {
			continue
		}
		own, fault := g.changes()
		if fault != nil {
			return nil, errors.Join(fault, err)
		}
		changes = append(changes, own...)
	}
	return changes, err
}

// changes compares the group's files as they shall be with the disk.
func (g *group) changes() (changes []Change, err error) {
	for _, f := range g.compose().files {
		before, err := os.ReadFile(f.Dest)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		c := Change{Dest: f.Dest}
		if err == nil {
			c.Before = append([]byte{}, before...)
		}
		if !f.Remove {
			c.After = append([]byte{}, f.Content...)
			c.Dress = f.Undressed()
		}
		if (c.Before == nil) != (c.After == nil) || !bytes.Equal(c.Before, c.After) || c.Dress != "" {
			changes = append(changes, c)
		}
	}
	return changes, nil
}

// Check renders all and has each group's check judge it; nothing goes live.
func (r *Runner) Check(ctx context.Context) error {
	return r.renderAll(ctx, func(ctx context.Context) error {
		var errs []error
		for _, g := range r.groups {
			if err := g.apply.Check(ctx, g.compose().files); err != nil {
				errs = append(errs, fmt.Errorf("group %s: %w", g.name, err))
			}
		}
		return errors.Join(errs...)
	})
}

// Rollback brings back the set that a group had back generations before, and has it stay;
// with 0 the group follows the catalog again. It returns the generation.
func (r *Runner) Rollback(ctx context.Context, name string, back int) (string, error) {
	var g *group
	var known []string
	for _, c := range r.groups {
		known = append(known, c.name)
		if c.name == name {
			g = c
		}
	}
	if g == nil {
		return "", fmt.Errorf("there is no group %q; there are: %s", name, strings.Join(known, ", "))
	}
	paths := g.paths()
	if back == 0 {
		return "", g.apply.Pin(paths, "")
	}
	past, err := g.apply.Back(paths, back)
	if err != nil {
		return "", err
	}
	// first, so that a templater that runs does not take it back at once
	before := g.apply.Pinned(paths)
	if err := g.apply.Pin(paths, past.Generation); err != nil {
		return "", err
	}
	g.apply.Instances = past.Instances
	if _, err := g.apply.Apply(ctx, past.Files); err != nil && !errors.Is(err, apply.ErrNotRunning) {
		return "", errors.Join(err, g.apply.Pin(paths, before))
	}
	return past.Generation, nil
}
