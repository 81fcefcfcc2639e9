package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The examples of docs/dns.md, carried out: the commands of its sh blocks first, then
// those of its console blocks, whose output has to be what the page says, in any order.
func TestDNSPage(t *testing.T) {
	t.Parallel()
	tool(t, "dig")
	page, err := os.ReadFile("../../docs/dns.md")
	if err != nil {
		t.Fatal(err)
	}
	server := startServer(t)
	_, port, _ := net.SplitHostPort(server.dns)
	run := func(command string) string {
		t.Helper()
		command = strings.ReplaceAll(strings.ReplaceAll(command, "127.0.0.1:8500", server.http), "-p 8600", "-p "+port)
		out, err := exec.Command("bash", "-c", command).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", command, err, out)
		}
		return string(out)
	}
	var examples int
	for _, block := range regexp.MustCompile("(?s)```(sh|console)\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if block[1] == "sh" {
			run("set -e\n" + block[2])
			eventually(t, soon, "the server is in its own catalog as a service", func() error {
				if dig(t, portOf(server.dns), "consul.service.consul", "A") == "NXDOMAIN" {
					return errors.New("not yet")
				}
				return nil
			})
			continue
		}
		for _, example := range strings.Split(block[2], "$ ")[1:] {
			command, want, _ := strings.Cut(example, "\n")
			examples++
			if got := words(run(command)); got != words(want) {
				t.Errorf("%s\nprints\n%s\nthe page says\n%s", command, got, words(want))
			}
		}
	}
	if examples < 15 {
		t.Errorf("docs/dns.md has %d examples with their output, want all forms of names", examples)
	}
}

// words is a text's lines sorted, with single spaces.
func words(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, strings.Join(strings.Fields(line), " "))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

func portOf(addr string) (port int) {
	_, p, _ := net.SplitHostPort(addr)
	fmt.Sscan(p, &port)
	return port
}
