package dnsserver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// recurse has the recursors answer a packet, and cuts what they say to what the client
// takes.
func (s *Server) recurse(ctx context.Context, cfg *Config, to, packet []byte, r *request) []byte {
	s.counts.recursed.Add(1)
	q := new(dns.Msg)
	if err := q.Unpack(packet); err != nil {
		return r.failure(to, dns.RcodeFormatError, true)
	}
	m, err := cfg.forward(ctx, q, r.udp)
	if err != nil {
		s.warn(cfg, "no recursor answered", "name", r.text(), "err", err)
		return r.failure(to, dns.RcodeServerFailure, true)
	}
	m.Id, m.RecursionAvailable, m.Compress = r.id, true, true
	m.Truncate(r.size)
	wire, err := m.Pack()
	if err != nil || len(wire) > r.size {
		s.warn(cfg, "a recursor's answer cannot be passed on", "name", r.text(), "bytes", len(wire), "err", err)
		return r.failure(to, dns.RcodeServerFailure, true)
	}
	return append(to, wire...)
}

// forward asks the recursors, by their strategy, each for RecursorTimeout at most; the
// first that knows, or knows that there is nothing, answers.
func (c *Config) forward(ctx context.Context, q *dns.Msg, udp bool) (*dns.Msg, error) {
	client := &dns.Client{Net: "udp", Timeout: c.RecursorTimeout, UDPSize: dns.MaxMsgSize - 1}
	if !udp {
		client.Net = "tcp"
	}
	q = q.Copy()
	q.Id = dns.Id() // an id that the client chose could be guessed by others
	list := c.Recursors
	if c.RandomRecursors {
		list = slices.Clone(list)
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	var errs []error
	for _, addr := range list {
		m, _, err := client.ExchangeContext(ctx, q, addr)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("ask recursor %s: %w", addr, err))
		case m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError:
			return m, nil
		default:
			errs = append(errs, fmt.Errorf("ask recursor %s: it answered %s", addr, dns.RcodeToString[m.Rcode]))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

// withPort gives every recursor a port.
func withPort(list []string) []string {
	var out []string
	for _, r := range list {
		if _, _, err := net.SplitHostPort(r); err != nil {
			r = net.JoinHostPort(strings.Trim(r, "[]"), "53")
		}
		out = append(out, r)
	}
	return out
}
