package checks

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
)

// httpProbe asks a URL: 2xx passes, 429 warns, all else is critical. Each probe is a
// connection of its own, so that one that still works does not hide a dead listener.
func (r *Runner) httpProbe(def *api.CheckDefinition) probe {
	method := def.Method
	if method == "" {
		method = http.MethodGet
	}
	size := r.outputSize(def)
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
		client := &http.Client{Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true, TLSClientConfig: r.tlsConfig(def)}}
		if def.DisableRedirects {
			client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		}
		resp, err := client.Do(req)
		if err != nil {
			return api.Critical, err.Error()
		}
		defer resp.Body.Close()
		body := &tail{limit: size}
		_, err = io.Copy(body, io.LimitReader(resp.Body, maxBody))
		output := fmt.Sprintf("HTTP %s %s: %s Output: %s", method, def.HTTP, resp.Status, body)
		if err != nil { // the status was said; what is left of the page changes nothing
			output += fmt.Sprintf(" (%v)", err)
		}
		switch {
		case resp.StatusCode >= 200 && resp.StatusCode < 300:
			return api.Passing, output
		case resp.StatusCode == http.StatusTooManyRequests:
			return api.Warning, output
		}
		return api.Critical, output
	}
}

// maxBody is how much of an answer is read. A page without an end must not keep a check
// busy until its timeout.
const maxBody = 1 << 20
