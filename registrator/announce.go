package main

import (
	"context"
	"slices"

	"github.com/rollcall/rollcall/internal/announce"
	"github.com/rollcall/rollcall/internal/buildinfo"
)

// maxBirths is how many of the last registrations are told, and of their ends.
const maxBirths = 24

// announce tells the catalog how this registrator is, until ctx ends.
func (p *program) announce(ctx context.Context) error {
	return announce.Run(ctx, p.client, announce.Registrator, buildinfo.Version, func() announce.Report {
		st := p.reconcile.State()
		rep := announce.Report{Fault: st.Err, Standby: st.Standby}
		births, err := p.reconcile.Births(ctx, maxBirths)
		if err != nil {
			return rep // the end
		}
		verdicts, err := p.reconcile.Verdicts(ctx)
		if err != nil {
			return rep
		}
		decisions, err := p.reconcile.Decisions(ctx)
		if err != nil {
			return rep
		}
		services := 0
		for _, v := range verdicts {
			services += len(v.Services)
		}
		rep.Facts = []announce.Fact{{Name: "container", Value: len(verdicts)}, {Name: "service", Value: services}}
		for _, b := range births {
			rep.Births = append(rep.Births, announce.Birth{Service: b.ID, Started: b.Started, Registered: b.Finished})
		}
		for _, d := range slices.Backward(decisions) { // the latest come first
			if d.Op == "deregister" && d.Err == "" {
				rep.Ends = append(rep.Ends, announce.End{Service: d.ID, At: d.At, Why: d.Why})
			}
		}
		rep.Ends = rep.Ends[max(0, len(rep.Ends)-maxBirths):]
		return rep
	}, p.log)
}
