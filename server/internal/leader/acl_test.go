package leader

import (
	"strings"
	"testing"

	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/store"
)

func setUp(t *testing.T, s *store.Store, initial string) *command.ACLSetUp {
	t.Helper()
	c, err := SetUpACLs(s.State(), initial)
	if err != nil {
		t.Fatal(err)
	}
	if c == nil {
		return nil
	}
	tx := s.Begin(s.State().Index() + 1)
	defer tx.Commit()
	if err := tx.SetUpACL(c.Key, c.Policies, c.Tokens); err != nil {
		t.Fatal(err)
	}
	return c
}

// What is missing is added, once, and by the key that is there.
func TestSetUpACLs(t *testing.T) {
	t.Parallel()
	s := store.New()
	c := setUp(t, s, "")
	if c == nil || c.Managed || len(c.Policies) != 2 || len(c.Tokens) != 1 || c.Tokens[0].AccessorID != acl.AnonymousID || len(c.Key) != acl.KeySize {
		t.Fatalf("the first time: %+v", c)
	}
	if again := setUp(t, s, ""); again != nil {
		t.Errorf("the second time: %+v", again)
	}
	c = setUp(t, s, "root")
	if c == nil || !c.Managed || len(c.Policies) != 0 || len(c.Tokens) != 1 || string(c.Key) != string(s.State().ACL().Key) {
		t.Fatalf("with a management token: %+v", c)
	}
	if again := setUp(t, s, "root"); again != nil {
		t.Errorf("a management token that is there: %+v", again)
	}
	seal, err := acl.NewSeal(c.Key)
	if err != nil {
		t.Fatal(err)
	}
	row := s.State().TokenByHash(seal.Hash("root"))
	if row == nil || row.SecretID != "" || strings.Contains(string(row.Sealed), "root") {
		t.Fatalf("the row of the management token: %+v", row)
	}
	if secret, err := seal.Open(row.Sealed); err != nil || secret != "root" {
		t.Errorf("opened: %q, %v", secret, err)
	}
}
