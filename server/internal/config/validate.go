package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/daemon"
	"github.com/rollcall/rollcall/server/internal/seed"
	"github.com/rollcall/rollcall/server/internal/watchplan"
)

var (
	validDC   = regexp.MustCompile(`^[a-z0-9_-]+$`)
	validNode = regexp.MustCompile(`^[^\s/\x00-\x1f]+$`)
)

// Validate reports everything that is wrong, joined, each fault naming its key.
func (c *Config) Validate() error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	wrong := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", key, err))
		}
	}
	fault(!validDC.MatchString(c.Datacenter), "datacenter %q: use lower-case letters, digits, - and _", c.Datacenter)
	fault(!validDC.MatchString(c.PrimaryDC), "primary_datacenter %q: use lower-case letters, digits, - and _", c.PrimaryDC)
	fault(!validNode.MatchString(c.NodeName), "node_name %q: give a name without spaces and slashes (-node)", c.NodeName)
	fault(c.DataDir == "" && !c.Dev, "data_dir must be set: give a directory that outlives restarts (-data-dir), or try things with -dev")
	wrong("node_meta", api.ValidMeta(c.NodeMeta))
	_, err := daemon.Level(c.LogLevel)
	wrong("log_level", err)
	wrong("syslog_facility", validFacility(c.SyslogFacility))
	_, err = c.UnixSockets.Rights()
	wrong("unix_sockets.mode", err)

	c.clusterFaults(fault)
	c.addressFaults(fault)
	c.doorFaults(fault)
	c.ACL.faults(fault)
	c.TLS.InternalRPC.faults("tls.internal_rpc", fault)
	c.TLS.HTTPS.faults("tls.https", fault)
	c.Telemetry.faults(fault)
	fault(c.OutputMaxSize < 1, "check_output_max_size = %d: give 1 or more bytes", c.OutputMaxSize)
	fault(c.LogRotateBytes < 0, "log_rotate_bytes = %d: give a size in bytes, 0 for none", c.LogRotateBytes)
	for _, s := range c.Services {
		wrong(fmt.Sprintf("service %q", s.Name), s.Validate())
	}
	for _, k := range c.Checks {
		wrong(fmt.Sprintf("check %q", k.Name), k.Validate())
	}
	for i, w := range c.Watches {
		wrong(fmt.Sprintf("watches[%d]", i), w.Validate())
	}
	return errors.Join(errs...)
}

func (c *Config) clusterFaults(fault func(bool, string, ...any)) {
	fault(c.Bootstrap && !c.Server, "bootstrap is for servers: add -server, or drop -bootstrap / -bootstrap-expect")
	fault(c.BootstrapExpect > 0 && !c.Server, "bootstrap_expect is for servers: add -server, or drop it")
	fault(c.BootstrapExpect < 0, "bootstrap_expect = %d: give the number of servers, 1 or more", c.BootstrapExpect)
	fault(c.BootstrapExpect > 0 && c.Bootstrap, "bootstrap and bootstrap_expect exclude each other: keep bootstrap_expect")
	fault(c.BootstrapExpect > 0 && c.Dev, "bootstrap_expect does not go with -dev, which is a cluster of one")
	fault(c.Performance.RaftMultiplier < 1 || c.Performance.RaftMultiplier > 10, "performance.raft_multiplier = %d: give 1 to 10", c.Performance.RaftMultiplier)
	fault(c.RaftProtocol != 3, "raft_protocol = %d: 3 is the one there is", c.RaftProtocol)
	fault(c.Autopilot.MaxTrailingLogs < 0, "autopilot.max_trailing_logs = %d: give 0 or more", c.Autopilot.MaxTrailingLogs)
	fault(c.Autopilot.MinQuorum < 0, "autopilot.min_quorum = %d: give 0 or more", c.Autopilot.MinQuorum)
	for _, addr := range slices.Concat(c.RetryJoin, c.RetryJoinWAN) {
		err := seed.Check(addr)
		fault(err != nil && !errors.Is(err, seed.ErrCloud), "retry_join %q: %v", addr, err)
	}
	key, err := base64.StdEncoding.DecodeString(c.Encrypt)
	fault(err != nil || len(key) != 0 && len(key) != 16 && len(key) != 24 && len(key) != 32,
		"encrypt: give the base64 of 16, 24 or 32 bytes, as `rollcall keygen` makes")
	for name, networks := range map[string][]string{"serf_lan_allowed_cidrs": c.SerfLANCIDRs, "serf_wan_allowed_cidrs": c.SerfWANCIDRs} {
		cidrs(name, networks, fault)
	}
}

