package checks

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// osServiceProbe asks systemd for the state of a unit: active passes, one that is on its
// way up or down warns, all else is critical.
func osServiceProbe(def *api.CheckDefinition) probe {
	return func(ctx context.Context) (string, string) {
		out := &tail{limit: 256}
		err := run(ctx, out, []string{"systemctl", "is-active", "--", def.OSService})
		state := strings.TrimSpace(out.String())
		var exit *exec.ExitError
		switch {
		case timedOut(ctx):
			return api.Critical, fmt.Sprintf("Timed out (%s) asking for service %s", timeout(def), def.OSService)
		case err != nil && !errors.As(err, &exit): // is-active exits with 3 where it is not
			return api.Critical, fmt.Sprintf("service %s: %v; os_service checks need systemd's systemctl", def.OSService, err)
		}
		if state == "" || strings.ContainsAny(state, " \n") { // not a state: a host that systemd does not run
			return api.Critical, fmt.Sprintf("service %s: systemctl says: %s", def.OSService, state)
		}
		return unitStatus(state), fmt.Sprintf("Service %s is %s", def.OSService, state)
	}
}

// unitStatus is what a unit's state, as systemd words it, means.
func unitStatus(state string) string {
	switch state {
	case "active", "reloading", "refreshing":
		return api.Passing
	case "activating", "deactivating", "maintenance":
		return api.Warning
	}
	return api.Critical
}
