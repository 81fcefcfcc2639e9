package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

func TestLife(t *testing.T) {
	each(t, func(t *testing.T, c *catalog) {
		registrar(t, c)
		one := start(t, "plain", "-e", "SERVICE_NAME=web", "-e", "SERVICE_TAGS=a,b", "-e", "SERVICE_REGION=eu")
		at := published(t, one)
		eventually(t, 5*time.Second, "registered", c.has("web", at))
		rows, _, err := c.Catalog().Service("web", "a", nil)
		if err != nil || len(rows) != 1 || !slices.Equal(rows[0].ServiceTags, []string{"a", "b"}) || rows[0].ServiceMeta["region"] != "eu" {
			t.Fatalf("row %+v, %v", rows, err)
		}
		dockerCmd(t, "kill", "-s", "HUP", start(t, "plain", "-e", "SERVICE_NAME=other")) // ends, it does not know the signal

		dockerCmd(t, "pause", one)
		eventually(t, 5*time.Second, "paused", c.has("web"))
		dockerCmd(t, "unpause", one)
		eventually(t, 5*time.Second, "goes on", c.has("web", at))

		dockerCmd(t, "rename", one, "renamed-"+one[:8])
		eventually(t, 5*time.Second, "renamed", func() error {
			_, _, err := c.Agent().Service("h:renamed-"+one[:8]+":8080", nil)
			return errors.Join(err, c.has("web", at)())
		})

		stopped := make(chan struct{})
		go func() { defer close(stopped); dockerCmd(t, "stop", "-t", "5", one) }() // the workload serves on for 2 s
		eventually(t, 1500*time.Millisecond, "out of service while it still answers", c.has("web"))
		select {
		case <-stopped:
			t.Error("the container was gone before it was out of service")
		default:
		}
		<-stopped
		dockerCmd(t, "start", one)
		eventually(t, 5*time.Second, "started again", func() error { return c.has("web", published(t, one))() })
		eventually(t, 5*time.Second, "the other one is gone", c.has("other"))
	})
}

func TestHealthcheckFollows(t *testing.T) {
	each(t, func(t *testing.T, c *catalog) {
		registrar(t, c)
		var early atomic.Bool // passing before the first healthy
		id := start(t, "checked", "-e", "SERVICE_NAME=hc")
		eventually(t, 5*time.Second, "registered, not passing", func() error {
			checks, _, err := c.Health().Checks("hc", nil)
			if err == nil && len(checks) != 1 {
				err = fmt.Errorf("%d checks", len(checks))
			}
			if err == nil {
				early.Store(checks[0].Status == "passing" && dockerCmd(t, "inspect", "-f", "{{.State.Health.Status}}", id) == "starting")
			}
			return err
		})
		if early.Load() {
			t.Error("it was passing while starting")
		}
		eventually(t, 10*time.Second, "healthy", c.has("hc", published(t, id)))
		dockerCmd(t, "exec", id, "/bin/web", "-ill", "true")
		eventually(t, 10*time.Second, "unhealthy", func() error {
			checks, _, err := c.Health().Checks("hc", nil)
			if err == nil && (len(checks) != 1 || checks[0].Status != "critical" || !strings.HasPrefix(checks[0].Output, "unhealthy")) {
				err = fmt.Errorf("%+v", checks)
			}
			return err
		})
		dockerCmd(t, "exec", id, "/bin/web", "-ill", "false")
		eventually(t, 10*time.Second, "healthy again", c.has("hc", published(t, id)))
	})
}

