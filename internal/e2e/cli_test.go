package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What people type, on a real cluster of one: each command does what it says.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	dir := t.TempDir()
	in := func(want int, args ...string) (out, errs string) {
		t.Helper()
		out, errs, code := outcome(t, []string{"CONSUL_HTTP_ADDR=" + server.http}, bins(t, "rollcall"), args...)
		if code != want {
			t.Errorf("rollcall %v: exit %d, want %d\n%s%s", args, code, want, out, errs)
		}
		return out, errs
	}
	says := func(text, part string) {
		t.Helper()
		if !strings.Contains(text, part) {
			t.Errorf("got %q, want it to say %q", text, part)
		}
	}
	ok := func(part string, args ...string) string {
		t.Helper()
		out, _ := in(0, args...)
		says(out, part)
		return out
	}
	bad := func(part string, args ...string) {
		t.Helper()
		_, errs := in(1, args...)
		says(errs, part)
	}
	file := filepath.Join(dir, "a.snap")

	ok("Success! Data written to: a/b/c", "kv", "put", "a/b/c", "1")
	ok("Saved and verified snapshot to index", "snapshot", "save", file)
	out := ok("Version  1", "snapshot", "inspect", "-kvdetails", file)
	says(out, "Pair")
	says(out, "a/b")
	var inspected struct {
		Meta  struct{ Index uint64 }
		Types []struct {
			Name  string
			Count int
		}
	}
	if err := json.Unmarshal([]byte(ok("", "snapshot", "inspect", "-format=json", file)), &inspected); err != nil || inspected.Meta.Index == 0 || len(inspected.Types) < 3 {
		t.Errorf("snapshot inspect -format=json: %+v, %v", inspected, err)
	}
	ok("Success! Data written to: a/b/c", "kv", "put", "a/b/c", "2")
	ok("Restored snapshot", "snapshot", "restore", file)
	ok("1", "kv", "get", "a/b/c")
	write(t, filepath.Join(dir, "bad.snap"), "hello")
	bad("snapshot file", "snapshot", "restore", filepath.Join(dir, "bad.snap"))
	bad("not a whole snapshot file", "snapshot", "inspect", filepath.Join(dir, "bad.snap"))
	bad("no such file", "snapshot", "restore", filepath.Join(dir, "none.snap"))
	bad("name one FILE", "snapshot", "save")

	says(ok("Event ID: ", "event", "-name=deploy", "1.2.3"), "-")
	bad("Event name must be specified", "event")
	bad("needs -service", "event", "-name=x", "-tag=y")
	eventually(t, soon, "the event is seen", func() error {
		_, errs, code := outcome(t, []string{"CONSUL_HTTP_ADDR=" + server.http}, bins(t, "rollcall"), "watch", "-type=event", "-name=deploy")
		if code != 0 {
			t.Errorf("watch: %s", errs)
		}
		return nil
	})

	ok("null", "watch", "-type=key", "-key=none")
	says(ok("\"Node\"", "watch", "-type=nodes"), server.name)
	bad("use key, keyprefix", "watch", "-type=foo")
	bad("the type is missing", "watch")

	ok("hi", "lock", "l1", "echo hi; test \"$CONSUL_LOCK_HELD\" = true")
	_, errs := in(2, "lock", "-child-exit-code", "l1", "exit 3")
	says(errs, "exit status 3")
	in(0, "lock", "l1", "exit 3")
	in(0, "lock", "-n=2", "-verbose", "sem", "true")
	bad("must be specified", "lock", "l1")
	out, _ = in(0, "kv", "get", "-recurse", "l1")
	if out != "" {
		t.Errorf("a lock that nobody uses was left behind: %s", out)
	}

	says(ok("CleanupDeadServers = true", "operator", "autopilot", "get-config"), "MaxTrailingLogs = 250")
	ok("Configuration updated!", "operator", "autopilot", "set-config", "-max-trailing-logs=300")
	ok("MaxTrailingLogs = 300", "operator", "autopilot", "get-config")
	ok("Healthy:", "operator", "autopilot", "state")
	ok("leader", "operator", "raft", "list-peers")
	bad("not found", "operator", "raft", "remove-peer", "-address=10.0.0.9:8300")
	bad("is required", "operator", "raft", "remove-peer")
	ok("Service instances", "operator", "usage", "instances")

	bad("exactly one of", "keyring")
	bad("listing keys", "keyring", "-list")

	ok("Registered service: web", "services", "register", "-name=web", "-port=80")
	ok("Nothing is critical", "purge", "-for=0s")
	if err := server.put("/v1/catalog/register", `{"Node":"gone","Address":"10.0.0.9","Service":{"Service":"old","Port":1},"Check":{"Node":"gone","CheckID":"serfHealth","Name":"x","Status":"critical"}}`); err != nil {
		t.Fatal(err)
	}
	says(ok("would be", "purge", "-for=0s", "-dry-run"), "its node is down")
	ok("yes", "purge", "-for=0s", "-service=old")
	ok("Nothing is critical", "purge", "-for=0s", "-service=old")

	says(ok("ok       agent", "doctor", "-data-dir="+dir), "keeps a write in")
	var findings []struct{ What, Status string }
	if err := json.Unmarshal([]byte(ok("", "doctor", "-format=json")), &findings); err != nil || len(findings) < 6 {
		t.Errorf("doctor -format=json: %v, %v", findings, err)
	}
	for _, f := range findings {
		if f.Status == "wrong" {
			t.Errorf("the doctor finds %s wrong with a cluster that is well", f.What)
		}
	}
	if out := ok("Entries/s", "top", "-n=2", "-interval=100ms"); strings.Count(out, "\n") != 3 {
		t.Errorf("top -n=2:\n%s", out)
	}
	ok("Saved debug archive", "debug", "-duration=1s", "-interval=500ms", "-capture=agent", "-capture=metrics", "-capture=logs", "-output="+filepath.Join(dir, "case"))
	if _, err := os.Stat(filepath.Join(dir, "case.tar.gz")); err != nil {
		t.Error(err)
	}
	bad("-capture=foo", "debug", "-capture=foo")

	bad("name one node or two", "rtt")
	bad("no agent answers", "members", "-http-addr=127.0.0.1:1")
}

