package main

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/rollcall/rollcall/internal/announce"
	"github.com/rollcall/rollcall/internal/buildinfo"
)

const (
	maxApplies = 16              // of the last applies are told
	behind     = 2 * time.Second // a set that waits longer is told of
)

// announce tells the catalog how this templater is, until ctx ends, if that is wanted.
func (p *process) announce(ctx context.Context, r *running) {
	if !r.cfg.Announce {
		return
	}
	var applies []announce.Apply
	seen := map[string]time.Time{}
	announce.Run(ctx, r.client, announce.Templater, buildinfo.Version, func() announce.Report {
		var rep announce.Report
		room := announce.MaxPlaces
		for _, g := range r.runner.Status() {
			if !g.AppliedAt.IsZero() && !g.AppliedAt.Equal(seen[g.Name]) {
				seen[g.Name] = g.AppliedAt
				took := time.Duration((g.StageMS + g.CheckMS + g.SwapMS + g.ReloadMS) * float64(time.Millisecond))
				applies = append(applies, announce.Apply{Group: g.Name, Index: g.Index, Rendered: g.AppliedAt.Add(-took), At: g.AppliedAt, Reload: g.ReloadMS > 0})
			}
			one := announce.Group{
				Name: g.Name, Ready: g.Ready, Files: g.Generation, Index: g.Index, Applied: g.AppliedAt, Servers: g.Servers,
				Services: g.Services, Fault: g.LastError, Held: g.Held,
			}
			if len(g.Places) <= room {
				one.Places = g.Places
				room -= len(g.Places)
			}
			if !g.Waiting.IsZero() && time.Since(g.Waiting) > behind {
				one.Behind = g.Waiting
			}
			why := cmp.Or(one.Fault, one.Held)
			if !g.AppliedAt.IsZero() && why == "" {
				one.Index = lastIndex(applies, g.Name, g.Index) // what was read since and changed nothing is no news
			}
			rep.Fault = cmp.Or(rep.Fault, why)
			rep.Groups = append(rep.Groups, one)
		}
		slices.SortStableFunc(applies, func(a, b announce.Apply) int { return a.At.Compare(b.At) })
		applies = applies[max(0, len(applies)-maxApplies):]
		rep.Applies = slices.Clone(applies)
		return rep
	}, p.log)
}

// lastIndex is that of a group's last apply.
func lastIndex(applies []announce.Apply, group string, otherwise uint64) uint64 {
	for _, a := range slices.Backward(applies) {
		if a.Group == group {
			return a.Index
		}
	}
	return otherwise
}
