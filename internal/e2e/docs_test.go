package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	consul "github.com/hashicorp/consul/api"
)

// The examples of docs/http-api.md do what they say, on an agent that was just started.
func TestHTTPExamples(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl: make deps installs it")
	}
	page, err := os.ReadFile("../../docs/http-api.md")
	if err != nil {
		t.Fatal(err)
	}
	server := startServer(t)
	dir, ran := t.TempDir(), 0
	for _, block := range strings.Split(string(page), "```sh\n")[1:] {
		block, _, _ = strings.Cut(block, "```")
		for line := range strings.Lines(block) {
			rest, ok := strings.CutPrefix(line, "curl ")
			if !ok {
				continue
			}
			ran++
			cmd := exec.Command("sh", "-c", "curl -sS --fail-with-body --max-time 20 "+strings.ReplaceAll(rest, "127.0.0.1:8500", server.http))
			cmd.Dir = dir
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%s%v: %s", line, err, out)
			}
		}
	}
	if ran < 10 {
		t.Errorf("only %d examples were found", ran)
	}
}

// The first script of docs/acl.md sets a cluster of one up: the agent keeps its node with
// the token it is given, a service's token registers that service alone, and everybody
// sees, and writes nothing.
func TestACLPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/acl.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```hcl\n")
	conf, rest, _ := strings.Cut(rest, "```")
	_, rest, _ = strings.Cut(rest, "```sh\n")
	script, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("docs/acl.md has no script")
	}
	file := filepath.Join(t.TempDir(), "acl.hcl")
	write(t, file, conf)
	server := startAgent(t, "server-host", options{}, "-server", "-bootstrap-expect=1", "-config-file="+file)
	cmd := exec.Command("sh", "-eu", "-c", strings.ReplaceAll(script, "agent SECRET", `agent "$CONSUL_HTTP_TOKEN"`))
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+server.http, "PATH="+filepath.Dir(bins(t, "rollcall"))+":"+os.Getenv("PATH"))
	eventually(t, soon, "a leader", func() error {
		code, body, err := server.get("/v1/status/leader")
		if err == nil && (code != 200 || len(body) < 4) {
			err = fmt.Errorf("%d %s", code, body)
		}
		return err
	})
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server.awaitLeader() // without a token: everybody sees
	_, block, _ := strings.Cut(string(out), "AccessorID")
	block = block[:max(0, strings.Index(block, " web\n"))]
	_, secret, ok := strings.Cut(block[max(0, strings.LastIndex(block, "SecretID")):], ":")
	secret, _, _ = strings.Cut(strings.TrimSpace(secret), "\n")
	if !ok {
		t.Fatalf("no token of web in %s", out)
	}
	web := server.as(secret)
	if err := web.Agent().ServiceRegister(&consul.AgentServiceRegistration{Name: "web", Port: 80}); err != nil {
		t.Error(err)
	}
	eventually(t, soon, "web, for everybody", server.wantInstances("web", "127.0.0.1:80"))
	if err := web.Agent().ServiceRegister(&consul.AgentServiceRegistration{Name: "db"}); err == nil {
		t.Error("the token of web registered db")
	}
	if err := server.put("/v1/kv/a", "1"); err == nil {
		t.Error("everybody may write keys")
	}
}