// The agent is killed and comes back empty, twice: once with nothing else going on, once
// while containers change.
func TestAgentComesBackEmpty(t *testing.T) {
	each(t, func(t *testing.T, c *catalog) {
		registrar(t, c)
		a := start(t, "plain", "-e", "SERVICE_NAME=web")
		eventually(t, 5*time.Second, "registered", c.has("web", published(t, a)))
		c.kill()
		c.run()
		c.await()
		eventually(t, 15*time.Second, "registered again", c.has("web", published(t, a)))
		c.kill()
		b := start(t, "plain", "-e", "SERVICE_NAME=web")
		dockerCmd(t, "rm", "-f", a)
		c.run()
		c.await()
		eventually(t, 15*time.Second, "what changed meanwhile", c.has("web", published(t, b)))
	})
}

func TestRegistratorComesBack(t *testing.T) {
	each(t, func(t *testing.T, c *catalog) {
		r := registrar(t, c)
		stays, goes := start(t, "plain", "-e", "SERVICE_NAME=web"), start(t, "plain", "-e", "SERVICE_NAME=web")
		manual := &consul.AgentServiceRegistration{ID: "by-hand", Name: "hand", Port: 1}
		if err := c.Agent().ServiceRegister(manual); err != nil {
			t.Fatal(err)
		}
		eventually(t, 5*time.Second, "registered", c.has("web", published(t, stays), published(t, goes)))
		index := func() uint64 {
			rows, _, err := c.Catalog().Service("web", "", nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rows {
				if strings.HasSuffix(published(t, stays), fmt.Sprint(":", r.ServicePort)) {
					return r.ModifyIndex
				}
			}
			t.Fatal("it is not there")
			return 0
		}
		before := index()
		r.kill()
		dockerCmd(t, "rm", "-f", goes)
		r.run()
		eventually(t, 5*time.Second, "what ended meanwhile is gone", c.has("web", published(t, stays)))
		if got := index(); got != before {
			t.Errorf("the unchanged service was written again: index %d, was %d", got, before)
		}
		eventually(t, time.Second, "what is not ours stays", c.has("hand", ":1"))

		// dry run: in sync, then not
		args := []string{"-host=h", "-owner=" + t.Name(), "-filter=label:test=" + t.Name(), "-dry-run", "consul://" + c.addr}
		cmd := command(t, args...)
		if out, err := cmd.Output(); err != nil || len(out) != 0 {
			t.Errorf("dry run in sync: %v, %q", err, out)
		}
		r.signal(syscall.SIGTERM)
		<-r.ends
		if code := r.cmd.ProcessState.ExitCode(); code != 0 {
			t.Errorf("after SIGTERM: exit %d, want 0", code)
		}
		dockerCmd(t, "rm", "-f", stays)
		cmd = command(t, args...)
		out, _ := cmd.Output()
		if cmd.ProcessState.ExitCode() != 3 || !strings.HasPrefix(string(out), "deregister h:") {
			t.Errorf("dry run out of sync: exit %d, %q", cmd.ProcessState.ExitCode(), out)
		}
		eventually(t, time.Second, "a dry run writes nothing", func() error {
			got, err := c.passing("web")
			if err == nil && len(got) != 1 {
				err = fmt.Errorf("%v", got)
			}
			return err
		})
	})
}

func TestKillStorm(t *testing.T) {
	each(t, func(t *testing.T, c *catalog) {
		registrar(t, c)
		ids := make([]string, 20)
		slots, wg := make(chan struct{}, 4), sync.WaitGroup{} // more at once and the engine takes longer
		for i := range ids {
			wg.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				ids[i] = start(t, "plain", "-e", "SERVICE_NAME=storm")
			})
		}
		wg.Wait()
		var at []string
		for _, id := range ids {
			at = append(at, published(t, id))
		}
		eventually(t, 5*time.Second, "all are there", c.has("storm", at...))
		dockerCmd(t, append([]string{"kill"}, ids...)...)
		died := time.Now()
		eventually(t, time.Second, "none is left a second after the last death", c.has("storm"))
		t.Logf("clean %v after the last death", time.Since(died).Round(time.Millisecond))
		dockerCmd(t, append([]string{"start"}, ids...)...)
		at = nil
		for _, id := range ids {
			at = append(at, published(t, id))
		}
		eventually(t, 5*time.Second, "every port is the new one", c.has("storm", at...))
	})
}

