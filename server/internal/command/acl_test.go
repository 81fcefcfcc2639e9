package command

import (
	"encoding/hex"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
)

func aclExamples() []Command {
	at := time.Date(2024, 1, 2, 3, 4, 5, 6, time.UTC)
	token := api.SealedToken{
		Token: api.Token{
			AccessorID: "t1", Policies: []api.Link{{ID: "p1"}}, ServiceIdentities: []api.ServiceIdentity{{ServiceName: "web", Datacenters: []string{"dc1"}}},
			NodeIdentities: []api.NodeIdentity{{NodeName: "n", Datacenter: "dc1"}}, CreateTime: at, ExpirationTime: &at, Hash: []byte{9},
		},
		SecretHash: "h", Sealed: []byte{7, 8},
	}
	return []Command{
		&ACLSetUp{Key: []byte{1, 2}, Policies: []api.Policy{{ID: "p1", Name: "p", Rules: `acl = "read"`}}, Tokens: []api.SealedToken{token}, Managed: true},
		&ACLSet{Mode: 1, Token: &token},
		&ACLSet{Policy: &api.Policy{ID: "p1"}},
		&ACLSet{Mode: 2, Role: &api.Role{ID: "r1", Name: "r", Policies: []api.Link{{ID: "p1"}}}},
		&ACLSet{Method: &api.AuthMethod{Name: "M", Type: "jwt", MaxTokenTTL: api.Duration(time.Minute), Config: []byte(`{"a":1}`)}},
		&ACLSet{Rule: &api.BindingRule{ID: "b1", AuthMethod: "m", BindType: api.BindRole, BindName: "r"}},
		&ACLDelete{Tokens: []string{"t1"}, Methods: []string{"m"}},
		&ACLBootstrap{Token: token, Reset: 7},
		&ACLLogin{Method: "m", BearerToken: "jwt", Meta: map[string]string{"b": "2", "a": "1"}, AccessorID: "t2", SecretID: "s"},
		&ACLLogout{},
	}
}

func TestACLGolden(t *testing.T) {
	t.Parallel()
	entry := append([]byte{}, Prefix...)
	for _, c := range aclExamples() {
		var err error
		if entry, err = Append(entry, c); err != nil {
			t.Fatal(err)
		}
	}
	const path = "testdata/acl.hex"
	got := hex.Dump(entry)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(got, string(want)); d != "" {
		t.Errorf("entry: got (-) want (+):\n%s", d)
	}
	back, err := Decode(entry)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(back, aclExamples()); d != "" {
		t.Errorf("decoded: got (-) want (+):\n%s", d)
	}
}

func TestACLKeys(t *testing.T) {
	t.Parallel()
	want := [][]string{nil, {"acl/token/t1"}, {"acl/policy/p1"}, {"acl/role/r1"}, {"acl/method/m"}, {"acl/rule/b1"}, nil, nil, nil, nil}
	for i, c := range aclExamples() {
		if d := cmp.Diff(c.Keys(), want[i]); d != "" {
			t.Errorf("keys of %T: got (-) want (+):\n%s", c, d)
		}
		if c.Exclusive() != (want[i] == nil) {
			t.Errorf("%T exclusive = %t with keys %v", c, c.Exclusive(), c.Keys())
		}
	}
}
