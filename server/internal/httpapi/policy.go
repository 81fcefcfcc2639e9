package httpapi

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/rollcall/rollcall/server/internal/fastpath"
)

// Policy is what a reload may change while the server runs.
type Policy struct {
	// Headers go on every answer.
	Headers map[string]string
	// MaxConnsPerClient is how many connections an address may have; 0 is no limit.
	MaxConnsPerClient int
	Requests          RequestLimits
}

// RequestLimits bound the requests that this agent takes for the catalog and keys, from all
// clients together. Those about the agent itself and the cluster's leader are free, so that
// one can see what goes on.
type RequestLimits struct {
	Enforce, Watch bool    // refuse what is over the rate; only log it
	Read, Write    float64 // a second; below 0 is no limit
}

// burst is for how many seconds requests may be saved up.
const burst = 10

// rules are a policy in use.
type rules struct {
	Policy
	fixed       http.Header      // what every answer carries
	given       *fastpath.Fields // the same; nil where it has one that an answer has too
	read, write *rate.Limiter
	told        rate.Sometimes // one line of log for many refusals
}

// Apply takes a policy over, for the requests and connections to come.
func (s *Server) Apply(p Policy) {
	r := &rules{Policy: p, fixed: http.Header{}, told: rate.Sometimes{Interval: 10 * time.Second}}
	r.fixed.Set("Vary", "Accept-Encoding")
	if s.cfg.TranslateWAN {
		r.fixed.Set("X-Consul-Translate-Addresses", "true")
	}
	r.fixed.Set("X-Consul-Default-ACL-Policy", cmp.Or(s.cfg.ACL.DefaultPolicy, "allow"))
	for k, v := range p.Headers {
		r.fixed.Set(k, v)
	}
	if !slices.ContainsFunc(ownFields, func(name string) bool { return r.fixed[name] != nil }) {
		r.given = fastpath.NewFields(r.fixed)
	}
	r.read, r.write = limiter(p.Requests.Read), limiter(p.Requests.Write)
	s.rules.Store(r)
}

func limiter(perSecond float64) *rate.Limiter {
	if perSecond < 0 {
		return rate.NewLimiter(rate.Inf, 0)
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(perSecond*burst)))
}

// tooMany reports whether a request is over the rate, and answers it then: 429 for a read,
// which another server may take, 503 for a write.
func (s *Server) tooMany(w http.ResponseWriter, r *http.Request, path string) bool {
	rules := s.rules.Load()
	limits := rules.Requests
	if !limits.Enforce && !limits.Watch || free(path) {
		return false
	}
	allowance, code, text := rules.read, http.StatusTooManyRequests, "rate limit exceeded, try again later or against a different server"
	if r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodOptions {
		allowance, code, text = rules.write, http.StatusServiceUnavailable, "rate limit exceeded for operation that can only be performed by the leader, try again later"
	}
	if allowance.Allow() {
		return false
	}
	rules.told.Do(func() {
		s.log.Warn("more requests than limits.request_limits allows", "refused", limits.Enforce, "method", r.Method, "path", path, "from", r.RemoteAddr)
	})
	if !limits.Enforce {
		return false
	}
	w.Header().Set("Retry-After", "1")
	fail(w, code, text)
	return true
}

// free names the paths that no rate bounds.
func free(path string) bool {
	return !strings.HasPrefix(path, "/v1/") || strings.HasPrefix(path, "/v1/agent/") || strings.HasPrefix(path, "/v1/status/")
}
