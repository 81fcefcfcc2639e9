package agent

import (
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/server/internal/config"
)

// hidden stands where a secret is.
const hidden = "hidden"

// debugConfig is the configuration in force as /v1/agent/self shows it, by Consul's names.
// Secrets are hidden, and so are definitions, which may hold tokens: they are counted.
func debugConfig(cfg *config.Config, addr addresses, id string) map[string]any {
	tcp := func(ip string, port int) string { return "tcp://" + net.JoinHostPort(ip, strconv.Itoa(port)) }
	doors := func(addrs []string, port int) []string {
		out := []string{}
		for _, a := range addrs {
			switch {
			case strings.HasPrefix(a, "unix://"):
				out = append(out, a)
			case port >= 0:
				out = append(out, tcp(a, port))
			}
		}
		return out
	}
	list := func(l []string) []string { return append([]string{}, l...) }
	span := func(d time.Duration) string { return d.String() }
	t, l, d, p := cfg.TLS, cfg.Limits, cfg.DNS, cfg.Telemetry
	return map[string]any{
		"ACLAgentToken": hidden, "ACLAgentRecoveryToken": hidden, "ACLInitialManagementToken": hidden, "ACLReplicationToken": hidden, "ACLToken": hidden,
		"ACLDefaultPolicy": cfg.ACL.DefaultPolicy, "ACLDownPolicy": cfg.ACL.DownPolicy, "ACLEnableKeyListPolicy": cfg.ACL.KeyListPolicy,
		"ACLEnableTokenPersistence": cfg.ACL.TokenPersistence, "ACLPolicyTTL": span(cfg.ACL.PolicyTTL), "ACLRoleTTL": span(cfg.ACL.RoleTTL),
		"ACLTokenReplication": cfg.ACL.TokenReplication, "ACLTokenTTL": span(cfg.ACL.TokenTTL), "ACLsEnabled": cfg.ACL.Enabled, "EncryptKey": hidden,

		"Datacenter": cfg.Datacenter, "PrimaryDatacenter": cfg.PrimaryDC, "NodeID": id, "NodeName": cfg.NodeName, "NodeMeta": meta(cfg.NodeMeta),
		"ServerMode": cfg.Server, "DevMode": cfg.Dev, "DataDir": cfg.DataDir, "Version": buildinfo.Compat, "Revision": buildinfo.Revision, "VersionPrerelease": "",

		"AdvertiseAddrLAN": addr.advertise, "AdvertiseAddrWAN": addr.wan, "BindAddr": addr.bind, "ClientAddrs": list(addr.http), "TaggedAddresses": meta(cfg.Tagged),
		"TranslateWANAddrs": cfg.TranslateWAN, "HTTPAddrs": doors(addr.http, cfg.Ports.HTTP), "HTTPSAddrs": doors(addr.https, cfg.Ports.HTTPS),
		"DNSAddrs": doors(addr.dns, cfg.Ports.DNS), "HTTPPort": cfg.Ports.HTTP, "HTTPSPort": cfg.Ports.HTTPS, "DNSPort": cfg.Ports.DNS, "GRPCPort": cfg.Ports.GRPC,
		"ServerPort": cfg.Ports.Server, "SerfPortLAN": cfg.Ports.SerfLAN, "SerfPortWAN": cfg.Ports.SerfWAN,
		"RPCAdvertiseAddr": tcp(addr.advertise, cfg.Ports.Server), "RPCBindAddr": tcp(addr.bind, cfg.Ports.Server),
		"SerfAdvertiseAddrLAN": tcp(addr.advertise, cfg.Ports.SerfLAN), "SerfAdvertiseAddrWAN": tcp(addr.wan, cfg.Ports.SerfWAN),
		"SerfBindAddrLAN": tcp(addr.serf, cfg.Ports.SerfLAN), "SerfBindAddrWAN": tcp(addr.serfWAN, cfg.Ports.SerfWAN),
		"SerfAllowedCIDRsLAN": list(cfg.SerfLANCIDRs), "SerfAllowedCIDRsWAN": list(cfg.SerfWANCIDRs),
		"UnixSocketGroup": cfg.UnixSockets.Group, "UnixSocketMode": cfg.UnixSockets.Mode, "UnixSocketUser": cfg.UnixSockets.User,

		"Bootstrap": cfg.Bootstrap, "BootstrapExpect": cfg.BootstrapExpect, "LeaveOnTerm": *cfg.LeaveOnTerm, "SkipLeaveOnInt": *cfg.SkipLeaveOnInt,
		"RejoinAfterLeave": cfg.RejoinAfterLeave, "StartJoinAddrsLAN": list(cfg.StartJoin), "StartJoinAddrsWAN": list(cfg.StartJoinWAN),
		"RetryJoinLAN": list(cfg.RetryJoin), "RetryJoinWAN": list(cfg.RetryJoinWAN), "RetryJoinIntervalLAN": span(cfg.RetryInterval),
		"RetryJoinIntervalWAN": span(cfg.RetryIntervalWAN), "RetryJoinMaxAttemptsLAN": cfg.RetryMax, "RetryJoinMaxAttemptsWAN": cfg.RetryMaxWAN,
		"ReconnectTimeoutLAN": span(cfg.ReconnectTimeout), "ReconnectTimeoutWAN": span(cfg.ReconnectWAN), "RPCProtocol": cfg.Protocol, "RaftProtocol": cfg.RaftProtocol,
		"RaftSnapshotThreshold": cfg.SnapshotThreshold, "RaftSnapshotInterval": span(cfg.SnapshotInterval), "RaftTrailingLogs": cfg.TrailingLogs,
		"LeaveDrainTime": span(cfg.Performance.LeaveDrainTime), "RPCHoldTimeout": span(cfg.Performance.RPCHoldTimeout),
		"AutopilotCleanupDeadServers": *cfg.Autopilot.CleanupDeadServers, "AutopilotLastContactThreshold": span(cfg.Autopilot.LastContact),
		"AutopilotMaxTrailingLogs": cfg.Autopilot.MaxTrailingLogs, "AutopilotMinQuorum": cfg.Autopilot.MinQuorum,
		"AutopilotServerStabilizationTime": span(cfg.Autopilot.Stabilization), "DisableCoordinates": cfg.NoCoordinates,

		"EncryptVerifyIncoming": *cfg.EncryptIncoming, "EncryptVerifyOutgoing": *cfg.EncryptOutgoing, "DisableKeyringFile": cfg.NoKeyringFile,
		"CAFile": t.Defaults.CAFile, "CAPath": t.Defaults.CAPath, "CertFile": t.Defaults.CertFile, "KeyFile": hidden, "ServerName": cfg.ServerName,
		"TLSMinVersion": t.HTTPS.MinVersion, "VerifyIncomingHTTPS": *t.HTTPS.VerifyIncoming, "VerifyIncomingRPC": *t.InternalRPC.VerifyIncoming,
		"VerifyOutgoing": *t.InternalRPC.VerifyOutgoing, "VerifyServerHostname": *t.InternalRPC.VerifyHostname,

		"HTTPBlockEndpoints": list(cfg.HTTP.BlockEndpoints), "HTTPResponseHeaders": meta(cfg.HTTP.ResponseHeaders), "AllowWriteHTTPFrom": list(cfg.HTTP.AllowWriteHTTPFrom),
		"HTTPMaxHeaderBytes": cfg.HTTP.MaxHeaderBytes, "HTTPUseCache": *cfg.HTTP.UseCache, "HTTPMaxConnsPerClient": *l.MaxConnsPerClient,
		"HTTPSHandshakeTimeout": span(l.HTTPSHandshake), "RPCHandshakeTimeout": span(l.RPCHandshake), "RPCClientTimeout": span(l.RPCClientTimeout),
		"RPCRateLimit": l.RPCRate, "RPCMaxBurst": l.RPCMaxBurst, "RPCMaxConnsPerClient": *l.RPCMaxConns, "KVMaxValueSize": l.KVMaxValueSize, "TxnMaxReqLen": l.TxnMaxLen,
		"RequestLimitsMode": l.Requests.Mode, "RequestLimitsReadRate": l.Requests.ReadRate, "RequestLimitsWriteRate": l.Requests.WriteRate,
		"DefaultQueryTime": span(cfg.DefaultQueryTime), "MaxQueryTime": span(cfg.MaxQueryTime), "DiscoveryMaxStale": span(cfg.DiscoveryMaxStale),
		"DisableHTTPUnprintableCharFilter": cfg.AllowUnprintable, "EnableDebug": cfg.EnableDebug, "EnableUI": cfg.UI,
		"UIConfig": map[string]any{"Enabled": cfg.UI, "ContentPath": cfg.UIConfig.ContentPath},

		"DNSDomain": cfg.Domain, "DNSAltDomain": cfg.AltDomain, "DNSARecordLimit": d.ARecordLimit, "DNSAllowStale": *d.AllowStale, "DNSDisableCompression": d.NoCompression,
		"DNSEnableTruncate": d.EnableTruncate, "DNSMaxStale": span(d.MaxStale), "DNSNodeMetaTXT": *d.NodeMetaTXT, "DNSNodeTTL": span(d.NodeTTL), "DNSOnlyPassing": d.OnlyPassing,
		"DNSRecursorStrategy": d.RecursorStrategy, "DNSRecursorTimeout": span(d.RecursorTimeout), "DNSRecursors": list(cfg.Recursors), "DNSUDPAnswerLimit": d.UDPAnswerLimit,
		"DNSSOA": map[string]any{"Refresh": d.SOA.Refresh, "Retry": d.SOA.Retry, "Expire": d.SOA.Expire, "Minttl": d.SOA.MinTTL}, "DNSUseCache": d.UseCache,

		"Services": len(cfg.Services), "Checks": len(cfg.Checks), "Watches": len(cfg.Watches), "CheckOutputMaxSize": cfg.OutputMaxSize,
		"CheckUpdateInterval": span(*cfg.UpdateInterval), "CheckReapInterval": span(sweepEvery), "CheckDeregisterIntervalMin": "1m0s", "DiscardCheckOutput": cfg.DiscardOutput,
		"EnableLocalScriptChecks": cfg.EnableLocalScripts, "EnableRemoteScriptChecks": cfg.EnableScripts, "EnableAgentTLSForChecks": cfg.AgentTLSForChecks,
		"DisableRemoteExec": *cfg.NoRemoteExec, "SessionTTLMin": span(cfg.SessionTTLMin),

		"LogLevel": strings.ToUpper(cfg.LogLevel), "PidFile": cfg.PIDFile,
		"Logging": map[string]any{
			"LogLevel": strings.ToUpper(cfg.LogLevel), "LogJSON": cfg.LogJSON, "LogFilePath": cfg.LogFile, "LogRotateBytes": cfg.LogRotateBytes,
			"LogRotateDuration": span(cfg.LogRotateDuration), "LogRotateMaxFiles": cfg.LogRotateMaxFiles, "EnableSyslog": cfg.Syslog, "SyslogFacility": cfg.SyslogFacility,
		},
		"Telemetry": map[string]any{
			"MetricsPrefix": p.Prefix, "DisableHostname": p.DisableHostname, "PrefixFilter": list(p.PrefixFilter), "FilterDefault": *p.FilterDefault,
			"StatsdAddr": p.Statsd, "StatsiteAddr": p.Statsite, "DogstatsdAddr": p.Dogstatsd, "DogstatsdTags": list(p.DogstatsdTags),
			"PrometheusOpts": map[string]any{"Expiration": span(p.Retention)},
		},
	}
}
