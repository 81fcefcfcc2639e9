package httpapi

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// cached reads from what the agent keeps.
func (r *request) cached(ctx context.Context, q *endpoint.Query) (*reply, error) {
	want, err := freshness(r.Header.Values("Cache-Control"))
	if err != nil {
		return nil, err
	}
	c, err := r.server.cfg.Cached.Read(ctx, q, want)
	if err != nil {
		return nil, err
	}
	h := http.Header{"X-Cache": {"MISS"}}
	if c.Hit {
		h.Set("X-Cache", "HIT")
		h.Set("Age", strconv.FormatInt(int64(c.Age/time.Second), 10))
	}
	return &reply{answer: c.Answer, header: h}, nil
}

// freshness reads Cache-Control; what has no meaning here is left alone.
func freshness(lines []string) (endpoint.Freshness, error) {
	var f endpoint.Freshness
	for part := range strings.SplitSeq(strings.ToLower(strings.Join(lines, ",")), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "must-revalidate":
			f.MustRevalidate = true
		case "max-age", "stale-if-error":
			n, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
			if err != nil {
				return f, api.Errorf(api.Invalid, "Invalid Cache-Control: %s=%q is no number of seconds", name, value)
			}
			d := time.Duration(n) * time.Second
			if name == "max-age" {
				f.MaxAge = d
				f.MustRevalidate = f.MustRevalidate || n == 0
			} else {
				f.StaleIfError = d
			}
		}
	}
	return f, nil
}
