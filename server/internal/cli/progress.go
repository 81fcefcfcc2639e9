package cli

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

// progress shows on a terminal how far a long work is; elsewhere it shows nothing.
type progress struct {
	to    io.Writer // nil: nobody looks
	what  string
	total int64 // 0 if not known
	done  int64
	unit  func(int64) string
	next  time.Time
	drawn bool
}

// progressEvery is how often it is drawn.
const progressEvery = 100 * time.Millisecond

func (a *app) progress(what string, total int64, unit func(int64) string) *progress {
	p := &progress{what: what, total: total, unit: unit}
	if terminal(a.Stderr) {
		p.to = a.Stderr
	}
	return p
}

// add says that so much more is done.
func (p *progress) add(n int64) {
	p.done += n
	if now := time.Now(); p.to != nil && now.After(p.next) {
		p.next = now.Add(progressEvery)
		p.draw()
	}
}

// Write counts bytes that pass.
func (p *progress) Write(b []byte) (int, error) {
	p.add(int64(len(b)))
	return len(b), nil
}

func (p *progress) draw() {
	width, _ := columns(p.to)
	line := fmt.Sprintf("%s %s", p.what, p.unit(p.done))
	if p.total > 0 {
		line += " of " + p.unit(p.total)
		if bar := int64(min(30, width-len(line)-4)); bar > 2 { // else there is no room
			full := int(min(p.done*bar/p.total, bar))
			line += " [" + strings.Repeat("=", full) + strings.Repeat(" ", int(bar)-full) + "]"
		}
	}
	line = line[:min(len(line), max(width-1, 0))] // a longer one would leave a line at each draw
	fmt.Fprintf(p.to, "\r\x1b[K%s", line)
	p.drawn = true
}

// RoundTrip counts the bytes of an answer as they are read.
func (t counted) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.RoundTripper.RoundTrip(r)
	if err == nil {
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.TeeReader(resp.Body, t.progress), resp.Body}
	}
	return resp, err
}

// counted is a transport whose answers are progress.
type counted struct {
	http.RoundTripper
	*progress
}

// countedClient is a client of the agent that shows how much it has got.
func countedClient(c *cli.Command, show *progress) (*consul.Client, error) {
	return clientVia(c, func(t http.RoundTripper) http.RoundTripper { return counted{t, show} })
}

// end takes the line away.
func (p *progress) end() {
	if p.drawn {
		fmt.Fprint(p.to, "\r\x1b[K")
	}
}

// bytesOf prints a size for people.
func bytesOf(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%dB", n)
	case n < 1<<20:
		return fmt.Sprintf("%.1fKB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.1fMB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1fGB", float64(n)/(1<<30))
}
