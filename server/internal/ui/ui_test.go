package ui

import (
	"crypto/tls"
	"net/http"
	"net/http/httptest"
	"testing"
)

// TestOpenerPolicy: browsers complain of the header where they do not trust the origin.
func TestOpenerPolicy(t *testing.T) {
	u := New(Config{Path: "/ui/"})
	for host, want := range map[string]string{
		"127.0.0.1:8500": "same-origin", "127.0.1.9": "same-origin", "[::1]:8500": "same-origin", "localhost:8500": "same-origin", "a.LOCALHOST": "same-origin",
		"10.0.0.1:8500": "", "rollcall.example:8500": "", "localhost.example": "", "[fd00::1]:8500": "", "127.0.0.1.example": "", "": "",
	} {
		for _, secure := range []bool{false, true} {
			r, w := httptest.NewRequest(http.MethodGet, "/ui/static/none", nil), httptest.NewRecorder()
			r.Host = host
			if secure {
				r.TLS, want = &tls.ConnectionState{}, "same-origin"
			}
			u.ServeHTTP(w, r)
			if got := w.Header().Get("Cross-Origin-Opener-Policy"); got != want {
				t.Errorf("%q (TLS %t): %q, want %q", host, secure, got, want)
			}
		}
	}
}
