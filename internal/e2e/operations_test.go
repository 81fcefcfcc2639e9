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

// A story is what a page's transcripts tell: commands on hosts, and what they answer.
type story struct {
	t     *testing.T
	conf  string // the latest configuration that the page shows
	dir   string
	hosts map[string]*agent
	// healthy is whether the page has waited for a healthy cluster since it last touched a server.
	healthy bool
}

const storyNet = "127.0.61." // stands for the page's 10.0.0.

var typed = regexp.MustCompile(`^(s\d)# (.*)$`)

// The transcripts of docs/operations.md happen as they stand there.
func TestOperationsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	s := &story{t: t, dir: t.TempDir(), hosts: map[string]*agent{}}
	ran := 0
	for _, block := range strings.Split(string(page), "\n```")[1:] {
		kind, text, _ := strings.Cut(block, "\n")
		switch kind {
		case "hcl":
			s.conf = text
		case "console":
			ran += replay(text, typed, s.do)
		}
	}
	if ran < 35 {
		t.Errorf("only %d commands were found", ran)
	}
}

// replay hands a transcript's commands to do, each with its host and its answer, and tells
// how many there are; prompt finds host and command in a line.
func replay(text string, prompt *regexp.Regexp, do func(host, command string, answer []string)) (ran int) {
	var host, command string
	var answer []string
	end := func() {
		if command != "" {
			do(host, command, answer)
			ran++
		}
	}
	for line := range strings.SplitSeq(text, "\n") {
		m := prompt.FindStringSubmatch(line)
		if m == nil {
			answer = append(answer, line)
			continue
		}
		end()
		host, command, answer = m[1], m[2], nil
	}
	end()
	return ran
}

// do types a command on a host until its answer is the page's. A server is restarted only
// after the page has waited for a healthy cluster since the last one was.
func (s *story) do(host, command string, answer []string) {
	s.t.Helper()
	if rest, ok := strings.CutPrefix(command, "systemctl "); ok {
		if strings.HasPrefix(rest, "restart ") && !s.healthy {
			s.t.Errorf("%s# %s: nobody has waited until all servers are healthy", host, command)
		}
		s.healthy = false
		s.service(host, strings.TrimSuffix(rest, " rollcall"))
		return
	}
	s.healthy = s.healthy || command == "rollcall operator autopilot state" && strings.HasPrefix(answer[0], "Healthy: ") && strings.HasSuffix(answer[0], " true")
	want := pattern(answer)
	eventually(s.t, 90*time.Second, host+"# "+command, func() error {
		cmd := exec.Command("sh", "-c", s.here(host, command))
		cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+s.agent(host).http, "PATH="+filepath.Dir(bins(s.t, "rollcall"))+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		got := s.there(host, string(out))
		if err != nil || !want.MatchString(squeeze(got)) {
			return fmt.Errorf("%w\n%s", errors.Join(err, errors.New("it answers:")), got)
		}
		return nil
	})
}

// service does to a host's agent what systemctl does.
func (s *story) service(host, verb string) {
	s.t.Helper()
	a := s.agent(host)
	switch verb {
	case "start":
		write(s.t, filepath.Join(s.dir, host+".hcl"), s.here(host, s.conf))
		if a.process == nil {
			s.hosts[host] = startAgent(s.t, host, options{ip: a.ip, dir: a.dir}, "-config-file="+filepath.Join(s.dir, host+".hcl"), "-serf-lan-port=8301", "-server-port=8300", "-serf-wan-port=-1")
			return
		}
		a.run()
	case "stop":
		a.stop(syscall.SIGTERM)
	case "kill -s KILL":
		a.kill()
	case "restart":
		a.stop(syscall.SIGTERM)
		a.run()
	default:
		s.t.Fatalf("systemctl %s is not known here", verb)
	}
}

// agent is a host's, which need not run.
func (s *story) agent(host string) *agent {
	if s.hosts[host] == nil {
		s.hosts[host] = &agent{ip: storyNet + host[1:], dir: filepath.Join(s.dir, host, "rollcall")}
	}
	return s.hosts[host]
}

// here puts a host's own paths and addresses into a text, there takes them out.
func (s *story) here(host, text string) string {
	return strings.NewReplacer("10.0.0.", storyNet, "{{ GetPrivateIP }}", s.agent(host).ip, "/var/lib", filepath.Join(s.dir, host)).Replace(text)
}

func (s *story) there(host, text string) string {
	return strings.NewReplacer(storyNet, "10.0.0.", filepath.Join(s.dir, host), "/var/lib").Replace(text)
}

// squeeze makes runs of blanks one, and drops those at the ends of lines and empty lines.
func squeeze(text string) string {
	var out []string
	for l := range strings.Lines(text) {
		if f := strings.Fields(l); len(f) > 0 {
			out = append(out, strings.Join(f, " "))
		}
	}
	return strings.Join(out, "\n")
}

// pattern is what an answer has to be like: … stands for anything, a line of it for lines.
func pattern(answer []string) *regexp.Regexp {
	text := regexp.QuoteMeta(squeeze(strings.Join(answer, "\n")))
	text = regexp.MustCompile(`(^|\n)…(\n|$)`).ReplaceAllString(text, "${1}(?s:.*)${2}")
	return regexp.MustCompile("^" + strings.ReplaceAll(text, "…", ".*") + "$")
}
