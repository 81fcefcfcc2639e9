package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	consul "github.com/hashicorp/consul/api"
)

// inNetwork is a container's own address on a network, with its port.
func inNetwork(t testing.TB, id, network string) string {
	t.Helper()
	return dockerCmd(t, "inspect", "-f", "{{(index .NetworkSettings.Networks \""+network+"\").IPAddress}}", id) + ":8080"
}

// only is the single service of a name, wherever it stands.
func only(s *site, service string) (*consul.CatalogService, error) {
	rows, _, err := s.Catalog().Service(service, "", nil)
	if err == nil && len(rows) != 1 {
		err = fmt.Errorf("%d instances of %s", len(rows), service)
	}
	if err != nil {
		return nil, err
	}
	return rows[0], nil
}

// On a user's network a published port is the host's address and port, and with
// -address=container both are the container's. They are never mixed.
func TestCase21UserNetwork(t *testing.T) {
	t.Parallel()
	engine(t)
	lan := network(t)
	ss := both(t)
	own := &site{catalog: startCatalog(t, rollcall(t), false), name: "container addresses"}
	own.reg = registrar(t, own.addr, "-address=container")
	id := start(t, "plain", "--network", lan, "-e", "SERVICE_NAME=web")
	all := begin(t, "plain", "--network", lan, "-p", "8080", "-e", "SERVICE_NAME=all")
	ss.has(soon, "the host's side", "web", published(t, id))
	sites{own}.has(soon, "the container's side", "web", inNetwork(t, id, lan))
	_, port, err := net.SplitHostPort(published(t, all))
	if err != nil {
		t.Fatal(err)
	}
	ss.eventually(soon, "a port on all addresses is the node's", func(s *site) error {
		r, err := only(s, "all")
		if err == nil && (fmt.Sprint(r.ServicePort) != port || r.ServiceAddress != r.Address) {
			err = fmt.Errorf("%s:%d at node %s, want port %s", r.ServiceAddress, r.ServicePort, r.Address, port)
		}
		return err
	})
	sites{own}.has(soon, "the container's side", "all", inNetwork(t, all, lan))
	serves(t, inNetwork(t, id, lan))
}

// On two networks -network chooses, and joining or leaving one moves the address.
func TestCase22TwoNetworks(t *testing.T) {
	t.Parallel()
	engine(t)
	one, two := network(t), network(t)
	ss := both(t, "-internal", "-network="+two+",*")
	id := start(t, "plain", "--network", one, "-e", "SERVICE_NAME=net")
	label := start(t, "plain", "--network", one, "-e", "SERVICE_NAME=said", "-e", "SERVICE_NETWORK="+one)
	ss.has(soon, "the only network", "net", inNetwork(t, id, one))
	dockerCmd(t, "network", "connect", two, id)
	dockerCmd(t, "network", "connect", two, label)
	ss.has(soon, "the preferred one", "net", inNetwork(t, id, two))
	ss.has(soon, "a label's choice stays", "said", inNetwork(t, label, one))
	dockerCmd(t, "network", "disconnect", two, id)
	ss.has(soon, "back", "net", inNetwork(t, id, one))
}

// On macvlan and ipvlan a container is at its own address, published or not.
func TestOwnAddressNetworks(t *testing.T) {
	t.Parallel()
	engine(t)
	for _, driver := range []string{"macvlan", "ipvlan"} {
		t.Run(driver, func(t *testing.T) {
			t.Parallel()
			lan := name()
			if out, err := exec.Command("docker", "network", "create", "-d", driver, lan).CombinedOutput(); err != nil {
				t.Skipf("this engine can make no %s: %s", driver, out)
			}
			t.Cleanup(func() { exec.Command("docker", "network", "rm", lan).Run() })
			id := begin(t, "plain", "--network", lan, "-p", "8080", "-e", "SERVICE_NAME=lan")
			both(t).has(soon, "its own address", "lan", inNetwork(t, id, lan))
		})
	}
}

// IPv6, both families, another container's network, the host's: what is registered can
// be reached.
func TestCase23ReachableAddresses(t *testing.T) {
	t.Parallel()
	engine(t)
	if l, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skipf("this host has no IPv6: %v", err)
	} else {
		l.Close()
	}
	ss := both(t, "-family=dual", "-ip=127.0.0.1,::1")
	six := begin(t, "plain", "-e", "SERVICE_NAME=six", "-p", "[::1]::8080")
	dual := begin(t, "plain", "-e", "SERVICE_NAME=dual", "-p", "127.0.0.1::8080", "-p", "[::1]::8080")
	short := fmt.Sprintf("rc%x", os.Getpid()&0xfffff) // shorter than a short id
	owner := dockerCmd(t, "run", "-d", "--pull=never", "--label", "test="+own(t), "--name", short, "-p", "127.0.0.1::9090", "-e", "SERVICE_IGNORE=1",
		"--expose=9090", imageTag+"plain", "-listen=:9090")
	t.Cleanup(func() { _ = dockerRemove(owner) })
	joined := begin(t, "plain", "--network", "container:"+short, "-e", "SERVICE_8080_NAME=joined")
	port := ports(t, 1)[0]
	begin(t, "plain", "--network", "host", fmt.Sprintf("--expose=%d", port), "-e", "SERVICE_8080_IGNORE=1", "-e", fmt.Sprintf("SERVICE_%d_NAME=hosted", port),
		"--", fmt.Sprintf("-listen=127.0.0.1:%d", port))
	_, sixPort, err := net.SplitHostPort(published(t, six))
	if err != nil {
		t.Fatal(err)
	}
	for service, want := range map[string]string{
		"six": "[::1]:" + sixPort, "dual": "127.0.0.1:", "hosted": fmt.Sprintf("127.0.0.1:%d", port), "joined": inNetwork(t, owner, "bridge"),
	} {
		ss.eventually(soon, service, func(s *site) error {
			r, err := only(s, service)
			if err != nil {
				return err
			}
			at := net.JoinHostPort(r.ServiceAddress, fmt.Sprint(r.ServicePort))
			if !strings.HasPrefix(at, want) {
				return fmt.Errorf("%s is at %s, want %s", service, at, want)
			}
			return reach(at)
		})
	}
	bindings := strings.Fields(dockerCmd(t, "port", dual, "8080/tcp"))
	ss.eventually(soon, "both families", func(s *site) error {
		r, err := only(s, "dual")
		if err != nil {
			return err
		}
		for _, name := range []string{"lan_ipv4", "lan_ipv6"} {
			a := r.ServiceTaggedAddresses[name]
			at := net.JoinHostPort(a.Address, fmt.Sprint(a.Port))
			if !slices.Contains(bindings, at) && !slices.Contains(bindings, fmt.Sprintf("%s:%d", a.Address, a.Port)) {
				return fmt.Errorf("%s is %s, the engine says %v", name, at, bindings)
			}
			if err := reach(at); err != nil {
				return err
			}
		}
		return nil
	})
	dockerCmd(t, "rm", "-f", joined)
	ss.has(soon, "the joined one is gone", "joined")
}

// reach asks a registered address for its page.
func reach(at string) error {
	code, _, err := get("http://" + at + "/")
	if err == nil && code != 200 {
		err = fmt.Errorf("%s: status %d", at, code)
	}
	return err
}
