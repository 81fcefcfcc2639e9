package mapping

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every example of docs/labels.md is taken without a warning and has an effect, and every
// key that has a meaning stands there.
func TestLabelsPage(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("../../../docs/labels.md")
	if err != nil {
		t.Fatal(err)
	}
	page := strings.ReplaceAll(string(b), `\|`, "|")
	examples := regexp.MustCompile("`(SERVICE_[^`=]+=[^`]+)`").FindAllStringSubmatch(page, -1)
	if len(examples) < 40 {
		t.Fatalf("%d examples found", len(examples))
	}
	hash := func(env ...string) (string, []string) {
		cfg := base()
		v := Map(&cfg, box{ports: "80=32768 443=32769", networks: map[string]string{"lan": "10.1.0.2"}, env: append([]string{"SERVICE_CHECK_H2PING=1"}, env...)}.container(t), nil)
		text := strings.Join(v.Reasons, ";")
		for _, s := range v.Services {
			text += s.Hash + s.Token + s.Drain
		}
		return text, v.Warnings
	}
	plain, _ := hash()
	noEffect := map[string]bool{ // alone, on this container
		"SERVICE_REGISTER": true, "SERVICE_NETWORK": true, "SERVICE_CHECK_H2PING": true,
		"SERVICE_CHECK_GRPC_USE_TLS": true, "SERVICE_CHECK_PATH": true,
	}
	for _, m := range examples {
		got, warnings := hash(m[1])
		if len(warnings) > 0 && !strings.HasPrefix(m[1], "SERVICE_ID=") { // two ports cannot share it
			t.Errorf("%s: %v", m[1], warnings)
		}
		if key, _, _ := strings.Cut(m[1], "="); got == plain && !noEffect[key] {
			t.Errorf("%s: no effect", m[1])
		}
	}
	var keys []string
	for k := range reserved {
		keys = append(keys, k)
	}
	for _, k := range kinds {
		keys = append(keys, "check_"+k)
	}
	for _, k := range keys {
		if !strings.Contains(page, "| "+strings.ToUpper(k)+" |") {
			t.Errorf("the page has no row for %s", strings.ToUpper(k))
		}
	}
}
