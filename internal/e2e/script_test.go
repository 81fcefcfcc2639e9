package e2e

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/rogpeppe/go-internal/testscript"
)

// The scripts of testdata/cli, one a command, called by the name consul: on our binary,
// and on the real Consul's, where [ours] and [theirs] mark what is meant to differ.
func TestScripts(t *testing.T) {
	t.Parallel()
	t.Run("ours", func(t *testing.T) {
		t.Parallel()
		runScripts(t, bins(t, "rollcall"), "ours")
	})
	t.Run("theirs", func(t *testing.T) {
		t.Parallel()
		runScripts(t, realConsul(t), "theirs")
	})
}

func runScripts(t *testing.T, bin, whose string) {
	path := filepath.Join(t.TempDir(), "consul")
	if err := os.Symlink(bin, path); err != nil {
		t.Fatal(err)
	}
	common := sync.OnceValue(func() *agent { return startScripted(t, bin) })
	cmds := raftScripts(t, bin)
	maps.Copy(cmds, agentScripts(t, bin, common))
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/cli",
		RequireUniqueNames:  true,
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", filepath.Dir(path)+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("SHELL", "/bin/sh")
			return nil
		},
		Condition: func(cond string) (bool, error) {
			switch cond {
			case "ours", "theirs":
				return cond == whose, nil
			}
			return false, fmt.Errorf("unknown condition %q", cond)
		},
		Cmds: cmds,
	})
}

// agentScripts are the commands of scripts that all may use.
func agentScripts(t *testing.T, bin string, common func() *agent) map[string]func(*testscript.TestScript, bool, []string) {
	return map[string]func(*testscript.TestScript, bool, []string){
		// agent [FLAG…]: ask an agent of this script's own; without flags, the one that
		// all share who only add to it
		"agent": func(ts *testscript.TestScript, neg bool, args []string) {
			if neg {
				ts.Fatalf("agent cannot be negated")
			}
			a := (*agent)(nil)
			if len(args) == 0 {
				a = common()
			} else {
				for i, arg := range args {
					if name, file, ok := strings.Cut(arg, "="); ok && name == "-config-file" {
						args[i] = name + "=" + ts.MkAbs(file)
					}
				}
				a = startScripted(t, bin, args...)
			}
			ts.Setenv("CONSUL_HTTP_ADDR", a.http)
			ts.Setenv("URL", a.url)
		},
		// client NAME: start a client agent that is in no cluster yet, at $CLIENT
		"client": func(ts *testscript.TestScript, neg bool, args []string) {
			a := startAgent(t, args[0], options{bin: bin}, "-log-level=warn")
			eventually(t, 30*time.Second, "a client agent", func() error {
				_, _, err := a.get("/v1/agent/self")
				return err
			})
			ts.Setenv("CLIENT", a.http)
			ts.Setenv("CLIENT_LAN", a.lan)
		},
		// let NAME FILE: put a file's text into the environment
		"let": func(ts *testscript.TestScript, neg bool, args []string) {
			ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile(args[1])))
		},
		// exits CODE COMMAND…: it ends with this code
		"exits": func(ts *testscript.TestScript, neg bool, args []string) {
			want, err := strconv.Atoi(args[0])
			if err != nil || neg || len(args) < 2 {
				ts.Fatalf("usage: exits CODE COMMAND…")
			}
			got := 0
			if err := ts.Exec(args[1], args[2:]...); err != nil {
				var exit *exec.ExitError
				if !errors.As(err, &exit) {
					ts.Fatalf("%v: %v", args[1:], err)
				}
				got = exit.ExitCode()
			}
			if got != want {
				ts.Fatalf("%v: exit %d, want %d", args[1:], got, want)
			}
		},
	}
}

// startScripted starts an agent as scripts expect it: named n1, in memory.
func startScripted(t *testing.T, bin string, args ...string) *agent {
	name := "n1"
	for _, arg := range args {
		if n, ok := strings.CutPrefix(arg, "-node="); ok {
			name = n
		}
	}
	a := startAgent(t, name, options{bin: bin}, append([]string{"-dev", "-grpc-port=-1", "-log-level=warn"}, args...)...)
	if !slices.ContainsFunc(args, func(arg string) bool { return strings.HasPrefix(arg, "-config-file") }) {
		a.awaitLeader()
		return a
	}
	eventually(t, 30*time.Second, "a leader", func() error { // ACLs may hide the rest
		code, body, err := a.get("/v1/status/leader")
		if err == nil && (code != 200 || len(body) < 5) {
			err = fmt.Errorf("%d %s", code, body)
		}
		return err
	})
	return a
}

