package archtest

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheHouseKeepsTheLaw(t *testing.T) {
	t.Parallel()
	f, err := os.Open("../../ARCHITECTURE.md")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	law, err := Read(f)
	if err != nil {
		t.Fatal(err)
	}
	rooms, err := Rooms("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range append(law.Breaches(rooms), law.Unused(rooms)...) {
		t.Error(b)
	}
}

func TestLaw(t *testing.T) {
	t.Parallel()
	law, err := Read(strings.NewReader(`## Something else
| room | x | y |
|---|---|---|
| wrong | a | b |
## The import law
| room | ours | libraries |
|---|---|---|
| ` + "`server/internal/store`" + ` | internal/api | tidwall/btree |
| internal/api | – | – |
`))
	if err != nil {
		t.Fatal(err)
	}
	rooms := map[string][]string{
		"internal/api":          nil,
		"internal/new":          nil,
		"server/internal/store": {Module + "/internal/api", "github.com/tidwall/btree", Module + "/internal/api/sub", "github.com/x/btree"},
	}
	want := []string{
		"internal/new: the law has no row for this room",
		"server/internal/store: imports github.com/x/btree, which its row does not allow",
		"server/internal/store: imports internal/api/sub, which its row does not allow",
	}
	if d := cmp.Diff(law.Breaches(rooms), want); d != "" {
		t.Errorf("Breaches: got (-) want (+):\n%s", d)
	}
	rooms["server/internal/store"] = nil
	delete(rooms, "internal/api")
	want = []string{
		"internal/api: the law has a row, the house no such room",
		"server/internal/store: allowed to import internal/api and does not",
		"server/internal/store: allowed to import tidwall/btree and does not",
	}
	if d := cmp.Diff(law.Unused(rooms), want); d != "" {
		t.Errorf("Unused: got (-) want (+):\n%s", d)
	}
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "## The import law\n| a |\n", "## The import law\n| a | b | c |\n| a | b | c |\n"} {
		if law, err := Read(strings.NewReader(text)); err == nil {
			t.Errorf("Read(%q) = %v, want an error", text, law)
		}
	}
}
