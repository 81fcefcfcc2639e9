// Package logging is where the agent's log goes: a stream such as standard error, a file
// that begins anew by size and time, the host's syslog, and whoever follows over HTTP, each
// from its own level on. A line is formatted once for all who take the same form. Sinks
// that fail or are slow never hold the program up: a follower loses lines and is told how
// many.
//
// Text has Consul's form, time, level, room, message, facts; JSON has its keys.
package logging

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
)

// Config is what Open needs.
type Config struct {
	// Level is from where on the stream, the file and syslog take lines; it may change.
	Level *slog.LevelVar
	// JSON is the form of the stream and of the file.
	JSON   bool
	Stream io.Writer
	// File is where a log file stands; "" is none. See File.
	File File
	// Syslog sends to the host's syslog, as facility Facility.
	Syslog   bool
	Facility int
}

// form is how a line looks.
type form uint8

const (
	text form = iota
	asJSON
	bare // text without time and level, which syslog has itself
	forms
)

// Log is the agent's log.
type Log struct {
	closers []func() error
	levels  atomic.Pointer[[]slog.Leveler] // of all sinks

	mu    sync.Mutex
	now   slog.Level // of the line being written; guarded by mu
	sinks []*sink    // guarded by mu
}

// sink takes lines of a form from a level on. write is called with Log.mu held.
type sink struct {
	form  form
	level slog.Leveler
	write func(level slog.Level, line []byte)
}

// Open opens the file and syslog.
func Open(cfg Config) (*Log, error) {
	l := &Log{}
	how := text
	if cfg.JSON {
		how = asJSON
	}
	l.add(&sink{how, cfg.Level, func(_ slog.Level, line []byte) {
		cfg.Stream.Write(line) // nobody to tell
	}})
	if cfg.File.Path != "" {
		f, err := openFile(cfg.File)
		if err != nil {
			return nil, fmt.Errorf("log_file: %w", err)
		}
		l.closers = append(l.closers, f.Close)
		failing := false
		l.add(&sink{how, cfg.Level, func(_ slog.Level, line []byte) {
			_, err := f.Write(line)
			if err != nil && !failing {
				fmt.Fprintf(cfg.Stream, "log file not written: %v\n", err)
			}
			failing = err != nil
		}})
	}
	if cfg.Syslog {
		write, close, err := dialSyslog("", "", cfg.Facility)
		if err != nil {
			return nil, fmt.Errorf("enable_syslog: %w", err)
		}
		l.closers = append(l.closers, close)
		l.add(&sink{bare, cfg.Level, write})
	}
	return l, nil
}

// Close closes the file and syslog. Lines to come go to the stream only.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var first error
	for _, f := range l.closers {
		if err := f(); err != nil && first == nil {
			first = err
		}
	}
	l.sinks = slices.DeleteFunc(l.sinks, func(s *sink) bool { return s != l.sinks[0] })
	l.closers = nil
	l.measure()
	return first
}

func (l *Log) add(s *sink) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sinks = append(l.sinks, s)
	l.measure()
}

func (l *Log) drop(s *sink) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sinks = slices.DeleteFunc(l.sinks, func(o *sink) bool { return o == s })
	l.measure()
}

// measure notes the levels, so that nobody formats what no sink takes. Called with mu
// held.
func (l *Log) measure() {
	levels := make([]slog.Leveler, 0, len(l.sinks))
	for _, s := range l.sinks {
		levels = append(levels, s.level)
	}
	l.levels.Store(&levels)
}

// followed is how many lines a follower may lag behind.
const followed = 512

// Follow calls write with each line at or above level, until ctx ends or write fails,
// which it gives. The lines of a follower that is too slow are counted, and the number is
// told.
func (l *Log) Follow(ctx context.Context, level slog.Level, json bool, write func(line []byte) error) error {
	lines := make(chan []byte, followed)
	lost := 0 // guarded by mu
	s := &sink{form: text, level: level, write: func(_ slog.Level, line []byte) {
		select {
		case lines <- slices.Clone(line):
		default:
			lost++
		}
	}}
	if json {
		s.form = asJSON
	}
	l.add(s)
	defer l.drop(s)
	for {
		select {
		case <-ctx.Done():
			return nil
		case line := <-lines:
			if err := write(line); err != nil {
				return err
			}
		}
		l.mu.Lock()
		n := lost
		lost = 0
		l.mu.Unlock()
		if n == 0 {
			continue
		}
		note := fmt.Sprintf("[WARN]  %d lines were not sent, for they were not taken in time\n", n)
		if json {
			note = fmt.Sprintf("{\"@level\":\"warn\",\"@message\":\"lines were not sent, for they were not taken in time\",\"lines\":%d}\n", n)
		}
		if err := write([]byte(note)); err != nil {
			return err
		}
	}
}

// Logger gives the logger that writes into l.
func (l *Log) Logger() *slog.Logger {
	h := &handler{log: l}
	h.each[text] = &lineHandler{out: &collector{l, text}}
	h.each[bare] = &lineHandler{out: &collector{l, bare}, bare: true}
	h.each[asJSON] = slog.NewJSONHandler(&collector{l, asJSON}, &slog.HandlerOptions{Level: slog.LevelDebug, ReplaceAttr: rename})
	return slog.New(h)
}

// handler hands a record to the forms that somebody takes.
type handler struct {
	log  *Log
	each [forms]slog.Handler
}

func (h *handler) Enabled(_ context.Context, level slog.Level) bool {
	for _, l := range *h.log.levels.Load() {
		if level >= l.Level() {
			return true
		}
	}
	return false
}

func (h *handler) Handle(ctx context.Context, r slog.Record) error {
	h.log.mu.Lock()
	defer h.log.mu.Unlock()
	h.log.now = r.Level
	for how, f := range h.each {
		wanted := slices.ContainsFunc(h.log.sinks, func(s *sink) bool { return s.form == form(how) && r.Level >= s.level.Level() })
		if !wanted {
			continue
		}
		if err := f.Handle(ctx, r.Clone()); err != nil {
			return err
		}
	}
	return nil
}

func (h *handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := &handler{log: h.log}
	for i, f := range h.each {
		next.each[i] = f.WithAttrs(attrs)
	}
	return next
}

func (h *handler) WithGroup(name string) slog.Handler {
	next := &handler{log: h.log}
	for i, f := range h.each {
		next.each[i] = f.WithGroup(name)
	}
	return next
}

// collector is where a form's lines arrive, with Log.mu held.
type collector struct {
	log  *Log
	form form
}

func (c *collector) Write(line []byte) (int, error) {
	for _, s := range c.log.sinks {
		if s.form == c.form && c.log.now >= s.level.Level() {
			s.write(c.log.now, line)
		}
	}
	return len(line), nil
}
