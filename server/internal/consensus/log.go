package consensus

import (
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// hclogger hands what Raft and its stores log to slog. What they call info is detail to
// an operator, who hears of leadership from us.
type hclogger struct {
	log  *slog.Logger
	name string
}

var _ hclog.Logger = (*hclogger)(nil)

// levels are for messages whose own level misleads: they mend themselves, or come in
// the ordinary course of things.
var levels = map[string]slog.Level{
	"failed to accept connection":                               slog.LevelDebug,
	"failed to appendEntries to":                                slog.LevelWarn,
	"failed to contact":                                         slog.LevelDebug,
	"failed to decode incoming command":                         slog.LevelDebug,
	"failed to flush response":                                  slog.LevelDebug,
	"failed to get previous log":                                slog.LevelDebug,
	"failed to heartbeat to":                                    slog.LevelWarn,
	"failed to install snapshot":                                slog.LevelWarn,
	"failed to make requestVote RPC":                            slog.LevelWarn,
	"failed to pipeline appendEntries":                          slog.LevelWarn,
	"failed to send snapshot to":                                slog.LevelWarn,
	"failed to start pipeline replication to":                   slog.LevelWarn,
	"heartbeat timeout reached, starting election":              slog.LevelInfo,
	"no known peers, aborting election":                         slog.LevelDebug,
	"peer has newer term, stopping replication":                 slog.LevelInfo,
	"rejecting pre-vote request since we have a leader":         slog.LevelDebug,
	"target does not support pre-vote RPC, treating as granted": slog.LevelDebug,
	"unable to get address for server, using fallback address":  slog.LevelDebug,
}

func (h *hclogger) Log(level hclog.Level, msg string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case hclog.Warn:
		to = slog.LevelWarn
	case hclog.Error:
		to = slog.LevelError
	}
	if l, ok := levels[msg]; ok {
		to = l
	}
	ctx := context.Background()
	if !h.log.Enabled(ctx, to) {
		return
	}
	for i, a := range args {
		if f, ok := a.(hclog.Format); ok && len(f) > 0 {
			args[i] = fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
		}
	}
	h.log.Log(ctx, to, msg, args...)
}

func (h *hclogger) Trace(msg string, args ...any) { h.Log(hclog.Trace, msg, args...) }
func (h *hclogger) Debug(msg string, args ...any) { h.Log(hclog.Debug, msg, args...) }
func (h *hclogger) Info(msg string, args ...any)  { h.Log(hclog.Info, msg, args...) }
func (h *hclogger) Warn(msg string, args ...any)  { h.Log(hclog.Warn, msg, args...) }
func (h *hclogger) Error(msg string, args ...any) { h.Log(hclog.Error, msg, args...) }

func (h *hclogger) IsTrace() bool { return h.IsDebug() }
func (h *hclogger) IsDebug() bool { return h.log.Enabled(context.Background(), slog.LevelDebug) }
func (h *hclogger) IsInfo() bool  { return h.IsDebug() }
func (h *hclogger) IsWarn() bool  { return h.log.Enabled(context.Background(), slog.LevelWarn) }
func (h *hclogger) IsError() bool { return h.log.Enabled(context.Background(), slog.LevelError) }

func (h *hclogger) ImpliedArgs() []any               { return nil }
func (h *hclogger) With(args ...any) hclog.Logger    { return &hclogger{h.log.With(args...), h.name} }
func (h *hclogger) Name() string                     { return h.name }
func (h *hclogger) Named(name string) hclog.Logger   { return &hclogger{h.log, name} }
func (h *hclogger) ResetNamed(n string) hclog.Logger { return h.Named(n) }
func (h *hclogger) SetLevel(hclog.Level)             {}
func (h *hclogger) GetLevel() hclog.Level            { return hclog.Debug }

func (h *hclogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(h.log.Handler(), slog.LevelDebug)
}

func (h *hclogger) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return h.StandardLogger(o).Writer()
}
