package checks

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// look runs a probe as the runner does, with the definition's timeout.
func look(t *testing.T, p probe, def *api.CheckDefinition) (status, output string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), timeout(def), errTimeout)
	defer cancel()
	return p(ctx)
}

func TestScript(t *testing.T) {
	r := runner(Config{})
	t.Setenv("SHELL", "")
	for name, c := range map[string]struct {
		def            api.CheckDefinition
		status, output string
	}{
		"passes":     {api.CheckDefinition{Args: []string{"sh", "-c", "echo well; echo err >&2"}}, api.Passing, "well\nerr\n"},
		"warns":      {api.CheckDefinition{Args: []string{"sh", "-c", "echo so so; exit 1"}}, api.Warning, "so so\n"},
		"fails":      {api.CheckDefinition{Args: []string{"sh", "-c", "echo bad; exit 2"}}, api.Critical, "bad\n"},
		"killed":     {api.CheckDefinition{Args: []string{"sh", "-c", "kill -9 $$"}}, api.Critical, ""},
		"string":     {api.CheckDefinition{Script: "echo $((1+1)) | tr 2 3"}, api.Passing, "3\n"},
		"no file":    {api.CheckDefinition{Args: []string{"/absent"}}, api.Critical, "fork/exec /absent: no such file or directory"},
		"long":       {api.CheckDefinition{Args: []string{"seq", "1000", "2000"}, OutputMaxSize: 20}, api.Passing, "Captured 20 of 5005 bytes\n...\n1997\n1998\n1999\n2000\n"},
		"background": {api.CheckDefinition{Script: "echo x; sleep 60 &"}, api.Passing, "x\n"},
		"too long":   {api.CheckDefinition{Script: "echo begin; sleep 60", Timeout: api.Duration(200 * time.Millisecond)}, api.Critical, "Timed out (200ms) running check\n\nbegin\n"},
		"says none":  {api.CheckDefinition{Script: "sleep 60", Timeout: api.Duration(50 * time.Millisecond)}, api.Critical, "Timed out (50ms) running check"},
	} {
		status, output := look(t, r.scriptProbe(&c.def), &c.def)
		if status != c.status || output != c.output {
			t.Errorf("%s: got %s %q, want %s %q", name, status, output, c.status, c.output)
		}
	}
}

// Agent's limits bound what a check may ask for.
func TestOutputSize(t *testing.T) {
	t.Parallel()
	r := runner(Config{MaxOutput: 100})
	for ask, want := range map[int]int{0: 100, 50: 50, 200: 100} {
		if got := r.outputSize(&api.CheckDefinition{OutputMaxSize: ask}); got != want {
			t.Errorf("%d asked for: %d, want %d", ask, got, want)
		}
	}
}

// At the timeout everything goes that the script started: what is in its process group,
// and what left it.
func TestScriptTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := `cd "` + dir + `"
sleep 300 & echo $! > child
sh -c 'sleep 300 & echo $! > grandchild; wait' &
setsid sh -c 'echo $$ > session; sleep 300 & echo $! > of-session; wait' &
while ! { [ -s child ] && [ -s grandchild ] && [ -s session ] && [ -s of-session ]; }; do sleep 0.01; done
touch ready
wait`
	ctx, cancel := context.WithCancelCause(t.Context())
	p := runner(Config{}).scriptProbe(&api.CheckDefinition{Args: []string{"sh", "-c", script}})
	ended := make(chan string, 1)
	go func() {
		status, output := p(ctx)
		ended <- status + " " + output
	}()
	until(t, "the tree stands", func() bool { _, err := os.Stat(filepath.Join(dir, "ready")); return err == nil })
	cancel(errTimeout)
	if got := <-ended; !strings.HasPrefix(got, "critical Timed out") {
		t.Errorf("the check: %q", got)
	}
	for _, name := range []string{"child", "grandchild", "session", "of-session"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
		if err != nil {
			t.Fatal(err)
		}
		until(t, name+" is gone", func() bool { return dead(pid) })
	}
}

// dead reports whether a process is gone, or waits only to be reaped by whoever inherited
// it.
func dead(pid int) bool {
	if syscall.Kill(pid, 0) == syscall.ESRCH {
		return true
	}
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err != nil || strings.Contains(string(b), ") Z ")
}

// until waits for a fact.
func until(t *testing.T, what string, f func() bool) {
	t.Helper()
	over := time.NewTimer(20 * time.Second)
	defer over.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		select {
		case <-tick.C:
		case <-over.C:
			t.Fatalf("not so within 20 s: %s", what)
		}
	}
}
