package run

import (
	"context"
	"path/filepath"

	"github.com/fsnotify/fsnotify"
)

// follow watches the directories of templates: editors replace files, and a symbolic
// link may be led elsewhere, so a watch on the file itself would go blind.
func (r *Runner) follow() error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	for _, g := range r.groups {
		for _, s := range g.sources {
			if s.cfg.Source == "" {
				continue
			}
			for _, p := range []string{s.cfg.Source, resolved(s.cfg.Source)} {
				if err := w.Add(filepath.Dir(p)); err != nil {
					w.Close()
					return err
				}
			}
		}
	}
	r.files = w
	return nil
}

func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	return path
}

// forward turns events into a hint to look.
func (r *Runner) forward(ctx context.Context) {
	defer r.files.Close()
	for {
		select {
		case <-ctx.Done():
			return
		case e, ok := <-r.files.Events:
			if !ok {
				return
			}
			if e.Op == fsnotify.Chmod {
				continue
			}
			r.hint()
		case _, ok := <-r.files.Errors: // events were lost: look
			if !ok {
				return
			}
			r.hint()
		}
	}
}

func (r *Runner) hint() {
	select {
	case r.edited <- struct{}{}:
	default:
	}
}
