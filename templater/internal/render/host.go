package render

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"text/template"
	"time"

	"github.com/davecgh/go-spew/spew"
	sockaddr "github.com/hashicorp/go-sockaddr/template"
)

// hostFuncs ask this host, or help to look into a template.
var hostFuncs = template.FuncMap{
	"sockaddr":     func(args ...string) (string, error) { return sockaddr.Parse("{{ " + strings.Join(args, " ") + " }}") },
	"plugin":       plugin,
	"spew_dump":    func(v ...any) string { return spew.Sdump(v...) },
	"spew_sdump":   func(v ...any) string { return spew.Sdump(v...) },
	"spew_printf":  func(format string, v ...any) string { return spew.Sprintf(format, v...) },
	"spew_sprintf": func(format string, v ...any) string { return spew.Sprintf(format, v...) },
}

// pluginLimit bounds a plugin: rendering waits for it.
const pluginLimit = 30 * time.Second

// plugin runs a program and gives what it prints, without the space around it.
// Arguments are trimmed, and empty ones left out.
func plugin(name string, args ...string) (string, error) {
	if name == "" {
		return "", nil
	}
	var argv []string
	for _, a := range args {
		if a = strings.TrimSpace(a); a != "" {
			argv = append(argv, a)
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), pluginLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, argv...)
	// what it starts ends with it
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return "", fmt.Errorf("plugin %s: no end after %s", name, pluginLimit)
	case errors.As(err, &exit):
		return "", fmt.Errorf("plugin %s: %w: %s", name, err, strings.TrimSpace(string(exit.Stderr)))
	case err != nil:
		return "", fmt.Errorf("plugin %s: %w", name, err)
	}
	return strings.TrimSpace(string(out)), nil
}
