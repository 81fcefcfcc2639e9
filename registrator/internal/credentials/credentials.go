// Package credentials lets a client of the catalog follow its token file, certificates
// and keys as they change on disk, without a restart. It looks at the files when a request
// is made, at most once a second; what cannot be read or used leaves the last good ones
// in force. main puts it under the client; it starts nothing.
package credentials

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// header carries the token of a request.
const header = "X-Consul-Token"

// lookEvery is how often files are looked at, at most.
const lookEvery = time.Second

// follower is the transport of a client.
type follower struct {
	cfg   consul.Config // as it was given; its Transport is the model of every new one
	first string        // the token that the client was made with and puts into requests
	log   *slog.Logger

	mu     sync.Mutex
	looked time.Time
	seen   string // what the files looked like when they were last read, well or not
	token  string
	base   http.RoundTripper
}

// Follow makes the client of cfg follow what cfg names: the token file, the certificates
// and the key. It fails where they cannot be used now.
func Follow(cfg *consul.Config, log *slog.Logger) error {
	f := &follower{cfg: *cfg, log: log.With("room", "credentials")}
	if path, ok := strings.CutPrefix(cfg.Address, "unix://"); ok {
		// The client would make a transport of its own for a socket.
		f.cfg.Transport = cfg.Transport.Clone()
		f.cfg.Transport.Proxy = nil
		f.cfg.Transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		cfg.Address = "localhost"
	}
	f.seen, f.looked = f.look(), time.Now()
	token, base, err := f.load()
	if err != nil {
		return err
	}
	f.token, f.base = token, base
	f.first = cmp.Or(token, cfg.Token)
	cfg.HttpClient = &http.Client{Transport: f}
	return nil
}

// RoundTrip implements http.RoundTripper. A token that a request has of its own stays.
func (f *follower) RoundTrip(req *http.Request) (*http.Response, error) {
	token, base := f.current()
	if has := req.Header.Get(header); token != "" && token != has && (has == "" || has == f.first) {
		req = req.Clone(req.Context())
		req.Header.Set(header, token)
	}
	return base.RoundTrip(req)
}

// current gives what is in force, after a look at the files where it is time for one.
func (f *follower) current() (token string, base http.RoundTripper) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := time.Now(); now.Sub(f.looked) >= lookEvery {
		f.looked = now
		if is := f.look(); is != f.seen {
			f.seen = is
			f.renew()
		}
	}
	return f.token, f.base
}

// renew takes changed files into use, or keeps what is in force. It is called with mu held.
func (f *follower) renew() {
	token, base, err := f.load()
	if err != nil {
		f.log.Warn("changed credentials not used; the last good ones stay in force", "err", err)
		return
	}
	if old, ok := f.base.(interface{ CloseIdleConnections() }); ok {
		old.CloseIdleConnections() // those in use end with their requests
	}
	f.token, f.base = token, base
	f.log.Info("changed credentials taken into use")
}

// load reads all files and makes a transport of them.
func (f *follower) load() (token string, base http.RoundTripper, err error) {
	if f.cfg.TokenFile != "" {
		b, err := os.ReadFile(f.cfg.TokenFile)
		if err != nil {
			return "", nil, fmt.Errorf("token file: %w", err)
		}
		token = strings.TrimSpace(string(b))
	}
	t := f.cfg.Transport.Clone()
	t.TLSClientConfig, t.TLSNextProto = nil, nil // a clone has them set, and then ours would not be
	c, err := consul.NewHttpClient(t, f.cfg.TLSConfig)
	if err != nil {
		return "", nil, fmt.Errorf("TLS to the catalog: %w", err)
	}
	return token, c.Transport, nil
}

// look says in a few words what the files are like, so that a change shows.
func (f *follower) look() string {
	var out strings.Builder
	t := f.cfg.TLSConfig
	for _, path := range []string{f.cfg.TokenFile, t.CAFile, t.CAPath, t.CertFile, t.KeyFile} {
		if path == "" {
			continue
		}
		s, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			fmt.Fprintf(&out, "%s missing;", path)
		case err != nil:
			fmt.Fprintf(&out, "%s %v;", path, err)
		default:
			fmt.Fprintf(&out, "%s %d %d;", path, s.Size(), s.ModTime().UnixNano())
		}
	}
	return out.String()
}
