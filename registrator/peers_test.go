package main

import (
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// spokenTo looks on to whom a process has connections over IP, until its result is
// asked for.
func spokenTo(t testing.TB, pid int) func() []string {
	var mu sync.Mutex
	seen := map[string]bool{}
	end := watch(t, "its connections", time.Millisecond, func() error {
		mu.Lock()
		defer mu.Unlock()
		for _, p := range connections(pid) {
			seen[p] = true
		}
		return nil
	})
	return func() []string {
		end()
		mu.Lock()
		defer mu.Unlock()
		var out []string
		for p := range seen {
			out = append(out, p)
		}
		slices.Sort(out)
		return out
	}
}

// connections gives the other ends of a process's sockets.
func connections(pid int) []string {
	own := map[string]bool{}
	fds, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid)) // the pattern is well formed
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil {
			if inode, ok := strings.CutPrefix(to, "socket:["); ok {
				own[strings.TrimSuffix(inode, "]")] = true
			}
		}
	}
	var out []string
	for _, proto := range []string{"tcp", "tcp6", "udp", "udp6"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/%s", pid, proto))
		if err != nil {
			continue
		}
		for _, line := range strings.Split(string(b), "\n")[1:] {
			f := strings.Fields(line)
			if len(f) < 10 || !own[f[9]] {
				continue
			}
			if peer := address(f[2]); !strings.HasSuffix(peer, ":0") {
				out = append(out, peer)
			}
		}
	}
	return out
}

// address reads "0100007F:1F90" as the kernel writes it.
func address(s string) string {
	host, port, _ := strings.Cut(s, ":")
	b, err := hex.DecodeString(host)
	if err != nil {
		return s
	}
	for i := 0; i+4 <= len(b); i += 4 { // words are in the machine's order
		slices.Reverse(b[i : i+4])
	}
	var n int
	fmt.Sscanf(port, "%x", &n) // 0 where it cannot be read
	return net.JoinHostPort(net.IP(b).String(), fmt.Sprint(n))
}
