package config

import (
	"reflect"
	"strings"
)

// Reload gives what is in force once next was read again: what can change while the agent
// runs is next's, the rest stays c's. restart names the keys that differ and have to wait
// for a restart.
func (c *Config) Reload(next *Config) (merged *Config, restart []string) {
	m := *c
	m.NodeMeta, m.Services, m.Checks, m.Watches = next.NodeMeta, next.Services, next.Checks, next.Watches
	m.DiscardOutput = next.DiscardOutput
	m.LogLevel = next.LogLevel
	m.ACL.Tokens = next.ACL.Tokens
	m.TLS = next.TLS
	m.flatTLS = next.flatTLS
	m.HTTP.ResponseHeaders, m.LegacyHeaders = next.HTTP.ResponseHeaders, next.LegacyHeaders
	m.Limits.MaxConnsPerClient, m.Limits.Requests = next.Limits.MaxConnsPerClient, next.Limits.Requests
	m.Limits.RPCRate, m.Limits.RPCMaxBurst, m.Limits.RPCMaxConns = next.Limits.RPCRate, next.Limits.RPCMaxBurst, next.Limits.RPCMaxConns
	m.DNS, m.Recursors = next.DNS, next.Recursors
	m.Telemetry.PrefixFilter = next.Telemetry.PrefixFilter
	m.SnapshotThreshold, m.SnapshotInterval, m.TrailingLogs = next.SnapshotThreshold, next.SnapshotInterval, next.TrailingLogs
	differ("", reflect.ValueOf(m), reflect.ValueOf(*next), &restart)
	return &m, restart
}

// differ appends the keys whose values are not equal, in the order of the fields.
func differ(path string, a, b reflect.Value, keys *[]string) {
	for i := range a.NumField() {
		f := a.Type().Field(i)
		tag, _, _ := strings.Cut(f.Tag.Get("config"), ",")
		switch {
		case tag == "-":
		case f.Anonymous && tag == "":
			differ(path, a.Field(i), b.Field(i), keys)
		case tag != "" && f.Type.Kind() == reflect.Struct:
			differ(path+tag+".", a.Field(i), b.Field(i), keys)
		case tag != "" && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()):
			*keys = append(*keys, path+tag)
		}
	}
}
