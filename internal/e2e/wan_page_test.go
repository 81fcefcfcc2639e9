package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A tale is what the transcripts of docs/datacenters.md tell: files and commands on hosts, and
// what the commands answer.
type tale struct {
	t      *testing.T
	dir    string
	agents map[string]*agent
}

// taleNets stand for the page's.
var taleNets = [][2]string{{"10.1.0.", "127.0.71."}, {"10.2.0.", "127.0.72."}}

var (
	taleTyped = regexp.MustCompile(`^([ab]\d)# (.*)$`)
	taleFile  = regexp.MustCompile(`^# ([ab]\d(?:, [ab]\d)*): (\S+)\n`)
	taleCopy  = regexp.MustCompile(`^scp (\S+) ([ab]\d):(\S+)$`)
)

// The transcripts of docs/datacenters.md happen as they stand there.
func TestDatacentersPage(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("needs openssl: make deps installs it")
	}
	page, err := os.ReadFile("../../docs/datacenters.md")
	if err != nil {
		t.Fatal(err)
	}
	s := &tale{t: t, dir: t.TempDir(), agents: map[string]*agent{}}
	ran := 0
	for _, block := range strings.Split(string(page), "\n```")[1:] {
		kind, text, _ := strings.Cut(block, "\n")
		switch kind {
		case "hcl":
			m := taleFile.FindStringSubmatch(text)
			if m == nil {
				t.Fatalf("a file of nobody:\n%s", text)
			}
			for host := range strings.SplitSeq(m[1], ", ") {
				file := s.here(host, m[2])
				s.mkdir(filepath.Dir(file))
				write(t, file, s.here(host, text))
			}
		case "console":
			ran += replay(text, taleTyped, s.do)
		}
	}
	if ran < 40 {
		t.Errorf("only %d commands were found", ran)
	}
}

func (s *tale) mkdir(dir string) {
	s.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		s.t.Fatal(err)
	}
}

// do types a command on a host; one that only asks until its answer is the page's.
func (s *tale) do(host, command string, answer []string) {
	s.t.Helper()
	if rest, ok := strings.CutPrefix(command, "systemctl "); ok {
		s.service(host, strings.TrimSuffix(rest, " rollcall"))
		return
	}
	if m := taleCopy.FindStringSubmatch(command); m != nil {
		b, err := os.ReadFile(s.here(host, m[1]))
		if err != nil {
			s.t.Fatal(err)
		}
		to := s.here(m[2], m[3])
		s.mkdir(filepath.Dir(to))
		write(s.t, to, string(b))
		return
	}
	want, tries := pattern(answer), 0
	once := strings.Contains(command, " create") || strings.Contains(command, "mv ")
	eventually(s.t, 90*time.Second, host+"# "+command, func() error {
		if tries++; once && tries > 1 {
			s.t.Fatalf("%s# %s: not at once", host, command)
		}
		cmd := exec.Command("sh", "-c", s.here(host, command))
		cmd.Dir = s.dir
		cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+s.ip(host)+":8500", "PATH="+filepath.Dir(bins(s.t, "rollcall"))+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		got := s.there(host, string(out))
		if err != nil || !want.MatchString(squeeze(got)) {
			return fmt.Errorf("%w\n%s", errors.Join(err, errors.New("it answers:")), got)
		}
		return nil
	})
}

// service does to a host's agent what systemctl does.
func (s *tale) service(host, verb string) {
	s.t.Helper()
	a := s.agents[host]
	switch verb {
	case "start":
		if a != nil {
			a.run()
			return
		}
		s.agents[host] = startAgent(s.t, host, options{ip: s.ip(host), dir: s.here(host, "/var/lib/rollcall")}, "-config-dir="+s.here(host, "/etc/rollcall.d"),
			"-http-port=8500", "-serf-lan-port=8301", "-server-port=8300", "-serf-wan-port=8302")
	case "stop":
		a.stop(syscall.SIGTERM)
	case "restart":
		a.stop(syscall.SIGTERM)
		a.run()
	case "reload":
		n := strings.Count(a.output(), "configuration reloaded")
		a.signal(syscall.SIGHUP)
		eventually(s.t, 20*time.Second, host+" has reloaded", func() error {
			if strings.Count(a.output(), "configuration reloaded") == n {
				return errors.New("not yet")
			}
			return nil
		})
	default:
		s.t.Fatalf("systemctl %s is not known here", verb)
	}
}

// ip is a host's address.
func (s *tale) ip(host string) string { return taleNets[host[0]-'a'][1] + host[1:] }

// here puts a host's own paths and addresses into a text, there takes them out.
func (s *tale) here(host, text string) string {
	return strings.NewReplacer(taleNets[0][0], taleNets[0][1], taleNets[1][0], taleNets[1][1],
		"/etc/", filepath.Join(s.dir, host, "etc")+"/", "/var/lib/", filepath.Join(s.dir, host, "lib")+"/").Replace(text)
}

func (s *tale) there(host, text string) string {
	return strings.NewReplacer(taleNets[0][1], taleNets[0][0], taleNets[1][1], taleNets[1][0],
		filepath.Join(s.dir, host, "etc"), "/etc", filepath.Join(s.dir, host, "lib"), "/var/lib").Replace(text)
}
