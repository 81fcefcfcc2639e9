package config

// ignored are keys of today's configurations that belong to features Rollcall leaves
// out, or that have nothing to tune here. They are accepted with a warning.
var ignored = []string{
	// The service mesh, peering, and what only the enterprise edition has.
	"acl.tokens.managed_service_provider", "audit", "auto_config", "auto_encrypt", "autopilot.disable_upgrade_migration",
	"autopilot.redundancy_zone_tag", "autopilot.upgrade_version_tag", "cloud", "config_entries", "connect.*", "dns_config.prefer_namespace",
	"enable_central_service_config", "experiments", "license_path", "locality", "namespace", "non_voting_server", "partition", "peering",
	"ports.expose_max_port", "ports.expose_min_port", "ports.grpc_tls", "ports.proxy_max_port", "ports.proxy_min_port",
	"ports.sidecar_max_port", "ports.sidecar_min_port", "addresses.grpc_tls", "primary_gateways", "primary_gateways_interval", "read_replica", "reporting",
	"segment", "segments", "tls.grpc.use_auto_cert", "ui_config.dashboard_url_templates", "ui_config.metrics_provider",
	"ui_config.metrics_provider_files", "ui_config.metrics_provider_options_json", "ui_config.metrics_proxy", "xds",

	// Nothing to tune here.
	"acl_enforce_version_8", "cache", "disable_anonymous_signature", "disable_update_check", "raft_boltdb", "raft_logstore", "rpc",
	"tls_prefer_server_cipher_suites", "use_streaming_backend", "version", "performance.grpc_keepalive_interval", "performance.grpc_keepalive_timeout",
	"telemetry.circonus_*", "telemetry.disable_compat_1.9", "telemetry.disable_per_tenancy_usage_metrics", "telemetry.enable_host_metrics",
	"telemetry.retry_failed_connection", "performance.enable_xds_load_balancing",

	// Gone before 1.0.
	"addresses.rpc", "atlas_*", "ports.rpc", "reap", "retry_join_azure", "retry_join_ec2", "retry_join_gce",
}
