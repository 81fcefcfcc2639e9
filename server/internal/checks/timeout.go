package checks

import (
	"context"
	"errors"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// Timeouts of one look, where the definition says none.
const (
	defaultTimeout = 10 * time.Second
	commandTimeout = 30 * time.Second // scripts, docker and os_service
)

// errTimeout is why a look was ended.
var errTimeout = errors.New("timed out")

func timeout(def *api.CheckDefinition) time.Duration {
	if def.Timeout > 0 {
		return time.Duration(def.Timeout)
	}
	switch def.Kind() {
	case "script", "docker", "os_service":
		return commandTimeout
	}
	return defaultTimeout
}

// timedOut reports whether ctx ended because a look took too long.
func timedOut(ctx context.Context) bool { return context.Cause(ctx) == errTimeout }
