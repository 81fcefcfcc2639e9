package agent

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/rollcall/rollcall/server/internal/config"
)

// settled is how long files must have been left alone before they are read: editors and
// configuration managers write in several steps.
const settled = 500 * time.Millisecond

// followFiles takes over certificates that have another content, and with auto_reload_config
// reloads when a configuration file has, until ctx ends. What is watched are directories, so that files that are replaced by renaming, and links that
// are turned to another place, are noticed too.
func (a *Agent) followFiles(ctx context.Context) error {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return fmt.Errorf("follow files: %w", err)
	}
	defer w.Close()
	for _, path := range a.watchedFiles() {
		for _, dir := range []string{path, filepath.Dir(path)} {
			if info, err := os.Stat(dir); err != nil || !info.IsDir() {
				continue
			}
			if err := w.Add(dir); err != nil {
				return fmt.Errorf("follow files: watch %s: %w", dir, err)
			}
		}
	}
	last, lastConf := fingerprint(a.watchedFiles()), fingerprint(a.configFiles())
	quiet := time.NewTimer(0)
	<-quiet.C
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-w.Errors:
			a.log.Warn("configuration files may have changed unnoticed", "err", err)
			quiet.Reset(settled)
		case <-w.Events:
			quiet.Reset(settled)
		case <-quiet.C:
			now, conf := fingerprint(a.watchedFiles()), fingerprint(a.configFiles())
			switch {
			case conf != lastConf:
				a.log.Info("configuration files changed; reloading")
				if err := a.reload(ctx); err != nil {
					a.log.Error("reload refused; the old configuration stays", "err", err)
				}
			case now != last:
				if err := a.renewCertificates(); err != nil {
					a.log.Error("changed certificates not taken over; the old ones stay", "err", err)
				}
			}
			last, lastConf = now, conf
		}
	}
}

// configFiles are the configuration's files and directories, where they are followed.
func (a *Agent) configFiles() []string {
	if !a.cfg().AutoReload {
		return nil
	}
	return a.opts.Files
}

// certificateFiles are those of HTTPS and of what goes between agents.
func (a *Agent) certificateFiles() []string {
	var out []string
	t := a.cfg().TLS
	for _, c := range []config.Certificate{t.HTTPS, t.InternalRPC} {
		for _, f := range []string{c.CertFile, c.KeyFile, c.CAFile, c.CAPath} {
			if f != "" && !slices.Contains(out, f) {
				out = append(out, f)
			}
		}
	}
	return out
}

// watchedFiles are all that are followed.
func (a *Agent) watchedFiles() []string { return slices.Concat(a.configFiles(), a.certificateFiles()) }

// renewCertificates reads the certificates again; a fault in one changes nothing.
func (a *Agent) renewCertificates() error {
	a.reloading.Lock()
	defer a.reloading.Unlock()
	use, err := a.readCertificates(a.cfg())
	if err != nil {
		return err
	}
	use()
	a.log.Info("certificates renewed")
	return nil
}

// readCertificates reads all certificates of a configuration, and gives what makes them the
// ones in use.
func (a *Agent) readCertificates(cfg *config.Config) (use func(), err error) {
	show := func() {}
	if a.certs != nil {
		if show, err = a.certs.Prepare(httpsFiles(cfg)); err != nil {
			return nil, fmt.Errorf("tls.https: %w", err)
		}
	}
	showPeers, err := a.peers.Prepare(peerFiles(cfg))
	if err != nil {
		return nil, fmt.Errorf("tls.internal_rpc: %w", err)
	}
	checkTLS, err := readCheckTLS(cfg)
	if err != nil {
		return nil, err
	}
	return func() {
		show()
		showPeers()
		a.checkTLS.Store(checkTLS)
	}, nil
}

// fingerprint tells one content of the files from another. A file that cannot be read is
// a content too: the reload says what is wrong.
func fingerprint(paths []string) [sha256.Size]byte {
	h := sha256.New()
	add := func(path string) {
		b, err := os.ReadFile(path)
		fmt.Fprintf(h, "%q %d %t\n", path, len(b), err == nil)
		h.Write(b)
	}
	for _, path := range paths {
		entries, err := os.ReadDir(path)
		var not *fs.PathError
		if errors.As(err, &not) { // a file
			add(path)
			continue
		}
		for _, e := range entries {
			if !e.IsDir() {
				add(filepath.Join(path, e.Name()))
			}
		}
	}
	return [sha256.Size]byte(h.Sum(nil))
}
