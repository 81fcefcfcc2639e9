package checks

import (
	"context"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// ttl turns a check critical when its last report runs out. A new report changes the
// wanted expiry, which starts this anew.
func (r *Runner) ttl(ctx context.Context, id string, w Wanted) {
	wait := time.Duration(w.Def.TTL)
	if !w.Expires.IsZero() {
		wait = time.Until(w.Expires)
	}
	timer := time.NewTimer(max(wait, 0))
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return
	case <-timer.C:
	}
	output := "TTL expired"
	if w.Output != "" {
		output = "TTL expired (" + "last output before timeout follows): " + w.Output
	}
	r.cfg.Report(id, api.Critical, output)
	<-ctx.Done()
}
