package agent

import (
	"encoding/json"
	"strings"
	"testing"

	shared "github.com/rollcall/rollcall/internal/config"
	"github.com/rollcall/rollcall/server/internal/config"
)

// What /v1/agent/self shows has no secret in it, wherever in the configuration it stands.
func TestNoSecretIsShown(t *testing.T) {
	t.Parallel()
	src, err := shared.Parse("x.hcl", []byte(`
acl { tokens { default = "s3cret", agent = "s3cret", master = "s3cret", agent_master = "s3cret", replication = "s3cret", dns = "s3cret", config_file_service_registration = "s3cret" } }
encrypt = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="
service { name = "web", token = "s3cret", check { http = "http://x/?k=s3cret", interval = "1s" } }
watches = [{ type = "nodes", token = "s3cret", args = ["x"] }]`), "")
	if err != nil {
		t.Fatal(err)
	}
	cfg, _, err := config.Load(true, src)
	if err != nil {
		t.Fatal(err)
	}
	b, err := json.Marshal(debugConfig(cfg, addresses{http: []string{"127.0.0.1", "unix:///x"}}, "id"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"s3cret", "pUqJ"} {
		if strings.Contains(string(b), secret) {
			t.Errorf("shown: %s", b)
		}
	}
	for _, want := range []string{`"HTTPAddrs":["tcp://127.0.0.1:8500","unix:///x"]`, `"Services":1`, `"EncryptKey":"hidden"`, `"HTTPMaxConnsPerClient":200`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s is not in %s", want, b)
		}
	}
}
