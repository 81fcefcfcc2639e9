package e2e

import (
	"encoding/base64"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	consul "github.com/hashicorp/consul/api"
)

// TestUISnapshots: who may, saves one and restores it, and says that it is meant; who may
// not is told so.
func TestUISnapshots(t *testing.T) {
	_, c, b := startGuarded(t)
	put := func(value string) {
		t.Helper()
		if _, err := c.KV().Put(&consul.KVPair{Key: "a", Value: []byte(value)}, nil); err != nil {
			t.Fatal(err)
		}
	}
	put("before")
	b.open("cluster")
	var kept string
	b.eval(`(async () => {
		const r = await fetch(document.querySelector("a[download]").href);
		if (!r.ok || !r.headers.get("content-disposition").includes("rollcall-dc1-")) throw r.status + " " + r.headers.get("content-disposition");
		return btoa(String.fromCharCode(...new Uint8Array(await r.arrayBuffer())));
	})()`, &kept)
	snapshot, err := base64.StdEncoding.DecodeString(kept)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	restore := func(where, content string) {
		t.Helper()
		write(t, filepath.Join(dir, "a.snap"), content)
		b.open("cluster")
		b.click("#restore summary")
		b.fill("#where", where)
		b.run(chromedp.SetUploadFiles("#snapshot", []string{filepath.Join(dir, "a.snap")}, chromedp.ByQuery))
		b.submit("#restore button.danger")
	}
	is := func(want string) {
		t.Helper()
		p, _, err := c.KV().Get("a", nil)
		if err != nil || p == nil || string(p.Value) != want {
			t.Errorf("the key is %+v, %v, want %q", p, err, want)
		}
	}
	b.pardon("status of 400", "status of 403", "status of 500", "status of 503")
	put("after")
	restore("dc2", string(snapshot))
	if got := b.texts(".lead"); len(got) != 1 || !strings.Contains(got[0], "write dc1") {
		t.Errorf("without the datacenter's name: %q", got)
	}
	is("after")
	restore("dc1", string(snapshot[:len(snapshot)/2]))
	if got := b.texts(".lead"); len(got) != 1 || !strings.Contains(got[0], "not restored") {
		t.Errorf("half a snapshot: %q", got)
	}
	is("after")
	restore("dc1", string(snapshot))
	if got := b.texts(".done"); len(got) != 1 || !strings.Contains(got[0], "is restored") {
		t.Errorf("after the restore: %q", got)
	}
	is("before")
	b.click("#restore summary")
	b.accessible("cluster")

	if _, _, err := c.ACL().PolicyCreate(&consul.ACLPolicy{Name: "looks", Rules: `operator = "read" agent_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`}, nil); err != nil {
		t.Fatal(err)
	}
	some, _, err := c.ACL().TokenCreate(&consul.ACLToken{Policies: []*consul.ACLLink{{Name: "looks"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.login(some.SecretID)
	b.open("cluster")
	if got := strings.Join(b.texts("main"), ""); !strings.Contains(got, "a token that may write ACLs") || strings.Contains(got, "Save a snapshot") {
		t.Errorf("for who may not: %q", got)
	}
	b.open("snapshot")
	if got := b.texts("h1"); got[0] != "Not allowed" {
		t.Errorf("a snapshot for who may not: %q", got)
	}
}
