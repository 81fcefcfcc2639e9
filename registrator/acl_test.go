package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	consul "github.com/hashicorp/consul/api"
)

const rootToken = "00000000-0000-0000-0000-00000000beef"

// Access control: what the token may not write is told and waits, the rest goes on; a
// better token in the file is taken into use; a service may bring its own.
func TestACL(t *testing.T) {
	t.Parallel()
	engine(t)
	bin := binaries()[1]
	if bin.err != nil {
		t.Skip(bin.err)
	}
	conf := filepath.Join(t.TempDir(), "acl.json")
	if err := os.WriteFile(conf, []byte(`{"acl":{"enabled":true,"default_policy":"deny","tokens":{"master":"`+rootToken+`"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	c := startCatalog(t, bin.path, false, "-config-file="+conf)
	cfg := consul.DefaultConfig()
	cfg.Address, cfg.Token = c.addr, rootToken
	root, err := consul.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	c.Client = root
	token := func(name, rules string) string {
		t.Helper()
		var made *consul.ACLToken
		eventually(t, soon, "access control works", func() error {
			if _, _, err := root.ACL().PolicyCreate(&consul.ACLPolicy{Name: name, Rules: rules}, nil); err != nil && !strings.Contains(err.Error(), "already exists") {
				return err
			}
			var err error
			made, _, err = root.ACL().TokenCreate(&consul.ACLToken{Policies: []*consul.ACLTokenPolicyLink{{Name: name}}}, nil)
			return err
		})
		return made.SecretID
	}
	reads := `agent_prefix "" { policy = "read" } node_prefix "" { policy = "read" } service_prefix "" { policy = "read" } `
	weak := token("weak", reads+`service "web" { policy = "write" }`)
	strong := token("strong", reads+`service_prefix "" { policy = "write" }`)
	brought := token("own", `service "own" { policy = "write" }`)
	file := filepath.Join(t.TempDir(), "token")
	write := func(secret string) {
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(weak)
	listen := fmt.Sprintf("127.0.0.1:%d", ports(t, 1)[0])
	reg := launch(t, func() *exec.Cmd {
		return command(t, "-host=h", "-owner=me", "-filter=label:test="+own(t), "-listen="+listen, "-log-level=debug", "consul://"+c.addr+"?token_file="+file)
	})
	web, other := start(t, "plain", "-e", "SERVICE_NAME=web"), start(t, "plain", "-e", "SERVICE_NAME=other")
	mine := start(t, "plain", "-e", "SERVICE_NAME=own", "-e", "SERVICE_TOKEN="+brought)
	eventually(t, soon, "what the token may write", func() error { return c.has("web", published(t, web)) })
	eventually(t, soon, "what brings its own token", func() error { return c.has("own", published(t, mine)) })
	eventually(t, soon, "the refusal is told", func() error {
		_, body, err := get("http://" + listen + "/containers")
		if err == nil && (!strings.Contains(body, `"failing"`) || !strings.Contains(body, "ermission denied")) {
			err = errors.New("it is not")
		}
		for _, secret := range []string{weak, strong, brought} {
			if strings.Contains(body, secret) {
				t.Fatal("a token is shown")
			}
		}
		return err
	})
	for _, page := range []string{"/plan", "/metrics"} {
		if body := ask(t, http.MethodGet, "http://"+listen+page, 200); strings.Contains(body, brought) || strings.Contains(body, weak) {
			t.Errorf("%s shows a token", page)
		}
	}
	write(strong)
	eventually(t, soon, "the better token is used", func() error { return c.has("other", published(t, other)) })
	remove(t, web, other, mine)
	for _, service := range []string{"web", "other", "own"} {
		eventually(t, soon, "all are gone", func() error { return c.has(service) })
	}
	reg.lives()
}
