package watch

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/templater/internal/render"
)

// What a token may not see is left out by the catalog; that is said once, and shown.
func TestHidden(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("index") == "8" {
			<-r.Context().Done()
			return
		}
		w.Header().Set("X-Consul-Index", map[string]string{"": "7", "7": "8"}[r.FormValue("index")])
		w.Header().Set("X-Consul-Lastcontact", "0")
		w.Header().Set("X-Consul-Results-Filtered-By-Acls", "true")
		fmt.Fprint(w, "[]")
	}))
	defer s.Close()
	defer s.CloseClientConnections()
	var out strings.Builder
	_, states := run(t, s.URL, "", slog.New(slog.NewTextHandler(&out, nil)), render.Dependency{Kind: render.Service, Name: "web", Filter: "passing"})
	if !states[0].Hidden {
		t.Errorf("the state does not show it: %+v", states[0])
	}
	if n := strings.Count(out.String(), "may not see all"); n != 1 {
		t.Errorf("said %d times, want once:\n%s", n, out.String())
	}
}
