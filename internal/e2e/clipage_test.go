package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// unrun are the examples of docs/cli.md that one agent cannot show; scripts and other tests do.
var unrun = []string{
	"rollcall agent -server -bootstrap-expect=3 -data-dir=/var/lib/rollcall -retry-join=10.0.0.2",
	`rollcall agent -data-dir=/var/lib/rollcall -retry-join=10.0.0.2 -client="127.0.0.1 172.17.0.1"`,
	"rollcall agent -dev", // is what the others ask
	"rollcall join 10.0.0.2", "rollcall force-leave -prune host-3", "rollcall leave", "rollcall rtt host-1 host-2",
	"rollcall operator raft remove-peer -id=ID", "rollcall operator raft recover -data-dir=/var/lib/rollcall", "rollcall operator raft transfer-leader",
	"rollcall monitor -log-level=debug", "rollcall watch -type=service -service=web ./reload.sh", // do not end
	"rollcall login -method=ci -bearer-token-file=jwt -token-sink-file=token", "rollcall logout -token-file=token",
	"rollcall acl bootstrap", // it is too late for that
}

// before is what stands in the world of some examples, as a shell makes it.
var before = map[string]string{
	"rollcall services register web.hcl":       `echo 'service { name = "web" id = "web-2" }' >web.hcl`,
	"rollcall validate server.hcl":             `echo 'server = true bind_addr = "127.0.0.1"' >server.hcl`,
	"rollcall kv get app/colour":               `rollcall kv put app/colour blue`,
	"rollcall maint -enable -service=web":      `rollcall services register -name=web -port=80`,
	"rollcall lock service/backup ./backup.sh": `printf '#!/bin/sh\n' >backup.sh; chmod +x backup.sh`,
	"rollcall acl token update -id=1c55e3f1":   `rollcall acl token create -accessor=1c55e3f1-3a1f-4b62-9df8-d2a8f8b1a6a1 -service-identity=web; rollcall acl policy create -name=readers -rules=`,
	"rollcall acl token clone":                 `rollcall acl token create -accessor=1c55e3f1-3a1f-4b62-9df8-d2a8f8b1a6a1 -service-identity=web`,
	"rollcall acl policy create -name=readers": `rollcall acl policy delete -name=readers`,
	"rollcall acl role create":                 `rollcall acl policy create -name=readers -rules=`,
	"rollcall acl auth-method create":          `openssl ecparam -name prime256v1 -genkey -noout 2>/dev/null | openssl ec -pubout 2>/dev/null | awk 'BEGIN {printf "{\"ClaimMappings\": {\"project\": \"project\"}, \"JWTValidationPubKeys\": [\""} {printf "%s\\n", $0} END {print "\"]}"}' >ci.json`,
	"rollcall acl binding-rule create":         `rollcall acl auth-method create -type=jwt -name=ci -config=@ci.json`,
}

// The examples of docs/cli.md, carried out in their order.
func TestCommandLinePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/cli.md")
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(t.TempDir(), "acl.hcl")
	write(t, conf, `acl { enabled = true default_policy = "deny" tokens { master = "11111111-1111-1111-1111-111111111111" default = "11111111-1111-1111-1111-111111111111" } } disable_remote_exec = false`)
	a := startAgent(t, "n1", options{}, "-dev", "-log-level=warn", "-config-file="+conf, "-encrypt=MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=")
	dir := t.TempDir()
	run := func(line string) (string, error) {
		cmd := exec.Command("bash", "-c", line)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+a.http, "CONSUL_HTTP_TOKEN=11111111-1111-1111-1111-111111111111", "PATH="+filepath.Dir(bins(t, "rollcall"))+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	eventually(t, 30*time.Second, "the agent lives in the catalog", func() error {
		_, err := run(`rollcall watch -type=checks -state=passing | grep serfHealth`)
		return err
	})
	seen := map[string]bool{}
	ran := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSpace(line)
			if slices.Contains(unrun, line) {
				seen[line] = true
				continue
			}
			for prefix, text := range before {
				if strings.HasPrefix(line, prefix) {
					seen[prefix] = true
					if out, err := run("set -e; " + text); err != nil {
						t.Errorf("before %s: %v\n%s", line, err, out)
					}
				}
			}
			if strings.HasPrefix(line, "rollcall acl binding-rule") { // whose ids nobody can choose
				line = strings.ReplaceAll(line, "1c55e3f1", `$(rollcall acl binding-rule list | sed -n 's/^\([0-9a-f]\{8\}\).*/\1/p')`)
			}
			ran++
			if out, err := run(line); err != nil {
				t.Errorf("%s: %v\n%s", line, err, out)
			}
		}
	}
	for _, line := range unrun {
		if !seen[line] {
			t.Errorf("docs/cli.md has no example %q any more", line)
		}
	}
	for line := range before {
		if !seen[line] {
			t.Errorf("docs/cli.md has no example that begins with %q any more", line)
		}
	}
	if ran < 50 {
		t.Errorf("only %d examples were found", ran)
	}
}
