package e2e

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// must puts a body; it has to be taken.
func (a *agent) must(path, body string) {
	a.t.Helper()
	if err := a.put(path, body); err != nil {
		a.t.Fatal(err)
	}
}

// becomes waits until the catalog has a check with a status, and gives its output.
func (a *agent) becomes(id, status string) (output string) {
	a.t.Helper()
	eventually(a.t, 20*time.Second, id+" is "+status+" in the catalog", func() error {
		var all []consul.HealthCheck
		if err := a.json("/v1/health/node/"+a.name, &all); err != nil {
			return err
		}
		for _, c := range all {
			if c.CheckID == id {
				output = c.Output
				if c.Status == status {
					return nil
				}
				return fmt.Errorf("it is %s: %s", c.Status, c.Output)
			}
		}
		return fmt.Errorf("no such check among %d", len(all))
	})
	return output
}

// Checks of several kinds follow what they look at into the catalog, and an alias follows
// them; the health routes say the same.
func TestChecksFollow(t *testing.T) {
	t.Parallel()
	a := startServer(t, "-enable-script-checks", "-hcl", `check_update_interval = "0s"`)
	var code atomic.Int64
	code.Store(http.StatusOK)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(code.Load())) }))
	t.Cleanup(web.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	flag := filepath.Join(t.TempDir(), "broken")
	a.must("/v1/agent/service/register", `{"ID":"w1","Name":"web","Checks":[{"CheckID":"page","HTTP":"`+web.URL+`","Interval":"1s"},
		{"CheckID":"port","TCP":"`+l.Addr().String()+`","Interval":"1s"},{"CheckID":"script","Args":["sh","-c","echo looked; ! test -e `+flag+`"],"Interval":"1s"}]}`)
	a.must("/v1/agent/check/register", `{"Name":"here","AliasService":"w1"}`)
	a.must("/v1/agent/check/register", `{"Name":"gone","AliasNode":"no-such-host"}`)
	health := func(want int, word string) {
		t.Helper()
		eventually(t, soon, "the health route", func() error {
			code, text, err := get(a.url + "/v1/agent/health/service/name/web?format=text")
			if err == nil && (code != want || text != word) {
				err = fmt.Errorf("%d %s, want %d %s", code, text, want, word)
			}
			return err
		})
	}
	a.becomes("page", "passing")
	a.becomes("port", "passing")
	if out := a.becomes("script", "passing"); out != "looked\n" {
		t.Errorf("output of the script: %q", out)
	}
	if out := a.becomes("gone", "critical"); !strings.Contains(out, "no-such-host") {
		t.Errorf("an alias of a node that is not there: %q", out)
	}
	a.must("/v1/agent/check/deregister/gone", "") // it bears on the node
	a.becomes("here", "passing")
	// the other half: a second agent follows over the catalog
	b := startAgent(t, "other-host", options{}, "-retry-join="+a.lan)
	b.awaitLeader()
	b.must("/v1/agent/check/register", `{"Name":"there","AliasService":"w1","AliasNode":"`+a.name+`"}`)
	b.becomes("there", "passing")
	health(200, "passing")
	write(t, flag, "")
	a.becomes("script", "warning")
	a.becomes("here", "warning")
	b.becomes("there", "warning")
	health(429, "warning")
	code.Store(http.StatusInternalServerError)
	a.becomes("page", "critical")
	a.becomes("here", "critical")
	b.becomes("there", "critical")
	health(503, "critical")
	a.must("/v1/agent/service/maintenance/w1?enable=true", "")
	health(503, "maintenance")
	l.Close()
	a.becomes("port", "critical")
}

// A script that was registered while scripts were on does not run while they are off; TTL
// states outlive the agent, and a killed one's processes do not matter.
func TestChecksRestart(t *testing.T) {
	t.Parallel()
	a := startServer(t, "-enable-script-checks")
	mark := filepath.Join(t.TempDir(), "ran")
	for _, body := range []string{
		`{"Name":"script","Args":["touch","` + mark + `"],"Interval":"1s","Status":"passing"}`,
		`{"Name":"ttl","TTL":"10m"}`,
	} {
		a.must("/v1/agent/check/register", body)
	}
	a.must("/v1/agent/check/warn/ttl?note=so+so", "")
	eventually(t, soon, "the script ran", func() error {
		if !exists(mark) {
			return fmt.Errorf("no %s", mark)
		}
		return nil
	})
	a.stop(syscall.SIGKILL)
	b := startAgent(t, a.name, options{dir: a.dir}, "-server", "-bootstrap-expect=1", "-enable-local-script-checks")
	b.awaitLeader()
	if out := b.becomes("ttl", "warning"); out != "so so" {
		t.Errorf("the TTL's note after the restart: %q", out)
	}
	if out := b.becomes("script", "critical"); !strings.Contains(out, "Scripts are disabled on this agent from remote calls") {
		t.Errorf("the script while scripts are off: %q", out)
	}
	err := b.put("/v1/agent/check/register", `{"Name":"x","Args":["true"],"Interval":"1s"}`)
	if err == nil || !strings.Contains(err.Error(), "500 Scripts are disabled") {
		t.Errorf("a script over HTTP: %v", err)
	}
	file := filepath.Join(t.TempDir(), "c.hcl")
	write(t, file, `check { name = "own" args = ["true"] interval = "1s" }`)
	c := startServer(t, "-enable-local-script-checks", "-config-file="+file)
	c.becomes("own", "passing")
	_, errText, exit := outcome(t, nil, bins(t, "rollcall"), "agent", "-dev", "-http-port=-1", "-dns-port=-1", "-config-file="+file)
	if exit == 0 || !strings.Contains(errText, "Scripts are disabled on this agent; to enable") {
		t.Errorf("a script in a file while scripts are off: exit %d, %s", exit, errText)
	}
}
