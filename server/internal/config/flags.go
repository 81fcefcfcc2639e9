package config

import "github.com/rollcall/rollcall/internal/config"

// Flag is a command-line flag that sets a key, as a file would. One without a usage is
// accepted and has no meaning.
type Flag struct {
	Name, Key, Usage string
	Bool             bool // may stand without a value
}

// Flags are the agent's flags that set one key each. -dev, -config-file, -config-dir,
// -config-format and -hcl are the agent command's own.
var Flags = []Flag{
	{"server", "server", "run as a server: keep the catalog, vote (3 or 5 a datacenter)", true},
	{"bootstrap", "bootstrap", "a single server that elects itself; never on two servers", true},
	{"bootstrap-expect", "bootstrap_expect", "how many servers to wait for before the first election", false},
	{"node", "node_name", "this agent's name, unique in the cluster (default: the host's name)", false},
	{"node-id", "node_id", "this agent's id, a UUID (default: made once and kept)", false},
	{"node-meta", "node_meta", "a key:value pair kept with the node; repeat for more", false},
	{"datacenter", "datacenter", "the datacenter of this agent (default dc1)", false},
	{"dc", "datacenter", "the old name of -datacenter", false},
	{"data-dir", "data_dir", "where state is kept; must outlive restarts", false},
	{"domain", "domain", "the DNS domain to answer for (default consul.)", false},
	{"alt-domain", "alt_domain", "a second DNS domain", false},
	{"bind", "bind_addr", "address for cluster traffic (default 0.0.0.0)", false},
	{"bind-interface", "bind_interface", "instead of -bind: the network interface whose address to bind", false},
	{"advertise", "advertise_addr", "address that others reach this agent at (default: the bind address)", false},
	{"advertise-wan", "advertise_addr_wan", "the same for other datacenters", false},
	{"client", "client_addr", "addresses for HTTP and DNS (default 127.0.0.1)", false},
	{"serf-lan-bind", "serf_lan", "address for gossip (default: the bind address)", false},
	{"serf-wan-bind", "serf_wan", "address for gossip between datacenters", false},
	{"serf-lan-allowed-cidrs", "serf_lan_allowed_cidrs", "network whose members may gossip; repeat for more (default: all)", false},
	{"serf-wan-allowed-cidrs", "serf_wan_allowed_cidrs", "the same between datacenters", false},
	{"http-port", "ports.http", "HTTP port (default 8500; -1 = off)", false},
	{"https-port", "ports.https", "HTTPS port (default off)", false},
	{"dns-port", "ports.dns", "DNS port (default 8600; -1 = off)", false},
	{"grpc-port", "ports.grpc", "accepted and unused", false},
	{"server-port", "ports.server", "port between servers and from clients (default 8300)", false},
	{"serf-lan-port", "ports.serf_lan", "gossip port (default 8301)", false},
	{"serf-wan-port", "ports.serf_wan", "gossip port between datacenters (default 8302)", false},
	{"join", "start_join", "address of an agent to join at start; fails if none answers; repeat for more", false},
	{"join-wan", "start_join_wan", "the same for a server of another datacenter", false},
	{"retry-join", "retry_join", "address, DNS name or provider=docker label_key=KEY to join, tried until it answers; repeat for more", false},
	{"retry-join-wan", "retry_join_wan", "the same for a server of another datacenter", false},
	{"retry-interval", "retry_interval", "pause between tries to join (default 30s)", false},
	{"retry-interval-wan", "retry_interval_wan", "the same between datacenters", false},
	{"retry-max", "retry_max", "tries to join before giving up (default 0: never)", false},
	{"retry-max-wan", "retry_max_wan", "the same between datacenters", false},
	{"rejoin", "rejoin_after_leave", "join the old cluster again after a leave", true},
	{"encrypt", "encrypt", "gossip key, base64 of 16, 24 or 32 bytes", false},
	{"disable-keyring-file", "disable_keyring_file", "keep no gossip keys on disk", true},
	{"disable-host-node-id", "disable_host_node_id", "accepted; ids are always made at random", true},
	{"enable-script-checks", "enable_script_checks", "run script checks, also those registered over HTTP", true},
	{"enable-local-script-checks", "enable_local_script_checks", "run script checks from configuration files only", true},
	{"allow-write-http-from", "http_config.allow_write_http_from", "network that may write over HTTP; repeat for more", false},
	{"default-query-time", "default_query_time", "how long a blocking query waits unless it says so (default 300s)", false},
	{"max-query-time", "max_query_time", "how long it may wait at most (default 600s)", false},
	{"check_output_max_size", "check_output_max_size", "bytes of a check's output to keep (default 4096)", false},
	{"recursor", "recursors", "DNS server for names outside the domain; repeat for more", false},
	{"log-level", "log_level", "trace, debug, info, warn or error (default info)", false},
	{"log-json", "log_json", "log as JSON", true},
	{"log-file", "log_file", "log into this file too; a name that ends in / is a directory", false},
	{"log-rotate-bytes", "log_rotate_bytes", "begin a new log file after so many bytes (default 0: by time only)", false},
	{"log-rotate-duration", "log_rotate_duration", "begin a new log file after this time (default 24h)", false},
	{"log-rotate-max-files", "log_rotate_max_files", "old log files to keep (default 0: all; -1: none)", false},
	{"syslog", "enable_syslog", "log to the host's syslog too", true},
	{"auto-reload-config", "auto_reload_config", "reload when a configuration file changes", true},
	{"pid-file", "pid_file", "file to write the process id to", false},
	{"protocol", "protocol", "accepted", false},
	{"raft-protocol", "raft_protocol", "accepted: 3", false},
	{"ui", "ui", "serve the web UI at /ui/", true},
	{"ui-dir", "ui_dir", "accepted: the UI is built in", false},
	{"ui-content-path", "ui_config.content_path", "path of the UI (default /ui/)", false},

	// Accepted with a warning, for unit files that have them.
	{"grpc-tls-port", "ports.grpc_tls", "", false},
	{"non-voting-server", "non_voting_server", "", true},
	{"read-replica", "read_replica", "", true},
	{"segment", "segment", "", false},
	{"primary-gateway", "primary_gateways", "", false},
	{"atlas", "atlas_infrastructure", "", false},
	{"atlas-token", "atlas_token", "", false},
	{"atlas-join", "atlas_join", "", true},
	{"atlas-endpoint", "atlas_endpoint", "", false},
	{"retry-join-ec2-region", "retry_join_ec2", "", false},
	{"retry-join-ec2-tag-key", "retry_join_ec2", "", false},
	{"retry-join-ec2-tag-value", "retry_join_ec2", "", false},
	{"retry-join-gce-project-name", "retry_join_gce", "", false},
	{"retry-join-gce-zone-pattern", "retry_join_gce", "", false},
	{"retry-join-gce-tag-value", "retry_join_gce", "", false},
	{"retry-join-gce-credentials-file", "retry_join_gce", "", false},
	{"retry-join-azure-tag-name", "retry_join_azure", "", false},
	{"retry-join-azure-tag-value", "retry_join_azure", "", false},
}

// Source gives the flag with a value as a source. A -node-meta pair is "key:value".
func (f Flag) Source(text string) *config.Source {
	key := f.Key
	if key == "node_meta" {
		return config.PairOf("-"+f.Name, key, text)
	}
	return config.Pair("-"+f.Name, key, text)
}
