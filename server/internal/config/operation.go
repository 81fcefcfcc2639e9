package config

import (
	"strings"
	"time"
)

// Operation is what whoever runs the agent wants of it.
type Operation struct {
	LogLevel          string        `config:"log_level"` // default info
	LogJSON           bool          `config:"log_json"`
	LogFile           string        `config:"log_file"`             // beside standard error; a directory (ending in /) or a file
	LogRotateBytes    int           `config:"log_rotate_bytes"`     // a new file after so many bytes; 0 = by time only
	LogRotateDuration time.Duration `config:"log_rotate_duration"`  // a new file after this time; default 24h
	LogRotateMaxFiles int           `config:"log_rotate_max_files"` // old files to keep; 0 = all, -1 = none
	Syslog            bool          `config:"enable_syslog"`
	SyslogFacility    string        `config:"syslog_facility"` // default LOCAL0
	PIDFile           string        `config:"pid_file"`
	EnableDebug       bool          `config:"enable_debug"`       // serve /debug/pprof
	AutoReload        bool          `config:"auto_reload_config"` // reload when a configuration file changes
	Telemetry         Telemetry     `config:"telemetry"`

	// Where telemetry went before 1.0; settle folds it in.
	LegacyStatsd     string   `config:"statsd_addr"`
	LegacyStatsite   string   `config:"statsite_addr"`
	LegacyPrefix     string   `config:"statsite_prefix"`
	LegacyDogstatsd  string   `config:"dogstatsd_addr"`
	LegacyDogstatTag []string `config:"dogstatsd_tags"`
}

// Telemetry is where metrics go and which.
type Telemetry struct {
	Statsd          string        `config:"statsd_address"`            // host:port, over UDP
	Statsite        string        `config:"statsite_address"`          // host:port, over TCP
	Dogstatsd       string        `config:"dogstatsd_addr"`            // host:port, over UDP, with tags
	DogstatsdTags   []string      `config:"dogstatsd_tags"`            // "key:value"
	DisableHostname bool          `config:"disable_hostname"`          // do not begin gauges' names with the host's name
	PrefixFilter    []string      `config:"prefix_filter"`             // "+name" lets through, "-name" holds back; the longest counts
	FilterDefault   *bool         `config:"filter_default"`            // what no prefix names; default true
	Prefix          string        `config:"metrics_prefix"`            // default consul
	Retention       time.Duration `config:"prometheus_retention_time"` // accepted: metrics in Prometheus's form are there always
}

func (o *Operation) settle() {
	t := &o.Telemetry
	first(&t.Statsd, o.LegacyStatsd)
	first(&t.Statsite, o.LegacyStatsite)
	first(&t.Dogstatsd, o.LegacyDogstatsd)
	if len(t.DogstatsdTags) == 0 {
		t.DogstatsdTags = o.LegacyDogstatTag
	}
	instead(&t.Prefix, "consul", o.LegacyPrefix)
	defaultTo(&t.FilterDefault, true)
	if o.SyslogFacility == "" {
		o.SyslogFacility = "LOCAL0"
	}
}

func (t *Telemetry) faults(fault func(bool, string, ...any)) {
	for _, p := range t.PrefixFilter {
		fault(!strings.HasPrefix(p, "+") && !strings.HasPrefix(p, "-"), "telemetry.prefix_filter %q: begin with + to let through or - to hold back", p)
	}
	for _, tag := range t.DogstatsdTags {
		fault(strings.ContainsAny(tag, "|#,\n"), "telemetry.dogstatsd_tags %q: give key:value, without | # and commas", tag)
	}
	for key, addr := range map[string]string{"statsd_address": t.Statsd, "statsite_address": t.Statsite, "dogstatsd_addr": t.Dogstatsd} {
		fault(addr != "" && !strings.Contains(addr, ":"), "telemetry.%s %q: give host:port", key, addr)
	}
}

// Watch is a query whose answer, whenever it changes, goes to a handler.
type Watch struct {
	Type       string `config:"type"` // key, keyprefix, services, nodes, service, checks or event
	Datacenter string `config:"datacenter"`
	Token      string `config:"token"`
	Stale      bool   `config:"stale"`
	Filter     string `config:"filter"`

	Key         string   `config:"key"`
	Prefix      string   `config:"prefix"`
	Service     string   `config:"service"`
	Tag         []string `config:"tag"`
	PassingOnly bool     `config:"passingonly"`
	State       string   `config:"state"`
	Name        string   `config:"name"`

	Handler     string       `config:"handler"`      // for the shell
	Args        []string     `config:"args"`         // a program with its arguments
	HandlerType string       `config:"handler_type"` // script (default) or http
	HTTP        WatchHandler `config:"http_handler_config"`
}

// WatchHandler is a URL that gets a watch's answers.
type WatchHandler struct {
	Path          string              `config:"path"`
	Method        string              `config:"method"`  // default POST
	Timeout       time.Duration       `config:"timeout"` // default 10s
	Header        map[string][]string `config:"header"`
	TLSSkipVerify bool                `config:"tls_skip_verify"`
}

// String names a watch in logs, without its token.
func (w *Watch) String() string { return w.Query().String() }
