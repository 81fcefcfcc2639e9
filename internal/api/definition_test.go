package api

import (
	"encoding/json"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The page's examples are valid checks, one of each kind, and its tables name every field
// and kind there is.
func TestThePageOfChecks(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/checks.md")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, m := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		var c CheckDefinition
		if err := json.Unmarshal([]byte(m[1]), &c); err != nil {
			t.Errorf("%s: %v", m[1], err)
			continue
		}
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", m[1], err)
		}
		kinds[c.Kind()] = true
	}
	for _, kind := range []string{"alias", "ttl", "http", "tcp", "udp", "grpc", "docker", "script", "h2ping", "os_service"} {
		if !kinds[kind] || !strings.Contains(string(page), "| `"+kind+"` |") {
			t.Errorf("kind %s has no example, or no row", kind)
		}
	}
	plain := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "_", "")) }
	_, fields, _ := strings.Cut(string(page), "## Fields")
	fields, _, _ = strings.Cut(fields, "\n## ")
	var named []string
	for line := range strings.Lines(fields) {
		if first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|"); strings.HasPrefix(line, "| `") {
			for _, m := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(first, -1) {
				named = append(named, plain(m[1]))
			}
		}
	}
	typ := reflect.TypeFor[CheckDefinition]()
	for i := range typ.NumField() {
		name := plain(typ.Field(i).Name)
		if !slices.Contains(named, name) {
			t.Errorf("the page does not name the field %s", typ.Field(i).Name)
		}
		named = slices.DeleteFunc(named, func(n string) bool { return n == name })
	}
	if len(named) > 0 {
		t.Errorf("the page names fields that there are not: %v", named)
	}
}

func TestCheckSpellings(t *testing.T) {
	t.Parallel()
	yes := true
	want := CheckDefinition{
		CheckID: "c", ServiceID: "s", Args: []string{"a"}, DockerContainerID: "d", H2PingUseTLS: &yes, TCPUseTLS: true, GRPCUseTLS: true,
		OSService: "o", AliasNode: "n", AliasService: "x", TLSSkipVerify: true, TLSServerName: "t", DisableRedirects: true, SuccessBeforePassing: 1,
		FailuresBeforeWarning: 2, FailuresBeforeCritical: 3, DeregisterCriticalServiceAfter: Duration(60e9), OutputMaxSize: 4,
	}
	for _, in := range []string{
		`{"CheckID":"c","ServiceID":"s","Args":["a"],"DockerContainerID":"d","H2PINGUseTLS":true,"TCPUseTLS":true,"GRPCUseTLS":true,"OSService":"o","AliasNode":"n",
		  "AliasService":"x","TLSSkipVerify":true,"TLSServerName":"t","DisableRedirects":true,"SuccessBeforePassing":1,"FailuresBeforeWarning":2,
		  "FailuresBeforeCritical":3,"DeregisterCriticalServiceAfter":"1m","OutputMaxSize":4}`,
		`{"check_id":"c","service_id":"s","script_args":["a"],"docker_container_id":"d","h2ping_use_tls":true,"tcp_use_tls":true,"grpc_use_tls":true,"os_service":"o",
		  "alias_node":"n","alias_service":"x","tls_skip_verify":true,"tls_server_name":"t","disable_redirects":true,"success_before_passing":1,
		  "failures_before_warning":2,"failures_before_critical":3,"deregister_critical_service_after":60000000000,"output_max_size":4}`,
	} {
		var got CheckDefinition
		if err := json.Unmarshal([]byte(in), &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s\ngot  %+v\nwant %+v", in, got, want)
		}
	}
}

func TestCheckValidate(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{}`:                                     "Invalid check: TTL must be > 0 for TTL checks",
		`{"Interval":"5s"}`:                      "Invalid check: TTL must be > 0 for TTL checks",
		`{"DockerContainerID":"x","Interval":1}`: "Invalid check: TTL must be > 0 for TTL checks",
		`{"TTL":"-5s"}`:                          "Invalid check: TTL must be > 0 for TTL checks",
		`{"TTL":"5s","Interval":"5s"}`:           "Invalid check: Interval and TTL cannot both be specified",
		`{"HTTP":"x"}`:                           "Invalid check: Interval must be > 0 for ",
		`{"HTTP":"x","TTL":"5s"}`:                "Invalid check: Interval must be > 0 for ",
		`{"UDP":"x","Interval":-1}`:              "Invalid check: Interval must be > 0 for ",
		`{"AliasService":"x","HTTP":"x","Interval":1}`:                      "Invalid check: Interval cannot be set for Alias checks",
		`{"AliasService":"x","TTL":"5s"}`:                                   "Invalid check: TTL must be not be set for Alias checks",
		`{"TTL":"5s","OutputMaxSize":-1}`:                                   "Invalid check: MaxOutputMaxSize must be positive",
		`{"TTL":"5s","FailuresBeforeWarning":2,"FailuresBeforeCritical":1}`: "Invalid check: FailuresBeforeWarning can't be higher than FailuresBeforeCritical",
		`{"TTL":"5s","Status":"odd"}`:                                       "Bad check status",
		`{"TTL":"5s"}`:                                                      "",
		`{"AliasService":"x","Interval":"5s"}`:                              "",
		`{"HTTP":"x","TCP":"x","Interval":"5s"}`:                            "",
		`{"Script":"true","Interval":5000000000}`:                           "",
		`{"OSService":"x","Interval":"5s"}`:                                 "",
	} {
		var c CheckDefinition
		if err := json.Unmarshal([]byte(in), &c); err != nil {
			t.Fatalf("%s: %v", in, err)
		}
		got := ""
		if err := c.Validate(); err != nil {
			got = err.Error()
			if KindOf(err) != Invalid {
				t.Errorf("%s: %v is not a mistake of the caller's", in, err)
			}
		}
		if (got == "") != (want == "") || !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %q, want %q", in, got, want)
		}
	}
}
