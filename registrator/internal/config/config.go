// Package config is what the registrator is told: flags, environment, and the address of
// the catalog. It keeps gliderlabs/registrator's flags and meanings, adds ours, and
// refuses what it does not understand with one line that says what to write instead. It
// reads the environment, resolves -ip, and does nothing else; main calls it once.
package config

import (
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/rollcall/rollcall/registrator/internal/mapping"
	"github.com/rollcall/rollcall/registrator/internal/reconcile"
	"github.com/rollcall/rollcall/registrator/internal/watcher"
)

// Config is everything that can be set.
type Config struct {
	URI string // of the catalog, the one argument

	Docker string // where the engine is; see internal/docker
	Host   string // first part of service ids; the engine's host name when empty
	Owner  string // marker of our entries; the engine's id when empty

	Mapping   mapping.Config
	Reconcile reconcile.Config
	Resync    time.Duration // 30s; 0: never
	DrainMax  time.Duration // 10m

	Exits         watcher.Exits // whose entries stay when they end
	DockerLost    time.Duration // the engine away for so long: entries out of service; 0: never
	Lock          string        // key of the lock that the active registrator holds; empty: none
	RetryAttempts int           // at the start only; -1: for ever
	RetryInterval time.Duration

	Listen    string // of the status pages; empty: none
	ListenSet bool   // somebody chose it
	LogJSON   bool
	Announce  bool // tell the catalog how this registrator is
	LogLevel  string
	DryRun    bool
	Once      bool
	Plan      bool // the command plan
	JSON      bool // plan and dry run as JSON
	Check     bool // the command healthcheck
	Version   bool
	Help      bool
}

// values are flags as they are written, before they are understood.
type values struct {
	Config
	internal              bool
	resync, ttl, ttlEvery string
	retryInterval         string
	deregister, onExit    string
	drain                 string
	tags, address         string
	networks              string
	meta                  list
	filters               conditions
	health                string
	healthDeregister      time.Duration
	logFormat             string
}

// Default is the configuration of an empty command line.
func Default() Config { return defaults().Config }

func defaults() *values {
	v := &values{}
	v.Resync, v.DrainMax, v.RetryAttempts, v.RetryInterval = 30*time.Second, 10*time.Minute, -1, 2*time.Second
	v.Listen, v.LogLevel = "127.0.0.1:9107", "info"
	v.Mapping = mapping.Config{
		Prefix: "SERVICE_", Address: mapping.AddressPublished, Family: mapping.FamilyIPv4, Suffix: mapping.SuffixAuto,
		Health: true, HealthStarting: "critical", HealthTTL: 15 * time.Minute, DeregisterAfter: 72 * time.Hour,
	}
	v.Reconcile = reconcile.Config{Drain: reconcile.DrainDeregister, Adopt: reconcile.AdoptUnowned, OnShutdown: reconcile.ShutdownKeep}
	v.healthDeregister = v.Mapping.DeregisterAfter
	return v
}

// Parse reads arguments (without the program's name) and the environment.
func Parse(args, environ []string) (*Config, error) {
	v := defaults()
	fs := v.flags()
	rest, err := parse(fs, args, environ)
	if errors.Is(err, flag.ErrHelp) {
		v.Help, err = true, nil
	}
	if err != nil {
		return nil, err
	}
	if v.Help || v.Version {
		return &v.Config, nil
	}
	if len(rest) > 0 && (rest[0] == "plan" || rest[0] == "healthcheck") {
		v.Plan, v.Check, rest = rest[0] == "plan", rest[0] == "healthcheck", rest[1:]
	}
	if v.Check && len(rest) == 0 {
		rest = []string{"consul://"} // it is not asked
	}
	if v.JSON && !v.Plan && !v.DryRun {
		return nil, errors.New("-json goes with the command plan, or with -dry-run")
	}
	fs.Visit(func(f *flag.Flag) { v.ListenSet = v.ListenSet || f.Name == "listen" })
	switch len(rest) {
	case 1:
		v.URI = rest[0]
	case 0:
		return nil, errors.New("the catalog's address is missing: registrator [flags] consul://127.0.0.1:8500 (registrator -h explains)")
	default:
		return nil, fmt.Errorf("one catalog address is needed, there are %d: %s", len(rest), strings.Join(rest, " "))
	}
	if _, err := Catalog(v.URI); err != nil {
		return nil, err
	}
	if err := v.understand(); err != nil {
		return nil, err
	}
	return &v.Config, nil
}