// A command runs on the agents that allow it, and on no others.
func TestRemoteExec(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	conf := filepath.Join(dir, "exec.json")
	write(t, conf, `{"disable_remote_exec":false}`)
	server := startServer(t, "-config-file="+conf)
	agents := []*agent{startAgent(t, "willing", options{}, "-join="+server.lan, "-config-file="+conf), startAgent(t, "unwilling", options{}, "-join="+server.lan)}
	for _, a := range agents {
		a.awaitLeader()
	}
	run := func(want int, args ...string) string {
		t.Helper()
		out, errs, code := outcome(t, []string{"CONSUL_HTTP_ADDR=" + agents[0].http}, bins(t, "rollcall"), append([]string{"exec"}, args...)...)
		if code != want {
			t.Errorf("exec %v: exit %d, want %d\n%s%s", args, code, want, out, errs)
		}
		return out
	}
	out := run(0, "echo here")
	for _, want := range []string{"    willing: here\n", "    " + server.name + ": here\n", "2 / 2 node(s) completed / acknowledged"} {
		if !strings.Contains(out, want) {
			t.Errorf("exec: %q lacks %q", out, want)
		}
	}
	if strings.Contains(out, "unwilling") {
		t.Errorf("an agent that does not take commands ran one: %q", out)
	}
	if out := run(2, "-node=^willing$", "exit 7"); !strings.Contains(out, "1 / 1 node(s)") {
		t.Errorf("exec of what fails: %q", out)
	}
	if code, body, err := server.get("/v1/kv/_rexec?keys"); err != nil || code != 404 {
		t.Errorf("keys are left behind: %d %s, %v", code, body, err)
	}
}

// An authority and certificates that agents can use, in the files that Consul makes.
func TestCertificatesFromTheCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(want int, args ...string) string {
		t.Helper()
		p := startInDir(t, dir, bins(t, "rollcall"), args...)
		if p.code != want {
			t.Errorf("rollcall %v: exit %d, want %d\n%s", args, p.code, want, p.text)
		}
		return p.text
	}
	run(0, "tls", "ca", "create")
	if text := run(1, "tls", "ca", "create"); !strings.Contains(text, "is there already") {
		t.Errorf("a second authority: %s", text)
	}
	run(0, "tls", "cert", "create", "-server", "-dc=dc1", "-node=s1", "-additional-ipaddress=10.0.0.1")
	run(0, "tls", "cert", "create", "-server")
	run(0, "tls", "cert", "create", "-client")
	run(0, "tls", "cert", "create", "-cli")
	run(1, "tls", "cert", "create")
	run(1, "tls", "cert", "create", "-server", "-additional-ipaddress=nowhere")
	for _, name := range []string{"consul-agent-ca.pem", "consul-agent-ca-key.pem", "dc1-server-consul-0.pem", "dc1-server-consul-0-key.pem",
		"dc1-server-consul-1.pem", "dc1-client-consul-0.pem", "dc1-cli-consul-0-key.pem"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if strings.Contains(name, "-key") && info.Mode().Perm() != 0o600 {
			t.Errorf("%s may be read by others: %s", name, info.Mode())
		}
	}
}
