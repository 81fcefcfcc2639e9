package agent

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"

	"github.com/rollcall/rollcall/server/internal/config"
)

// listenUnix opens a socket file with the rights that are configured; one that nobody
// listens on any more is replaced.
func listenUnix(key, path string, rights config.UnixSockets) (net.Listener, error) {
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("%s: another process listens on %s: stop that one, or choose another path", key, path)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().Type() == fs.ModeSocket {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("%s: old socket %s: %w", key, path, err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("%s: listen on %s: %w", key, path, err)
	}
	if err := setRights(path, rights); err != nil {
		return nil, errors.Join(fmt.Errorf("unix_sockets: %w", err), l.Close())
	}
	return l, nil
}

// setRights gives a socket its owner, group and mode, where they are set.
func setRights(path string, rights config.UnixSockets) error {
	uid, gid := -1, -1 // as they are
	if rights.User != "" {
		n, err := number(rights.User, func(name string) (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		})
		if err != nil {
			return fmt.Errorf("user %q: %w", rights.User, err)
		}
		uid = n
	}
	if rights.Group != "" {
		n, err := number(rights.Group, func(name string) (string, error) {
			g, err := user.LookupGroup(name)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		})
		if err != nil {
			return fmt.Errorf("group %q: %w", rights.Group, err)
		}
		gid = n
	}
	if uid >= 0 || gid >= 0 {
		if err := os.Chown(path, uid, gid); err != nil {
			return err
		}
	}
	if mode, err := rights.Rights(); err == nil && mode != 0 { // Validate has refused others
		return os.Chmod(path, fs.FileMode(mode))
	}
	return nil
}

// number takes an id as it is, and looks a name up.
func number(text string, lookup func(string) (string, error)) (int, error) {
	if n, err := strconv.Atoi(text); err == nil {
		return n, nil
	}
	id, err := lookup(text)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(id)
}
