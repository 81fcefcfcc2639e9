package agent

import (
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/rollcall/rollcall/server/internal/config"
)

func TestAddresses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*config.Config)
		want   addresses
		err    string
	}{
		"bound":      {func(c *config.Config) { c.BindAddr = "10.0.0.1" }, addresses{bind: "10.0.0.1", advertise: "10.0.0.1", serf: "10.0.0.1"}, ""},
		"advertised": {func(c *config.Config) { c.AdvertiseAddr = "10.0.0.9" }, addresses{bind: "0.0.0.0", advertise: "10.0.0.9", serf: "0.0.0.0"}, ""},
		"a template": {func(c *config.Config) {
			c.BindAddr = `{{ GetAllInterfaces | include "flags" "loopback" | include "type" "IPv4" | limit 1 | join "address" " " }}`
		}, addresses{bind: "127.0.0.1", advertise: "127.0.0.1", serf: "127.0.0.1"}, ""},
		"an interface": {func(c *config.Config) { c.BindInterface = "lo" }, addresses{bind: "127.0.0.1", advertise: "127.0.0.1", serf: "127.0.0.1"}, ""},
		"a client address of an interface that is not there": {func(c *config.Config) {
			c.BindAddr, c.ClientAddr = "10.0.0.1", `127.0.0.1 {{ GetInterfaceIP "none0" }}`
		}, addresses{bind: "10.0.0.1", advertise: "10.0.0.1", serf: "10.0.0.1"}, ""},
		"no interface": {func(c *config.Config) { c.BindInterface = "none0" }, addresses{}, "this host has lo"},
		"for others":   {func(c *config.Config) { c.BindAddr, c.AdvertiseWAN = "10.0.0.1", "0.0.0.0" }, addresses{}, "advertise_addr_wan"},
		"no template":  {func(c *config.Config) { c.BindAddr = "{{ Nothing }}" }, addresses{}, "bind_addr"},
		"two":          {func(c *config.Config) { c.BindAddr = "10.0.0.1 10.0.0.2" }, addresses{}, "give one IP address"},
		"a name":       {func(c *config.Config) { c.AdvertiseAddr = "host" }, addresses{}, "not an IP address"},
		"nobody's":     {func(c *config.Config) { c.AdvertiseAddr = "0.0.0.0" }, addresses{}, "others cannot reach that"},
		"clients": {func(c *config.Config) {
			c.BindAddr, c.ClientAddr, c.Addresses.HTTP = "10.0.0.1", "127.0.0.1 ::1", "unix:///run/x.sock"
		},
			addresses{bind: "10.0.0.1", advertise: "10.0.0.1", serf: "10.0.0.1", http: []string{"unix:///run/x.sock"}, dns: []string{"127.0.0.1", "::1"}}, ""},
	} {
		cfg := config.Default()
		c.change(cfg)
		got, err := resolve(cfg, slog.New(slog.DiscardHandler))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v, want %q", name, err, c.err)
			}
			continue
		}
		if c.want.http == nil {
			c.want.http, c.want.dns = []string{"127.0.0.1"}, []string{"127.0.0.1"}
		}
		if err != nil || strings.Join(got.http, " ") != strings.Join(c.want.http, " ") || strings.Join(got.dns, " ") != strings.Join(c.want.dns, " ") ||
			got.bind != c.want.bind || got.advertise != c.want.advertise || got.serf != c.want.serf {
			t.Errorf("%s: %+v, %v; want %+v", name, got, err, c.want)
		}
	}
}

// An agent keeps its id; half a file, or one that is no id, is said and not replaced.
func TestNodeID(t *testing.T) {
	t.Parallel()
	cfg := &config.Config{DataDir: t.TempDir()}
	first, err := nodeID(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := nodeID(cfg); err != nil || again != first {
		t.Errorf("the second time: %s, %v; want %s", again, err, first)
	}
	cfg.NodeID = "ADF4238A-882B-9DDC-4A9D-5B6758E4159E"
	if id, err := nodeID(cfg); err != nil || id != strings.ToLower(cfg.NodeID) {
		t.Errorf("a configured id: %s, %v", id, err)
	}
	cfg.NodeID = "x"
	if _, err := nodeID(cfg); err == nil || !strings.Contains(err.Error(), "UUID") {
		t.Errorf("a bad id: %v", err)
	}
	cfg.NodeID = ""
	if err := os.WriteFile(filepath.Join(cfg.DataDir, "node-id"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := nodeID(cfg); err == nil || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("a broken file: %v", err)
	}
}

// A socket file that nobody listens on is taken over, one in use is not.
func TestUnixSockets(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := listenUnix("addresses.http", path, config.UnixSockets{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix("addresses.http", path, config.UnixSockets{}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a socket in use: %v", err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false) // as a crash leaves it
	l.Close()
	again, err := listenUnix("addresses.http", path, config.UnixSockets{})
	if err != nil {
		t.Fatalf("after a crash: %v", err)
	}
	again.Close()
}

// A socket has the rights that are configured, and an unknown name is said.
func TestSocketRights(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := listenUnix("addresses.http", path, config.UnixSockets{Mode: "0620", User: strconv.Itoa(os.Getuid()), Group: strconv.Itoa(os.Getgid())})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o620 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := listenUnix("addresses.http", path+"2", config.UnixSockets{User: "no-such-user"}); err == nil || !strings.Contains(err.Error(), `unix_sockets: user "no-such-user"`) {
		t.Errorf("an unknown user: %v", err)
	}
	if _, err := os.Stat(path + "2"); err == nil {
		t.Error("the refused socket is still there")
	}
}

func TestPrepareDir(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "a", "b")
	if err := prepareDir(dir); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := prepareDir(file); err == nil || !strings.Contains(err.Error(), "-data-dir") {
		t.Errorf("a file: %v", err)
	}
}
