package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

type snapshots struct {
	save    error // before the first byte
	cut     error // behind it
	got     string
	restore error
}

func (s *snapshots) Save(_ context.Context, _ api.QueryOptions, begin func(api.QueryMeta) io.Writer) error {
	if s.save != nil {
		return s.save
	}
	io.WriteString(begin(api.QueryMeta{Index: 7, KnownLeader: true}), "archive")
	return s.cut
}

func (s *snapshots) Restore(_ context.Context, _ api.QueryOptions, from io.Reader) error {
	b, err := io.ReadAll(from)
	s.got = string(b)
	return errors.Join(err, s.restore)
}

func TestSnapshotRoute(t *testing.T) {
	t.Parallel()
	s := &snapshots{}
	web := httptest.NewServer(New(Config{Snapshots: s}).Handler())
	defer web.Close()
	do := func(method, body string) (*http.Response, string, error) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, web.URL+"/v1/snapshot", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r, err := web.Client().Do(req)
		if err != nil {
			return nil, "", err
		}
		defer r.Body.Close()
		b, err := io.ReadAll(r.Body)
		return r, string(b), err
	}
	r, body, err := do("GET", "")
	if err != nil || r.StatusCode != 200 || body != "archive" || r.Header.Get("X-Consul-Index") != "7" || r.Header.Get("Content-Type") != "application/x-gzip" {
		t.Errorf("save: %v %q %v %v", r.Status, body, r.Header, err)
	}
	if r, body, err = do("PUT", strings.Repeat("x", 5<<20)); err != nil || r.StatusCode != 200 || body != "" || len(s.got) != 5<<20 {
		t.Errorf("restore: %v %q, %d bytes, %v", r.Status, body, len(s.got), err)
	}
	s.restore = api.Errorf(api.Internal, "not whole")
	if r, body, err = do("PUT", "x"); err != nil || r.StatusCode != 500 || body != "not whole" {
		t.Errorf("a refused restore: %v %q, %v", r.Status, body, err)
	}
	s.save = api.ErrPermissionDenied
	if r, body, err = do("GET", ""); err != nil || r.StatusCode != 403 || body != "Permission denied" {
		t.Errorf("a refused save: %v %q, %v", r.Status, body, err)
	}
	s.save, s.cut = nil, errors.New("disk on fire")
	if _, body, err = do("GET", ""); err == nil {
		t.Errorf("a save that broke off looked whole: %q", body)
	}
}
