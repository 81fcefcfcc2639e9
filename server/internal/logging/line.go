package logging

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"unicode"
)

// timeForm is to the millisecond, with the zone.
const timeForm = "2006-01-02T15:04:05.000Z07:00"

// lineHandler writes a record as one line of text:
//
//	2026-01-02T15:04:05.000Z [INFO]  agent.gossip: member joined: node=web-1
//
// It writes every record it is given; whoever calls it looks at levels.
type lineHandler struct {
	out    io.Writer
	bare   bool   // without time and level
	room   string // from the attribute of that name
	prefix string // of keys, from groups
	facts  string // from WithAttrs, each with a space before it
}

func (h *lineHandler) Enabled(context.Context, slog.Level) bool { return true }

func (h *lineHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	if !h.bare {
		b.WriteString(r.Time.Format(timeForm))
		b.WriteString(" ")
		b.WriteString(tag(r.Level))
		b.WriteString(" ")
	}
	room, facts := h.room, h.facts
	r.Attrs(func(a slog.Attr) bool {
		if h.prefix == "" && a.Key == "room" {
			room = a.Value.String()
			return true
		}
		facts += fact(h.prefix, a)
		return true
	})
	b.WriteString("agent")
	if room != "" {
		b.WriteString("." + room)
	}
	b.WriteString(": " + strings.ReplaceAll(r.Message, "\n", " "))
	if facts != "" {
		b.WriteString(":" + facts)
	}
	b.WriteString("\n")
	_, err := io.WriteString(h.out, b.String())
	return err
}

func (h *lineHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	for _, a := range attrs {
		if h.prefix == "" && a.Key == "room" {
			next.room = a.Value.String()
			continue
		}
		next.facts += fact(h.prefix, a)
	}
	return &next
}

func (h *lineHandler) WithGroup(name string) slog.Handler {
	next := *h
	next.prefix += name + "."
	return &next
}

// fact is " key=value"; a group is all of its facts.
func fact(prefix string, a slog.Attr) string {
	v := a.Value.Resolve()
	if v.Kind() == slog.KindGroup {
		out := ""
		for _, inner := range v.Group() {
			out += fact(prefix+a.Key+".", inner)
		}
		return out
	}
	text := v.String()
	if v.Kind() == slog.KindAny {
		text = fmt.Sprint(v.Any())
	}
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return r == ' ' || r == '"' || r == '=' || !unicode.IsPrint(r) }) {
		text = strconv.Quote(text)
	}
	return " " + prefix + a.Key + "=" + text
}

// tag is a level as Consul's lines have it.
func tag(l slog.Level) string {
	switch {
	case l >= slog.LevelError:
		return "[ERROR]"
	case l >= slog.LevelWarn:
		return "[WARN] "
	case l >= slog.LevelInfo:
		return "[INFO] "
	}
	return "[DEBUG]"
}

// rename gives the keys of a JSON line as Consul has them.
func rename(groups []string, a slog.Attr) slog.Attr {
	if len(groups) > 0 {
		return a
	}
	switch a.Key {
	case slog.TimeKey:
		return slog.String("@timestamp", a.Value.Time().Format("2006-01-02T15:04:05.000000Z07:00"))
	case slog.LevelKey:
		if l, ok := a.Value.Any().(slog.Level); ok {
			return slog.String("@level", strings.ToLower(strings.Trim(tag(l), "[] ")))
		}
	case slog.MessageKey:
		a.Key = "@message"
	case "room":
		return slog.String("@module", "agent."+a.Value.String())
	}
	return a
}
