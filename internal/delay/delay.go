// Package delay waits for a while, or not so long.
package delay

import (
	"context"
	"time"
)

// For waits for d, or until ctx ends, and tells whether it waited in full.
func For(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