// raftScripts are the commands of scripts that need several servers.
func raftScripts(t *testing.T, bin string) map[string]func(*testscript.TestScript, bool, []string) {
	var mu sync.Mutex
	started := map[string]*agent{} // by HTTP address; guarded by mu
	at := func(ts *testscript.TestScript, args []string) *agent {
		if len(args) != 1 {
			ts.Fatalf("name one server")
		}
		mu.Lock()
		defer mu.Unlock()
		a := started[ts.Getenv(args[0])]
		if a == nil {
			ts.Fatalf("no server %s", args[0])
		}
		return a
	}
	return map[string]func(*testscript.TestScript, bool, []string){
		// servers: start three as one cluster; ask the leader. Of LEADER, FOLLOWER and OTHER
		// the addresses are in these variables, the rest in LEADER_NAME, _ID, _RPC and _DIR
		"servers": func(ts *testscript.TestScript, neg bool, args []string) {
			flags := []string{"-server", "-bootstrap-expect=3", "-log-level=warn"}
			all := []*agent{startAgent(t, "s1", options{bin: bin}, flags...)}
			for _, name := range []string{"s2", "s3"} {
				all = append(all, startAgent(t, name, options{bin: bin}, append(flags, "-retry-interval=1s", "-retry-join="+all[0].lan)...))
			}
			for _, a := range all {
				a.awaitLeader()
			}
			var conf *consul.RaftConfiguration
			eventually(t, 60*time.Second, "three servers with votes", func() (err error) {
				voters := 0
				if conf, err = all[0].client().Operator().RaftGetConfiguration(nil); err != nil {
					return err
				}
				for _, s := range conf.Servers {
					if s.Voter {
						voters++
					}
				}
				if voters != 3 {
					return fmt.Errorf("%d voters", voters)
				}
				return nil
			})
			roles := []string{"FOLLOWER", "OTHER"}
			for _, s := range conf.Servers {
				role := "LEADER"
				if !s.Leader {
					role, roles = roles[0], roles[1:]
				}
				a := all[slices.IndexFunc(all, func(a *agent) bool { return a.name == s.Node })]
				for k, v := range map[string]string{"": a.http, "_NAME": a.name, "_ID": s.ID, "_RPC": a.rpc, "_DIR": a.dir} {
					ts.Setenv(role+k, v)
				}
				mu.Lock()
				started[a.http] = a
				mu.Unlock()
			}
			ts.Setenv("CONSUL_HTTP_ADDR", ts.Getenv("LEADER"))
		},
		// crash SERVER, and restart SERVER
		"crash":   func(ts *testscript.TestScript, neg bool, args []string) { at(ts, args).kill() },
		"restart": func(ts *testscript.TestScript, neg bool, args []string) { at(ts, args).run() },
		// leads SERVER: wait until it does
		"leads": func(ts *testscript.TestScript, neg bool, args []string) {
			a := at(ts, args)
			eventually(t, 30*time.Second, a.name+" leads", func() error {
				leader, err := a.client().Status().Leader()
				if err == nil && leader != a.rpc {
					err = fmt.Errorf("the leader is %q", leader)
				}
				return err
			})
		},
	}
}

// Scripts show every command succeed, and refuse.
func TestScriptForEveryCommand(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/cli/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	paths := commandPaths(t, nil)
	if len(paths) < 60 {
		t.Errorf("help lists only %d commands", len(paths))
	}
	for _, path := range paths {
		name := strings.Join(path, " ")
		for what, line := range map[string]string{"success": `(exec|exits 0) .*`, "refusal": `(! exec|exits [1-9]\d*) `} {
			if !regexp.MustCompile(`(?m)^(\[ours\] )?` + line + `\bconsul ` + name + `( |$)`).MatchString(all.String()) {
				t.Errorf("testdata/cli shows no %s of %s", what, name)
			}
		}
	}
}

// commandPaths gives all commands, as help lists them.
func commandPaths(t *testing.T, at []string) (out [][]string) {
	t.Helper()
	text, errs, code := outcome(t, nil, bins(t, "rollcall"), append(slices.Clone(at), "-h")...)
	if code != 0 {
		t.Fatalf("rollcall %v -h: exit %d, %s", at, code, errs)
	}
	_, list, ok := strings.Cut(text, "\nCommands:\n")
	if !ok {
		return [][]string{at}
	}
	for line := range strings.Lines(list) {
		if !strings.HasPrefix(line, "  ") {
			break
		}
		name := strings.TrimRight(strings.Fields(line)[0], ",")
		out = append(out, commandPaths(t, append(slices.Clone(at), name))...)
	}
	return out
}
