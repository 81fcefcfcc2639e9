package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/rollcall/rollcall/registrator/internal/config"
)

// healthcheck asks the registrator that runs here whether it works. It needs no shell,
// so it is the HEALTHCHECK of an image that has none.
func healthcheck(cfg *config.Config, environ []string) error {
	if !cfg.ListenSet { // in a container, it was said to process 1
		if first := firstProcess("/proc/1/cmdline"); first != nil {
			if other, err := config.Parse(first, environ); err == nil {
				cfg = other
			}
		}
	}
	if cfg.Listen == "" {
		return nil // no pages, nobody to ask; that this command runs shows that the container does
	}
	host, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return fmt.Errorf("-listen=%s: %w", cfg.Listen, err)
	}
	if ip := net.ParseIP(host); host == "" || ip.IsUnspecified() {
		host = "localhost"
	}
	url := "http://" + net.JoinHostPort(host, port) + "/healthz"
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	direct := &http.Client{Transport: &http.Transport{}} // no proxy stands between us and ourselves
	resp, err := direct.Do(req)
	if err != nil {
		return fmt.Errorf("healthcheck: %w; is a registrator running with -listen=%s?", err, cfg.Listen)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1024)) // what can be read of the reason
		return fmt.Errorf("healthcheck: %s answers %s: %s", url, resp.Status, bytes.TrimSpace(body))
	}
	return nil
}

// firstProcess gives the arguments of the process at path if it is this program, else nil.
func firstProcess(path string) []string {
	b, err := os.ReadFile(path)
	if err != nil || len(b) == 0 {
		return nil
	}
	var words []string
	for w := range bytes.SplitSeq(bytes.TrimSuffix(b, []byte{0}), []byte{0}) {
		words = append(words, string(w))
	}
	if filepath.Base(words[0]) != filepath.Base(os.Args[0]) {
		return nil
	}
	return words[1:]
}
