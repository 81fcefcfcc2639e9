package main

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/rollcall/rollcall/registrator/internal/config"
)

func TestHealthcheck(t *testing.T) {
	t.Parallel()
	code := http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			t.Errorf("it asked for %s", r.URL.Path)
		}
		http.Error(w, "so it is", code)
	}))
	defer s.Close()
	_, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	check := func(listen string) error {
		return healthcheck(&config.Config{Listen: listen, ListenSet: true}, nil)
	}
	for _, listen := range []string{"127.0.0.1:" + port, "0.0.0.0:" + port, ":" + port, ""} {
		if err := check(listen); err != nil {
			t.Errorf("%q: %v", listen, err)
		}
	}
	code = http.StatusServiceUnavailable
	if err := check("127.0.0.1:" + port); err == nil {
		t.Error("503 was taken for well")
	}
	if err := check("127.0.0.1:1"); err == nil {
		t.Error("nobody there was taken for well")
	}
}

func TestFirstProcess(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "cmdline")
	for text, want := range map[string][]string{
		os.Args[0] + "\x00-listen=:1\x00consul://\x00": {"-listen=:1", "consul://"},
		"/sbin/init\x00splash\x00":                     nil,
		"":                                             nil,
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := firstProcess(path); !slices.Equal(got, want) {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := firstProcess(path + "-none"); got != nil {
		t.Errorf("no such file: %q", got)
	}
}