func cidrs(key string, networks []string, fault func(bool, string, ...any)) {
	for _, n := range networks {
		_, err := netip.ParsePrefix(n)
		fault(err != nil, "%s %q: give a network such as 10.0.0.0/8", key, n)
	}
}

func (c *Config) addressFaults(fault func(bool, string, ...any)) {
	ports := []struct {
		key  string
		port int
	}{
		{"dns", c.Ports.DNS}, {"http", c.Ports.HTTP}, {"https", c.Ports.HTTPS}, {"server", c.Ports.Server},
		{"serf_lan", c.Ports.SerfLAN}, {"serf_wan", c.Ports.SerfWAN},
	}
	for _, p := range ports {
		fault(p.port < -1 || p.port > 65535, "ports.%s = %d: give 1 to 65535, or -1 to turn it off", p.key, p.port)
	}
	for _, a := range []struct{ key, addr string }{
		{"bind_addr", c.BindAddr}, {"advertise_addr", c.AdvertiseAddr}, {"advertise_addr_wan", c.AdvertiseWAN}, {"serf_lan", c.SerfLAN}, {"serf_wan", c.SerfWAN},
	} {
		fault(a.addr != "" && !strings.Contains(a.addr, "{{") && net.ParseIP(strings.Trim(a.addr, "[]")) == nil, "%s %q: give an IP address", a.key, a.addr)
	}
	for _, a := range []struct {
		key, addr string
		four      bool
	}{
		{"advertise_addr_ipv4", c.AdvertiseIPv4, true}, {"advertise_addr_wan_ipv4", c.AdvertiseWANIPv4, true},
		{"advertise_addr_ipv6", c.AdvertiseIPv6, false}, {"advertise_addr_wan_ipv6", c.AdvertiseWANIPv6, false},
	} {
		if ip, err := netip.ParseAddr(a.addr); a.addr != "" && !strings.Contains(a.addr, "{{") {
			fault(err != nil || ip.Is4() != a.four, "%s %q: give an address of that family", a.key, a.addr)
		}
	}
	fault(c.AdvertiseAddr == "0.0.0.0" || c.AdvertiseAddr == "::", "advertise_addr %q: others cannot reach that; give one address of this host", c.AdvertiseAddr)
	fault(c.BindInterface != "" && c.BindAddr != "" && c.BindAddr != Default().BindAddr && !c.Dev,
		"bind_interface and bind_addr exclude each other: keep one of them")
}

