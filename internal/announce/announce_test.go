package announce

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	consul "github.com/hashicorp/consul/api"
)

// lines hands each line of a log on.
type lines chan string

func (l lines) Write(b []byte) (int, error) {
	l <- string(b)
	return len(b), nil
}

// TestRefused: a catalog that refuses is one line of log, and nothing for the caller.
func TestRefused(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Error(w, "Permission denied", http.StatusForbidden)
	}))
	defer server.Close()
	c, err := consul.NewClient(&consul.Config{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	log, ended := make(lines, 10), make(chan error, 1)
	go func() {
		ended <- Run(ctx, c, Templater, "1", func() Report { return Report{} }, slog.New(slog.NewTextHandler(log, nil)))
	}()
	if line := <-log; !strings.Contains(line, "not announced in the catalog") || !strings.Contains(line, "Permission denied") {
		t.Errorf("it says %q", line)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("Run: %v", err)
	}
	if len(log) > 0 || asked.Load() != 1 {
		t.Errorf("%d lines more, after %d requests", len(log), asked.Load())
	}
}
