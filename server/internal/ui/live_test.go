package ui

import (
	"context"
	"html"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var liveAt = regexp.MustCompile(`data-live="([^"]*)"`)

// TestMissingPagesWait: a page of what is not there is not told to ask again before
// something changes; one that can never be hears of nothing.
func TestMissingPagesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &changing{index: 3, moved: make(chan struct{})}
		u := New(Config{
			Path: "/ui/", Endpoint: c, API: http.NotFoundHandler(), DefaultToken: func() string { return "" },
			Sees: func(context.Context, string) (func(string, string) bool, error) {
				return func(string, string) bool { return true }, nil
			},
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); u.hub.run(ctx) }()
		// show gives where a page hears of changes
		show := func(page string, code int) string {
			t.Helper()
			w := httptest.NewRecorder()
			u.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/ui/"+page, nil))
			m := liveAt.FindStringSubmatch(w.Body.String())
			if w.Code != code || m == nil {
				t.Fatalf("%s: %d, want %d\n%s", page, w.Code, code, w.Body)
			}
			return html.UnescapeString(m[1])
		}
		// told gives how often a page is told to ask again within ten seconds
		told := func(live string, during func()) int {
			t.Helper()
			ctx, leave := context.WithCancel(t.Context())
			w, left := httptest.NewRecorder(), make(chan struct{})
			go func() {
				defer close(left)
				u.ServeHTTP(w, httptest.NewRequest(http.MethodGet, live, nil).WithContext(ctx))
			}()
			time.Sleep(5 * time.Second)
			during()
			time.Sleep(5 * time.Second)
			leave()
			<-left
			if !strings.Contains(w.Body.String(), "event: hello") {
				t.Errorf("%s: no word from the stream: %s", live, w.Body)
			}
			return strings.Count(w.Body.String(), "\n"+change)
		}
		nothing, moves := func() {}, func() { c.set(nil) }
		if got := show("nope", http.StatusNotFound); got != "" {
			t.Errorf("what can never be hears of %s", got)
		}
		for _, page := range []string{"service?name=nope", "instance?node=n&id=nope", "node?name=nope"} {
			live := show(page, http.StatusNotFound)
			if got := told(live, nothing); got != 0 {
				t.Errorf("%s: told %d times, and nothing changed", page, got)
			}
			if got := told(live, moves); got != 1 {
				t.Errorf("%s: told %d times of one change", page, got)
			}
			if got := told(live, nothing); got != 1 {
				t.Errorf("%s: told %d times of a change that came between", page, got)
			}
			live = show(page, http.StatusNotFound)
			time.Sleep(2 * linger) // the feed ends, and another begins
			if got := told(live, nothing); got == 0 {
				t.Errorf("%s: told nothing after a time that nobody watched", page)
			}
		}
		if got := told(show("services", http.StatusOK), nothing); got != 1 {
			t.Errorf("a page of what is there: told %d times at first", got)
		}
		cancel()
		<-done
		time.Sleep(2 * linger)
	})
}
