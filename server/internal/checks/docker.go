package checks

import (
	"context"
	"fmt"

	"github.com/rollcall/rollcall/internal/api"
)

// dockerProbe runs a command inside a container; its exit code means what a script's
// does. A container that is gone is critical. The engine cannot stop a command: one that
// goes beyond the timeout goes on in its container.
func (r *Runner) dockerProbe(def *api.CheckDefinition) probe {
	cmd := def.Args
	if len(cmd) == 0 {
		sh := def.Shell
		if sh == "" {
			sh = "/bin/sh" // the container's; what this agent's user likes says nothing about it
		}
		cmd = []string{sh, "-c", def.Script}
	}
	size := r.outputSize(def)
	return func(ctx context.Context) (string, string) {
		if r.cfg.Docker == nil {
			return api.Critical, "this agent has no way to a Docker engine"
		}
		out := &tail{limit: size}
		code, err := r.cfg.Docker.Exec(ctx, def.DockerContainerID, cmd, out)
		switch {
		case timedOut(ctx):
			return api.Critical, fmt.Sprintf("Timed out (%s) running check", timeout(def))
		case err != nil:
			return api.Critical, err.Error()
		}
		return byExitCode(code), captured(out)
	}
}