func (c *Config) doorFaults(fault func(bool, string, ...any)) {
	cidrs("http_config.allow_write_http_from", c.HTTP.AllowWriteHTTPFrom, fault)
	fault(c.HTTP.MaxHeaderBytes < 0, "http_config.max_header_bytes = %d: give a size in bytes", c.HTTP.MaxHeaderBytes)
	for _, a := range strings.Fields(c.Addresses.HTTPS) {
		fault(strings.HasPrefix(a, "unix://") && c.TLS.HTTPS.CertFile == "", "addresses.https needs a certificate: give tls.https.cert_file and tls.https.key_file")
	}
	switch c.Limits.Requests.Mode {
	case "disabled", "permissive", "enforcing":
	default:
		fault(true, "limits.request_limits.mode %q: give disabled, permissive or enforcing", c.Limits.Requests.Mode)
	}
	for key, rate := range map[string]float64{"read_rate": c.Limits.Requests.ReadRate, "write_rate": c.Limits.Requests.WriteRate} {
		fault(rate < 0 && rate != -1, "limits.request_limits.%s = %g: give a rate a second, or -1 for none", key, rate)
	}
	fault(*c.Limits.MaxConnsPerClient < 0, "limits.http_max_conns_per_client = %d: give a number, 0 for no limit", *c.Limits.MaxConnsPerClient)
	for key, n := range map[string]int{"kv_max_value_size": c.Limits.KVMaxValueSize, "txn_max_req_len": c.Limits.TxnMaxLen} {
		fault(n < 1, "limits.%s = %d: give a size in bytes", key, n)
	}
	switch c.DNS.RecursorStrategy {
	case "sequential", "random":
	default:
		fault(true, "dns_config.recursor_strategy %q: give sequential or random", c.DNS.RecursorStrategy)
	}
	for _, r := range c.Recursors {
		fault(r == "" || strings.ContainsAny(r, " \t/"), "recursors %q: give IP or IP:PORT of a DNS server", r)
	}
	fault(c.DNS.UDPAnswerLimit < 0, "dns_config.udp_answer_limit = %d: give 0 or more", c.DNS.UDPAnswerLimit)
	for key, d := range map[string]time.Duration{"default_query_time": c.DefaultQueryTime, "max_query_time": c.MaxQueryTime} {
		fault(d <= 0, "%s = %s: give a time above 0", key, d)
	}
}

// Query is what a watch follows.
func (w *Watch) Query() watchplan.Query {
	return watchplan.Query{
		Type: w.Type, Datacenter: w.Datacenter, Token: w.Token, Filter: w.Filter, Stale: w.Stale, Key: w.Key, Prefix: w.Prefix,
		Service: w.Service, Tags: w.Tag, PassingOnly: w.PassingOnly, State: w.State, Name: w.Name,
	}
}

// Validate reports what is wrong with a watch.
func (w *Watch) Validate() error {
	if err := w.Query().Validate(); err != nil {
		return err
	}
	switch {
	case w.HandlerType == "http" && w.HTTP.Path == "":
		return errors.New("http_handler_config.path is missing: give the URL to send to")
	case w.HandlerType == "http" && (w.Handler != "" || len(w.Args) > 0):
		return errors.New("handler_type http takes no handler and no args")
	case w.HandlerType == "http":
		return nil
	case w.HandlerType != "" && w.HandlerType != "script":
		return fmt.Errorf("handler_type %q: use script or http", w.HandlerType)
	case w.Handler != "" && len(w.Args) > 0:
		return errors.New("handler and args exclude each other: keep args")
	case w.Handler == "" && len(w.Args) == 0:
		return errors.New("a handler is missing: give args, handler, or handler_type = \"http\"")
	}
	return nil
}

// Rights gives the sockets' mode, 0 where none is set.
func (u UnixSockets) Rights() (uint32, error) {
	if u.Mode == "" {
		return 0, nil
	}
	mode, err := strconv.ParseUint(u.Mode, 8, 32)
	if err != nil || mode > 0o777 {
		return 0, fmt.Errorf("%q is no mode: give octal digits such as \"0770\"", u.Mode)
	}
	return uint32(mode), nil
}

// facilities are syslog's, in the order of their numbers.
var facilities = []string{
	"KERN", "USER", "MAIL", "DAEMON", "AUTH", "SYSLOG", "LPR", "NEWS", "UUCP", "CRON", "AUTHPRIV", "FTP", "", "", "", "",
	"LOCAL0", "LOCAL1", "LOCAL2", "LOCAL3", "LOCAL4", "LOCAL5", "LOCAL6", "LOCAL7",
}

func validFacility(name string) error {
	if Facility(name) < 0 {
		return fmt.Errorf("%q is none of syslog's: use LOCAL0 to LOCAL7, DAEMON or USER", name)
	}
	return nil
}

// Facility gives the number of a syslog facility, -1 if there is none of that name.
func Facility(name string) int {
	for i, f := range facilities {
		if f != "" && strings.EqualFold(f, name) {
			return i
		}
	}
	return -1
}
