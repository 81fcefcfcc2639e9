package httpapi

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"testing"
)

// FuzzQuery: a query string that net/url can read means the same to us, and none makes
// us fail.
func FuzzQuery(f *testing.F) {
	for _, s := range []string{"", "a", "a=1&b=2&a=3", "pretty&stale", "filter=a+%3D%3D+%22b%22", "%zz=1", "a=%", "&&=&", "index=99999999999999999999&wait=1h&max_stale=3s", "flags=1&cas=2&dc=x"} {
		f.Add(s)
	}
	h := newHouse(nil)
	f.Fuzz(func(t *testing.T, raw string) {
		got := parseQuery(raw)
		if want, err := url.ParseQuery(raw); err == nil {
			n := 0
			for k, vs := range want {
				n += len(vs)
				if !slices.Equal(got.all(k), vs) || got.get(k) != vs[0] || !got.has(k) {
					t.Errorf("%q: key %q is %q, want %q", raw, k, got.all(k), vs)
				}
			}
			if n != len(got) {
				t.Errorf("%q: %d pairs, want %d", raw, len(got), n)
			}
		}
		for _, path := range []string{"/v1/kv/a", "/v1/health/service/web", "/v1/agent/service/web1"} {
			for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
				r := &http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: raw}, Header: http.Header{}, Body: http.NoBody}
				if got.has("hash") || got.has("wait") {
					continue // they may rightly take their time
				}
				w := httptest.NewRecorder()
				h.Handler().ServeHTTP(w, r)
				if w.Code >= 500 {
					t.Errorf("%s %s?%s: %d %s", method, path, raw, w.Code, w.Body)
				}
			}
		}
	})
}

// FuzzPath: no path makes us fail.
func FuzzPath(f *testing.F) {
	for _, s := range []string{"/", "", "/v1/kv/a", "/v1/kv//", "//v1//", "/v1/agent/service/register", "/v1/../..", "/v1/kv/\xff", "/v1/acl/x", "*"} {
		f.Add(s)
	}
	h := newHouse(nil)
	f.Fuzz(func(t *testing.T, path string) {
		w := httptest.NewRecorder()
		h.Handler().ServeHTTP(w, &http.Request{Method: http.MethodGet, URL: &url.URL{Path: path}, Header: http.Header{}, Body: http.NoBody})
		if w.Code >= 500 {
			t.Errorf("%q: %d %s", path, w.Code, w.Body)
		}
	})
}
