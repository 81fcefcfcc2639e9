package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/rollcall/rollcall/server/internal/logging"
)

// hclogger hands what Raft and its stores log to slog. What they call info is detail to
// an operator, who hears of leadership from us.
type hclogger struct {
	log    *slog.Logger
	name   string
	spared *logging.Sparing // shared with those made of it
}

func newHCLogger(log *slog.Logger) *hclogger {
	return &hclogger{log: log, spared: &logging.Sparing{Pause: repeated}}
}

// repeated is how long Raft does not say the same of the same server again, as it would twice
// a second of one that is down, or of elections that nobody wins.
const repeated = time.Minute

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
	peer := "" // whom it is about
	for i, a := range args {
		switch a := a.(type) {
		case hclog.Format:
			if len(a) > 0 {
				args[i] = fmt.Sprintf(fmt.Sprint(a[0]), a[1:]...)
			}
		case error:
			if errors.Is(a, errStalled) || errors.Is(a, context.Canceled) { // the watchdog has said so, once; it ends
				to = slog.LevelDebug
			}
		}
		if (a == "peer" || a == "target") && i+1 < len(args) {
			peer = fmt.Sprint(args[i+1])
		}
	}
	ctx := context.Background()
	switch {
	case !h.log.Enabled(ctx, to):
	case to == slog.LevelWarn || to > slog.LevelWarn && peer != "":
		h.spared.Log(h.log, to, peer, msg, args...)
	default:
		h.log.Log(ctx, to, msg, args...)
	}
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

func (h *hclogger) ImpliedArgs() []any { return nil }
func (h *hclogger) With(args ...any) hclog.Logger {
	return &hclogger{h.log.With(args...), h.name, h.spared}
}
func (h *hclogger) Name() string                     { return h.name }
func (h *hclogger) Named(name string) hclog.Logger   { return &hclogger{h.log, name, h.spared} }
func (h *hclogger) ResetNamed(n string) hclog.Logger { return h.Named(n) }
func (h *hclogger) SetLevel(hclog.Level)             {}
func (h *hclogger) GetLevel() hclog.Level            { return hclog.Debug }

func (h *hclogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return slog.NewLogLogger(h.log.Handler(), slog.LevelDebug)
}

func (h *hclogger) StandardWriter(o *hclog.StandardLoggerOptions) io.Writer {
	return h.StandardLogger(o).Writer()
}
