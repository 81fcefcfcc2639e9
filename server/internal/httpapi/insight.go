package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/rollcall/rollcall/internal/api"
)

// Insight is what an agent lets be seen of its running. Methods may be called
// concurrently.
type Insight interface {
	// Level reports whether a level has that name.
	Level(name string) bool
	// Follow calls write with each line of the log at or above level, until ctx ends or
	// write fails.
	Follow(ctx context.Context, level string, json bool, write func(line []byte) error) error
	// Metrics gives the last interval's.
	Metrics() (any, error)
	// StreamMetrics calls each with every interval's metrics, until ctx ends or each fails.
	StreamMetrics(ctx context.Context, each func(any) error)
	// Prometheus writes the metrics in that form. It gives false where that is turned off.
	Prometheus(w io.Writer) (on bool, err error)
	// Host says what the machine is and how full.
	Host() any
	// Counter gives what takes note of an answered request of a verb and the path of a route,
	// told when it began.
	Counter(verb, route string) func(began time.Time)
}

// agentMonitor streams the log.
func agentMonitor(ctx context.Context, r *request) (*reply, error) {
	level := r.query.get("loglevel")
	if level == "" {
		level = "INFO"
	}
	if !r.server.cfg.Insight.Level(level) {
		return nil, api.Errorf(api.Invalid, "Unknown log level: %s", level)
	}
	ctx, cancel := waiting(ctx)
	defer cancel()
	out := r.stream("text/plain; charset=utf-8")
	defer out.close()
	if err := out.piece(nil); err != nil {
		return &reply{sent: true}, nil
	}
	err := r.server.cfg.Insight.Follow(ctx, level, r.query.has("logjson"), out.piece)
	if err != nil && ctx.Err() == nil {
		r.server.log.Debug("a follower of the log left", "from", r.RemoteAddr, "err", err)
	}
	return &reply{sent: true}, nil
}

// agentMetrics gives the metrics of the last interval, as JSON or in Prometheus's form.
func agentMetrics(_ context.Context, r *request) (*reply, error) {
	if r.query.get("format") != "prometheus" {
		v, err := r.server.cfg.Insight.Metrics()
		if err != nil {
			return nil, err
		}
		return &reply{value: v}, nil
	}
	var b bytes.Buffer
	on, err := r.server.cfg.Insight.Prometheus(&b)
	switch {
	case err != nil:
		return nil, err
	case !on:
		return &reply{
			status: http.StatusUnsupportedMediaType, header: http.Header{"Content-Type": {"text/plain; charset=utf-8"}},
			raw: []byte("Prometheus is not enabled since its retention time is not positive"),
		}, nil
	}
	return &reply{raw: b.Bytes(), header: http.Header{"Content-Type": {"text/plain; version=0.0.4; charset=utf-8"}}}, nil
}

// agentMetricsStream sends every interval's metrics, an object each.
func agentMetricsStream(ctx context.Context, r *request) (*reply, error) {
	ctx, cancel := waiting(ctx)
	defer cancel()
	out := r.stream("application/json")
	defer out.close()
	if err := out.piece(nil); err != nil {
		return &reply{sent: true}, nil
	}
	r.server.cfg.Insight.StreamMetrics(ctx, func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return out.piece(append(b, '\n'))
	})
	return &reply{sent: true}, nil
}

func agentHost(_ context.Context, r *request) (*reply, error) {
	return &reply{value: r.server.cfg.Insight.Host()}, nil
}

// stream is an answer that goes on: each piece is with the client before the next is
// there, compressed from the first byte if the client takes gzip.
type stream struct {
	w  http.ResponseWriter
	c  *http.ResponseController
	gz *gzip.Writer // nil if not compressed
}

// stream begins such an answer.
func (r *request) stream(contentType string) *stream {
	s := &stream{w: r.w, c: http.NewResponseController(r.w)}
	h := r.w.Header()
	h.Set("Content-Type", contentType)
	h.Set("X-Content-Type-Options", "nosniff")
	if acceptsGzip(r.Request) {
		h.Set("Content-Encoding", "gzip")
		s.gz = gzip.NewWriter(r.w)
	}
	return s
}

// piece sends b at once; without b, the headers. The client has a bounded time to take it.
func (s *stream) piece(b []byte) error {
	s.c.SetWriteDeadline(time.Now().Add(pieceTime)) // a writer without deadlines is a test's
	var err error
	if s.gz != nil {
		if _, err = s.gz.Write(b); err == nil {
			err = s.gz.Flush()
		}
	} else if len(b) > 0 {
		_, err = s.w.Write(b)
	}
	if err != nil {
		return err
	}
	return s.c.Flush()
}

func (s *stream) close() {
	if s.gz != nil {
		_ = s.gz.Close() // the client left, or the connection ends with this answer
	}
}
