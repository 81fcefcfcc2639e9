package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"log/syslog"
	"os"
	"strings"
	"syscall"

	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/internal/client"
	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/templater/internal/config"
	"github.com/rollcall/rollcall/templater/internal/logfile"
	"github.com/rollcall/rollcall/templater/internal/run"
	"github.com/rollcall/rollcall/templater/internal/watch"
)

// process is what lives through reloads.
type process struct {
	in     *config.Invocation
	level  *slog.LevelVar
	log    *slog.Logger
	stdout io.Writer
}

// running is one configuration with what runs for it.
type running struct {
	cfg    *config.Config
	client *consul.Client
	pool   *watch.Pool
	runner *run.Runner
}

// openLog makes the log: to stderr, and to a file and syslog if they are wanted.
func (p *process) openLog(cfg *config.Config, stderr io.Writer) (closeLog func(), err error) {
	p.level = new(slog.LevelVar)
	level, err := daemon.Level(cfg.LogLevel)
	if err != nil {
		return nil, err
	}
	p.level.Set(level)
	to, closeLog := []io.Writer{stderr}, func() {}
	if f := cfg.LogFile; f.Path != "" {
		file, err := logfile.Open(f.Path, f.Bytes, f.Duration, f.MaxFiles)
		if err != nil {
			return nil, err
		}
		to, closeLog = append(to, file), func() { file.Close() }
	}
	if cfg.Syslog.Enabled {
		w, err := openSyslog(cfg.Syslog)
		if err != nil {
			closeLog()
			return nil, err
		}
		to = append(to, w)
	}
	p.log = daemon.Logger(io.MultiWriter(to...), p.level, cfg.LogJSON)
	return closeLog, nil
}

// facilities are syslog's, by name.
var facilities = []string{"KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP",
	"", "", "", "", "LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7"}

func openSyslog(cfg config.Syslog) (io.Writer, error) {
	facility, name := strings.ToUpper(cfg.Facility), cfg.Name
	if facility == "" {
		facility = "LOCAL0"
	}
	if name == "" {
		name = "templater"
	}
	for i, f := range facilities {
		if f == facility {
			w, err := syslog.New(syslog.Priority(i<<3)|syslog.LOG_INFO, name)
			if err != nil {
				return nil, fmt.Errorf("syslog: %w", err)
			}
			return w, nil
		}
	}
	return nil, fmt.Errorf("syslog: there is no facility %q; LOCAL0 is the default", cfg.Facility)
}

func (p *process) prepare(cfg *config.Config) (*running, error) {
	s := cfg.Consul.SSL
	c, err := client.New(client.Options{
		Address: cfg.Consul.Address, Token: cfg.Consul.Token, TokenFile: cfg.Consul.TokenFile, Auth: cfg.Consul.Auth.String(),
		TLS: s.Enabled != nil && *s.Enabled, Insecure: s.Verify != nil && !*s.Verify, CAFile: s.CACert, CA: s.CACertPEM, CAPath: s.CAPath, Cert: s.Cert, Key: s.Key, TLSServerName: s.ServerName,
		Transport: client.Transport(cfg.Consul.Transport),
	})
	if err != nil {
		return nil, err
	}
	own := watch.Config{MaxStale: cfg.MaxStale, Block: cfg.BlockWait, Removal: cfg.RemovalDelay}
	if p.in.Command == "run" && !cfg.Once && !cfg.Dry { // what ends by itself says what is, or that nobody knows
		own.StateFile = cfg.Catalog.StateFile
	}
	if cfg.Once || cfg.Dry {
		own.Tries = cfg.Consul.Retry.Tries()
	}
	pool := watch.New(c, own, p.log)
	runner, err := run.New(cfg, pool, p.log)
	if err != nil {
		return nil, err
	}
	return &running{cfg, c, pool, runner}, nil
}

// extra are signals of the configuration's own, and those that a program beside gets.
func (p *process) extra(cfg *config.Config) []os.Signal {
	var out []os.Signal
	for _, s := range []*config.Signal{cfg.ReloadSignal, cfg.KillSignal} {
		if s != nil && *s != 0 {
			out = append(out, syscall.Signal(*s))
		}
	}
	if !cfg.Exec.Command.Empty() {
		out = append(out, syscall.SIGUSR2, syscall.SIGQUIT, syscall.SIGWINCH, syscall.SIGCONT)
	}
	return out
}

// once renders and applies, or prints, and ends.
func (p *process) once(ctx context.Context, r *running) error {
	ctx, cancel := bounded(ctx, r.cfg.Timeout)
	defer cancel()
	if r.cfg.Dry {
		return r.runner.Print(ctx, p.stdout)
	}
	if err := r.runner.Recover(); err != nil {
		return err
	}
	return r.runner.Once(ctx)
}
