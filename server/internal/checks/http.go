package checks

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// maxBody is how much of an answer is read; the state keeps less.
const maxBody = 64 << 10

// httpProbe asks a URL: 2xx passes, 429 warns, all else is critical. Each probe is a
// connection of its own, so that one that still works does not hide a dead listener.
func httpProbe(def *api.CheckDefinition) (p probe, done func()) {
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: tlsConfig(def)}
	client := &http.Client{Transport: transport}
	if def.DisableRedirects {
		client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	}
	method := def.Method
	if method == "" {
		method = http.MethodGet
	}
	return func(ctx context.Context) (string, string) {
		req, err := http.NewRequestWithContext(ctx, method, def.HTTP, strings.NewReader(def.Body))
		if err != nil {
			return api.Critical, err.Error()
		}
		req.Header = http.Header{"User-Agent": {"Consul Health Check"}, "Accept": {"text/plain, text/*, */*"}}
		for k, vs := range def.Header {
			req.Header[http.CanonicalHeaderKey(k)] = vs
		}
		if host := req.Header.Get("Host"); host != "" {
			req.Host = host
		}
		resp, err := client.Do(req)
		if err != nil {
			return api.Critical, err.Error()
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
		if err != nil {
			body = append(body, " ("+err.Error()+")"...)
		}
		output := fmt.Sprintf("HTTP %s %s: %s Output: %s", method, def.HTTP, resp.Status, body)
		switch {
		case resp.StatusCode >= 200 && resp.StatusCode < 300:
			return api.Passing, output
		case resp.StatusCode == http.StatusTooManyRequests:
			return api.Warning, output
		}
		return api.Critical, output
	}, transport.CloseIdleConnections
}
