package watch

import (
	"time"

	"github.com/rollcall/rollcall/templater/internal/render"
)

// departed are the instances of one dependency that the catalog has no more, and that
// stay for a while: agents restart, checks flap, and a change and its taking back cost
// two reloads. Nobody waits for one that comes back.
type departed map[string]time.Time // by node and id: when it vanished, kept till it expires

func key(i *render.Instance) string { return i.Node + "\x00" + i.ID }

// delayed gives the list with those that vanished lately. p.mu is held.
func (p *Pool) delayed(d render.Dependency, e *entry, list []*render.Instance) []*render.Instance {
	now := time.Now()
	here := map[string]bool{}
	for _, i := range list {
		here[key(i)] = true
		delete(e.gone, key(i))
	}
	before, _ := e.value.([]*render.Instance)
	out := append([]*render.Instance{}, list...)
	for _, i := range before {
		k := key(i)
		if here[k] {
			continue
		}
		at, known := e.gone[k]
		if !known {
			at = now
			if e.gone == nil {
				e.gone = departed{}
			}
			e.gone[k] = now
		}
		if now.Sub(at) < p.cfg.Removal {
			out = append(out, i)
			time.AfterFunc(p.cfg.Removal-now.Sub(at), p.poke) // a look then lets it go
			continue
		}
		delete(e.gone, k)
	}
	if d.Near == "" {
		sortInstances(out)
	}
	return out
}

// expire reports whether some instance's time is up.
func (g departed) expire(now time.Time, after time.Duration) bool {
	for _, at := range g {
		if now.Sub(at) >= after {
			return true
		}
	}
	return false
}

// without drops those whose time is up.
func (g departed) without(list []*render.Instance, now time.Time, after time.Duration) []*render.Instance {
	out := []*render.Instance{}
	for _, i := range list {
		if at, gone := g[key(i)]; gone && now.Sub(at) >= after {
			delete(g, key(i))
			continue
		}
		out = append(out, i)
	}
	return out
}
