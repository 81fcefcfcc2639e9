package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// peer is a program under measurement, running as one process on loopback.
type peer struct {
	name      string // "rollcall", "consul" or "etcd"
	http, dns string // host:port
	dir       string
	args      []string
	bin       string
	cmd       *exec.Cmd
	ended     chan struct{}
}

// programs are the binaries to compare, by name.
type programs map[string]string

// settings are equal for ours and for Consul: the defaults, but for limits that would
// stop the load.
const settings = `{"limits": {"http_max_conns_per_client": 12000}, "enable_debug": true, "disable_update_check": true}`

// launch starts an agent with free ports in a new directory and waits for a leader.
func (s *suite) launch(name string, args ...string) (*peer, error) {
	dir, err := os.MkdirTemp(s.scratch, name+"-")
	if err != nil {
		return nil, err
	}
	ports, err := freePorts(5)
	if err != nil {
		return nil, err
	}
	local := func(i int) string { return "127.0.0.1:" + strconv.Itoa(ports[i]) }
	p := &peer{name: name, http: local(0), dns: local(1), dir: dir, bin: s.programs[name]}
	if name == "etcd" {
		p.args = []string{"--data-dir", dir, "--listen-client-urls", "http://" + p.http, "--advertise-client-urls", "http://" + p.http,
			"--listen-peer-urls", "http://" + local(2), "--initial-advertise-peer-urls", "http://" + local(2), "--initial-cluster", "default=http://" + local(2)}
	} else {
		file := filepath.Join(dir, "settings.json")
		if err := os.WriteFile(file, []byte(settings), 0o600); err != nil {
			return nil, err
		}
		port := func(flag string, i int) string { return "-" + flag + "-port=" + strconv.Itoa(ports[i]) }
		p.args = append([]string{"agent", "-bind=127.0.0.1", "-client=127.0.0.1", "-config-file=" + file,
			port("http", 0), port("dns", 1), port("serf-lan", 2), port("serf-wan", 3), port("server", 4)}, args...)
		if len(args) == 0 || args[0] != "-dev" {
			p.args = append(p.args, "-data-dir="+filepath.Join(dir, "data"))
		}
	}
	if err := p.start(); err != nil {
		return nil, err
	}
	return p, nil
}

// lan is the address that another agent joins.
func (p *peer) lan() string {
	for _, a := range p.args {
		if port, ok := strings.CutPrefix(a, "-serf-lan-port="); ok {
			return "127.0.0.1:" + port
		}
	}
	return ""
}

// start runs the program and waits until it serves; one that does not is ended.
func (p *peer) start() error {
	if err := p.begin(); err != nil {
		return err
	}
	ready := p.leads
	if p.name == "etcd" {
		ready = func() error { return p.get("/health", `"true"`) }
	}
	err := p.until(30*time.Second, ready)
	if err != nil {
		p.kill()
	}
	return err
}

// begin runs the program.
func (p *peer) begin() error {
	log, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd = exec.Command(p.bin, p.args...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	p.ended = make(chan struct{})
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	return nil
}

// leads asks whether the agent knows a leader.
func (p *peer) leads() error { return p.get("/v1/status/leader", ":") }

// get asks for a path and wants 200 and a text in the answer.
func (p *peer) get(path, want string) error {
	body, err := p.fetch(path)
	if err == nil && !strings.Contains(body, want) {
		err = fmt.Errorf("%s: %.200s", path, body)
	}
	return err
}

var client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 4}}

func (p *peer) fetch(path string) (string, error) {
	r, err := client.Get("http://" + p.http + path)
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.200s", path, r.Status, body)
	}
	return string(body), err
}

func (p *peer) put(path, body string) error {
	req, err := http.NewRequest(http.MethodPut, "http://"+p.http+path, strings.NewReader(body))
	if err != nil {
		return err
	}
	r, err := client.Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %.200s", path, r.Status, text)
	}
	return err
}

// until asks every few milliseconds until ok says so, the process ends, or time is up.
func (p *peer) until(within time.Duration, ok func() error) error {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	for {
		err := ok()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s after %s: %w (log: %s)", p.name, within, err, filepath.Join(p.dir, "log"))
		case <-p.ended:
			return fmt.Errorf("%s ended: %s (log: %s)", p.name, p.cmd.ProcessState, filepath.Join(p.dir, "log"))
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// kill ends the process at once and keeps its directory.
func (p *peer) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// remove ends the process and its directory.
func (p *peer) remove() {
	p.kill()
	_ = os.RemoveAll(p.dir)
}

// usage is the process's time on a processor, and the bytes it has given to the kernel for
// a disk.
func (p *peer) usage() (time.Duration, float64) {
	if p == nil || p.cmd == nil {
		return 0, 0
	}
	var ticks int64
	if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid)); err == nil {
		f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
		for _, i := range []int{11, 12} {
			n, _ := strconv.ParseInt(f[i], 10, 64)
			ticks += n
		}
	}
	return time.Duration(ticks) * 10 * time.Millisecond, p.proc("io", "write_bytes:")
}

// resident is the process's memory, in bytes.
func (p *peer) resident() float64 { return p.proc("status", "VmRSS:") * 1024 }

// proc reads a number from a file of the process, 0 where it has none of its own.
func (p *peer) proc(file, field string) float64 {
	if p == nil || p.cmd == nil {
		return 0
	}
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/%s", p.cmd.Process.Pid, file))
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, field); ok {
			n, _ := strconv.ParseFloat(strings.Fields(rest)[0], 64)
			return n
		}
	}
	return 0
}

func freePorts(n int) ([]int, error) {
	var ports []int
	for len(ports) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		u, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			continue
		}
		defer u.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

// raiseFiles lets this process and its children have as many files open as may be.
func raiseFiles(n uint64) error {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		return err
	}
	if l.Max < n {
		return errors.New("the limit of open files is too low: raise it (ulimit -Hn " + strconv.FormatUint(n, 10) + ")")
	}
	l.Cur = l.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &l)
}
