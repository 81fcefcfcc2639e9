package telemetry

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/armon/go-metrics"
)

// dialect is how a collector wants its lines.
type dialect uint8

const (
	statsd    dialect = iota // UDP, labels in the name
	statsite                 // TCP, labels in the name
	dogstatsd                // UDP, labels as tags
)

const (
	queued    = 4096 // metrics that may wait; more are dropped, so that nobody waits for a collector
	packet    = 1400 // bytes that pass any network in one piece
	flushing  = 100 * time.Millisecond
	dialTime  = 5 * time.Second
	writeTime = 5 * time.Second
	redial    = 5 * time.Second
)

// wire sends metrics to one collector. Setting one never blocks: the collector may be away.
type wire struct {
	dialect dialect
	addr    string
	tags    string // "|#a:b,c:d", or ""
	log     *slog.Logger
	lines   chan string
}

var _ metrics.MetricSink = (*wire)(nil)

func newWire(d dialect, addr string, tags []string, log *slog.Logger) *wire {
	w := &wire{dialect: d, addr: addr, log: log.With("collector", addr), lines: make(chan string, queued)}
	if d == dogstatsd && len(tags) > 0 {
		w.tags = "|#" + strings.Join(tags, ",")
	}
	return w
}

// name makes one word of a key.
func name(parts []string) string {
	return strings.Map(func(r rune) rune {
		switch r {
		case ':', ' ', '|', '@', '\n':
			return '_'
		}
		return r
	}, strings.Join(parts, "."))
}

// push queues a line: name:value|kind, with tags where the dialect has them.
func (w *wire) push(key []string, val float32, kind string, labels []metrics.Label) {
	tags := w.tags
	for _, l := range labels {
		if w.dialect != dogstatsd {
			key = append(key[:len(key):len(key)], l.Value)
			continue
		}
		between := ","
		if tags == "" {
			between = "|#"
		}
		tags += between + name([]string{l.Name}) + ":" + strings.ReplaceAll(name([]string{l.Value}), ",", "_")
	}
	select {
	case w.lines <- name(key) + ":" + strconv.FormatFloat(float64(val), 'f', -1, 32) + "|" + kind + tags + "\n":
	default:
	}
}

func (w *wire) SetGauge(key []string, val float32)    { w.push(key, val, "g", nil) }
func (w *wire) IncrCounter(key []string, val float32) { w.push(key, val, "c", nil) }
func (w *wire) AddSample(key []string, val float32)   { w.push(key, val, "ms", nil) }
func (w *wire) EmitKey(key []string, val float32) {
	if w.dialect != dogstatsd { // which has no such kind
		w.push(key, val, "kv", nil)
	}
}
func (w *wire) SetGaugeWithLabels(key []string, val float32, l []metrics.Label) {
	w.push(key, val, "g", l)
}
func (w *wire) IncrCounterWithLabels(key []string, val float32, l []metrics.Label) {
	w.push(key, val, "c", l)
}
func (w *wire) AddSampleWithLabels(key []string, val float32, l []metrics.Label) {
	w.push(key, val, "ms", l)
}

// run sends until ctx ends, and what waits then. A collector that is away is tried again
// and again; the log says so once.
func (w *wire) run(ctx context.Context) {
	failing := false
	for ctx.Err() == nil {
		c, err := w.dial(ctx)
		if err == nil {
			if failing {
				w.log.Info("metrics are sent again")
			}
			failing = false
			err = w.send(ctx, c)
			c.Close()
		}
		if ctx.Err() != nil {
			return
		}
		if !failing {
			w.log.Warn("metrics are not sent; trying on", "err", err)
		}
		failing = true
		again := time.NewTimer(redial)
		select {
		case <-ctx.Done():
		case <-again.C:
		}
		again.Stop()
	}
}

func (w *wire) dial(ctx context.Context) (net.Conn, error) {
	network := "udp"
	if w.dialect == statsite {
		network = "tcp"
	}
	d := net.Dialer{Timeout: dialTime}
	return d.DialContext(ctx, network, w.addr)
}

// send gathers lines into packets and writes them.
func (w *wire) send(ctx context.Context, c net.Conn) error {
	var b bytes.Buffer
	flush := func() error {
		if b.Len() == 0 {
			return nil
		}
		c.SetWriteDeadline(time.Now().Add(writeTime))
		_, err := c.Write(b.Bytes())
		b.Reset()
		if w.dialect != statsite {
			return nil // a UDP collector that is away comes back at the same address
		}
		return err
	}
	tick := time.NewTicker(flushing)
	defer tick.Stop()
	for {
		select {
		case line := <-w.lines:
			if b.Len()+len(line) > packet {
				if err := flush(); err != nil {
					return err
				}
			}
			b.WriteString(line)
		case <-tick.C:
			if err := flush(); err != nil {
				return err
			}
		case <-ctx.Done():
			for {
				select {
				case line := <-w.lines:
					if b.Len()+len(line) > packet {
						if err := flush(); err != nil {
							return err
						}
					}
					b.WriteString(line)
				default:
					return flush()
				}
			}
		}
	}
}