// A container's own address follows its networks.
func TestNetworks(t *testing.T) {
	engine(t)
	for _, bin := range agents(t) {
		c := startCatalog(t, bin)
		net1, net2 := "regtest-"+fmt.Sprint(os.Getpid())+"-a", "regtest-"+fmt.Sprint(os.Getpid())+"-b"
		for _, n := range []string{net1, net2} {
			dockerCmd(t, "network", "create", "--label", testLabel+"=1", n)
			t.Cleanup(func() { exec.Command("docker", "network", "rm", n).Run() })
		}
		registrar(t, c, "-internal", "-network="+net2+",*")
		id := start(t, "plain", "--network", net1, "-e", "SERVICE_NAME=net")
		ip := func(n string) string {
			return dockerCmd(t, "inspect", "-f", "{{(index .NetworkSettings.Networks \""+n+"\").IPAddress}}", id) + ":8080"
		}
		eventually(t, 5*time.Second, "the only network", c.has("net", ip(net1)))
		dockerCmd(t, "network", "connect", net2, id)
		eventually(t, 5*time.Second, "the preferred one", c.has("net", ip(net2)))
		dockerCmd(t, "network", "disconnect", net2, id)
		eventually(t, 5*time.Second, "back", c.has("net", ip(net1)))
		return // one agent is enough: the question is Docker's
	}
}

// Containers are drained by request before anybody stops them; the answer comes when the
// catalog has it.
func TestDrainRequest(t *testing.T) {
	each(t, func(t *testing.T, c *catalog) {
		url := fmt.Sprintf("http://127.0.0.1:%d", ports(t, 1)[0])
		r := registrar(t, c, "-listen="+strings.TrimPrefix(url, "http://"))
		a, b := start(t, "plain", "-e", "SERVICE_NAME=web"), start(t, "plain", "-e", "SERVICE_NAME=web")
		atA, atB := published(t, a), published(t, b)
		eventually(t, 5*time.Second, "registered", c.has("web", atA, atB))
		ask := func(method, path string, code int) {
			t.Helper()
			req, err := http.NewRequestWithContext(t.Context(), method, url+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			if body, _ := io.ReadAll(resp.Body); resp.StatusCode != code {
				t.Errorf("%s %s: %d, want %d\n%s", method, path, resp.StatusCode, code, body)
			}
		}
		ask("GET", "/readyz", 200)
		ask("POST", "/drain/"+a[:12], 200)
		if err := c.has("web", atB)(); err != nil {
			t.Errorf("when the request was answered: %v", err)
		}
		ask("DELETE", "/drain/"+a[:12], 200)
		eventually(t, 5*time.Second, "back", c.has("web", atA, atB))
		r.signal(syscall.SIGUSR1)
		eventually(t, 5*time.Second, "all drained by signal", c.has("web"))
		ask("DELETE", "/drain", 200)
		eventually(t, 5*time.Second, "all back", c.has("web", atA, atB))
		ask("GET", "/containers", 200)
		ask("GET", "/metrics", 200)
	})
}

// Two registrators on one engine: each service once, and either may go.
func TestTwoRegistrators(t *testing.T) {
	each(t, func(t *testing.T, c *catalog) {
		one, two := registrar(t, c), registrar(t, c)
		a := start(t, "plain", "-e", "SERVICE_NAME=web")
		eventually(t, 5*time.Second, "registered once", c.has("web", published(t, a)))
		one.kill()
		b := start(t, "plain", "-e", "SERVICE_NAME=web")
		eventually(t, 5*time.Second, "the other goes on", c.has("web", published(t, a), published(t, b)))
		two.kill()
		if err := c.has("web", published(t, a), published(t, b))(); err != nil {
			t.Errorf("after both have gone: %v", err)
		}
	})
}
