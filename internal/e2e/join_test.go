package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// An agent finds a server that runs as a container by its label, and finds it again when
// the container is replaced and has another address.
func TestJoinByDockerLabel(t *testing.T) {
	t.Parallel()
	e := machine(t)
	ctx := t.TempDir()
	if err := os.Link(bins(t, "rollcall"), filepath.Join(ctx, "rollcall")); err != nil {
		t.Fatal(err)
	}
	write(t, ctx+"/Dockerfile", "FROM scratch\nCOPY rollcall /bin/rollcall\nENTRYPOINT [\"/bin/rollcall\", \"agent\", \"-server\", \"-bootstrap-expect=1\", \"-data-dir=/data\", \"-node=inside\"]\n")
	tag := own("rollcall/agent:e2e")
	e.docker("build", "-q", "-t", tag, ctx)
	t.Cleanup(func() { e.quietly("rmi", tag) })
	network := own("rollcall-e2e-join")
	e.docker("network", "create", network)
	t.Cleanup(func() { e.quietly("network", "rm", network) })
	role := own("rollcall.e2e.role")
	inside := func() string {
		id := e.docker("run", "-d", "--network", network, "--label", labelled+"="+t.Name(), "--label", role+"=server", tag)
		t.Cleanup(func() { e.remove(id) })
		return id
	}
	gateway := e.docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", network)
	old := inside()
	client := startAgent(t, "outside", options{ip: gateway}, "-serf-lan-port=8301", "-retry-interval=1s",
		"-retry-join=provider=docker label_key="+role+" label_value=server network="+network)
	client.awaitLeader()

	inside() // with another address, a new node id and the same name
	e.remove(old)
	eventually(t, 90*time.Second, "the client finds the new server", func() error { return client.put("/v1/kv/a", "1") })
	client.awaitLeader()
}

// Agents find a server by the SRV records of a name, and by its addresses, and find it again when
// it has come back elsewhere and the name says so. The name server is one of ours.
func TestJoinByName(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("another resolv.conf needs root")
	}
	tool(t, "unshare")
	names := startAgent(t, "names", options{ip: "127.0.53.53"}, "-server", "-bootstrap-expect=1", "-datacenter=names", "-dns-port=53")
	names.awaitLeader()
	dir := t.TempDir()
	write(t, dir+"/resolv.conf", "nameserver 127.0.53.53\n")
	program := filepath.Join(dir, "rollcall")
	write(t, program, fmt.Sprintf(`#!/bin/sh
exec unshare -m sh -c 'mount --bind %s/resolv.conf /etc/resolv.conf && exec "$0" "$@"' %s "$@"
`, dir, bins(t, "rollcall")))
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	server := startAgent(t, "server", options{ip: "127.0.53.1"}, "-server", "-bootstrap-expect=1")
	port := server.lan[strings.LastIndex(server.lan, ":")+1:]
	point := func(ip string) {
		t.Helper()
		body := fmt.Sprintf(`{"Node": "server", "Address": %q, "Service": {"Service": "rollcall", "Tags": ["lan"], "Port": %s}}`, ip, port)
		if err := names.put("/v1/catalog/register", body); err != nil {
			t.Fatal(err)
		}
	}
	point(server.ip)
	quick := `-hcl=gossip_lan { probe_interval = "200ms" probe_timeout = "100ms" suspicion_mult = 1 }`
	var clients []*agent
	for name, join := range map[string]string{"by-srv": "_rollcall._lan.service.consul", "by-address": "rollcall.service.consul:" + port} {
		clients = append(clients, startAgent(t, name, options{bin: program}, "-retry-interval=1s", "-retry-join="+join, quick))
	}
	for _, c := range clients {
		c.awaitLeader()
	}
	server.kill()
	for i, arg := range server.args {
		server.args[i] = strings.ReplaceAll(arg, "=127.0.53.1", "=127.0.53.2")
	}
	server.run()
	point("127.0.53.2")
	for _, c := range clients {
		eventually(t, 60*time.Second, c.name+" finds the server at its new address", func() error { return c.put("/v1/kv/"+c.name, "1") })
	}
}
