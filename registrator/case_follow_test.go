package main

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// What starts is in the catalog, with the port that `docker port` prints.
func TestCase01StartIsRegistered(t *testing.T) {
	ss := both(t)
	took := make([][]time.Duration, len(ss))
	slots, wg, mu := make(chan struct{}, 3), sync.WaitGroup{}, sync.Mutex{}
	for range *many {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			id := start(t, "plain", "-e", "SERVICE_NAME=web")
			began, at := time.Now(), published(t, id)
			for i, s := range ss {
				eventually(t, soon, s.name+": registered", func() error { return s.keeps("web", at) })
				mu.Lock()
				took[i] = append(took[i], time.Since(began))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for i, s := range ss {
		slices.Sort(took[i])
		t.Logf("%s: seen %v (p95) after docker run had returned, `docker port` included", s.name, took[i][len(took[i])*95/100].Round(time.Millisecond))
	}
}

// The oldest version of the engine's API that is spoken, 20.10's 1.40, does for all of it;
// which one it is can be seen.
func TestOldestAPI(t *testing.T) {
	t.Parallel()
	engine(t)
	c := startCatalog(t, rollcall(t), false)
	listen := fmt.Sprintf("127.0.0.1:%d", ports(t, 1)[0])
	args := append(regArgs(t, c.addr), "-listen="+listen)
	reg := launch(t, func() *exec.Cmd {
		cmd := command(t, args...)
		cmd.Env = append(cmd.Env, "DOCKER_API_VERSION=1.40")
		return cmd
	})
	id := start(t, "checked", "-e", "SERVICE_NAME=hc")
	eventually(t, soon, "healthy", func() error { return c.has("hc", published(t, id)) })
	if body := ask(t, http.MethodGet, "http://"+listen+"/containers", 200); !strings.Contains(body, `"1.40"`) {
		t.Errorf("the version is not shown:\n%s", body)
	}
	dockerCmd(t, "kill", id)
	eventually(t, soon, "gone", func() error { return c.has("hc") })
	reg.lives()
}

// Fifty that are killed at once, again and again: nothing stale, nothing missing.
func TestCase03KillStorm(t *testing.T) {
	ss := both(t)
	ids := crowd(t, *many, "-e", "SERVICE_NAME=storm")
	for round := range *rounds {
		ss.has(soon, "all are there", "storm", allPublished(t, ids)...)
		dockerCmd(t, append([]string{"kill"}, ids...)...)
		died := time.Now()
		ss.has(soon, "none is left", "storm")
		t.Logf("round %d: clean %v after docker kill had returned", round+1, time.Since(died).Round(time.Millisecond))
		dockerCmd(t, append([]string{"start"}, ids...)...)
	}
	ss.has(soon, "all are back", "storm", allPublished(t, ids)...)
}

// Many that restart at once: every port is the new one.
func TestCase04RestartStorm(t *testing.T) {
	ss := both(t)
	ids := crowd(t, *many, "-e", "SERVICE_NAME=storm")
	before := allPublished(t, ids)
	ss.has(soon, "all are there", "storm", before...)
	var wg sync.WaitGroup
	for _, id := range ids {
		wg.Go(func() { dockerCmd(t, "restart", "-t", "0", id) })
	}
	wg.Wait()
	after := allPublished(t, ids)
	ss.has(soon, "every port is the new one", "storm", after...)
	if slices.Equal(before, after) {
		t.Error("no port changed; nothing was tried")
	}
}

// What is stopped is out of service while it still serves.
func TestCase02StopDrains(t *testing.T) {
	t.Parallel()
	ss := both(t)
	id := start(t, "plain", "-e", "SERVICE_NAME=web", "--", "-drain", "12s")
	at := published(t, id)
	ss.has(soon, "registered", "web", at)
	serves(t, at)
	stopped := make(chan struct{})
	began := time.Now()
	go func() { defer close(stopped); dockerCmd(t, "stop", "-t", "30", id) }()
	ss.has(10*time.Second, "out of service", "web")
	out := time.Since(began)
	if code, body, err := get("http://" + at + "/"); err != nil || code != 200 {
		t.Errorf("out of service, it serves no more: %d %s %v", code, body, err)
	}
	select {
	case <-stopped:
		t.Error("the container was gone before it was out of service")
	default:
	}
	<-stopped
	t.Logf("out of service after %v, gone after %v", out.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
}

// What closes its listener at the signal is drained before: a client that follows the
// catalog has no failure.
func TestCase02DrainBeforeStop(t *testing.T) {
	t.Parallel()
	engine(t)
	listen := fmt.Sprintf("127.0.0.1:%d", ports(t, 1)[0])
	ss := both(t)
	s := ss[0]
	s.reg.kill()
	s.reg = registrar(t, s.addr, "-listen="+listen)
	args := []string{"-e", "SERVICE_NAME=web", "--", "-drain", "0s"}
	a, b := start(t, "plain", args...), start(t, "plain", args...)
	eventually(t, soon, "registered", func() error { return s.has("web", published(t, a), published(t, b)) })

	serves(t, published(t, a))
	serves(t, published(t, b))

	// the client: a request to each instance that the catalog names, all the time
	var instances atomic.Pointer[[]string]
	first := []string{published(t, a), published(t, b)}
	instances.Store(&first)
	end := watch(t, "the client's catalog", time.Millisecond, func() error {
		got, err := s.passing("web")
		if err == nil && len(got) > 0 {
			instances.Store(&got)
		}
		return err
	})
	var asked atomic.Int64
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	endClient := watch(t, "a request failed", time.Millisecond, func() error {
		for _, at := range *instances.Load() {
			resp, err := client.Get("http://" + at + "/")
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err != nil {
				return err
			}
			asked.Add(1)
		}
		return nil
	})
	eventually(t, soon, "the client works", func() error {
		if asked.Load() < 50 {
			return fmt.Errorf("%d requests", asked.Load())
		}
		return nil
	})
	if code, body, err := request(http.MethodPost, "http://"+listen+"/drain/"+a[:12]); err != nil || code != 200 {
		t.Fatalf("POST /drain: %d %s %v", code, body, err)
	}
	if err := s.has("web", published(t, b)); err != nil {
		t.Errorf("when the drain was answered: %v", err)
	}
	seen := asked.Load()
	eventually(t, soon, "the client has heard of it", func() error {
		if asked.Load() < seen+20 {
			return fmt.Errorf("%d requests", asked.Load()-seen)
		}
		return nil
	})
	dockerCmd(t, "stop", "-t", "5", a)
	endClient()
	end()
	t.Logf("%d requests", asked.Load())

	// the whole host, by page and by signal, and back
	for _, step := range []struct {
		what string
		do   func()
		want []string
	}{
		{"POST /drain", func() { ask(t, http.MethodPost, "http://"+listen+"/drain", 200) }, nil},
		{"DELETE /drain", func() { ask(t, http.MethodDelete, "http://"+listen+"/drain", 200) }, []string{published(t, b)}},
		{"SIGUSR1", func() { s.reg.signal(sigUSR1) }, nil},
	} {
		step.do()
		eventually(t, soon, step.what, func() error { return s.has("web", step.want...) })
	}
	ask(t, http.MethodPost, "http://"+listen+"/drain/nobody", 404)
	for _, page := range []string{"/containers", "/plan?format=table", "/metrics", "/healthz"} {
		ask(t, http.MethodGet, "http://"+listen+page, 200)
	}
}

func ask(t testing.TB, method, url string, code int) string {
	t.Helper()
	got, body, err := request(method, url)
	if err != nil || got != code {
		t.Errorf("%s %s: %d, %v; want %d\n%s", method, url, got, err, code, body)
	}
	return body
}

// checkOf is the check of a service's only instance.
func checkOf(s *site, service string) (*consul.HealthCheck, error) {
	checks, _, err := s.Health().Checks(service, nil)
	if err == nil && len(checks) != 1 {
		err = fmt.Errorf("%d checks", len(checks))
	}
	if err != nil {
		return nil, err
	}
	return checks[0], nil
}

func isCritical(s *site, service, output string) error {
	c, err := checkOf(s, service)
	if err == nil && (c.Status != "critical" || !strings.Contains(c.Output, output)) {
		err = fmt.Errorf("%s: %s", c.Status, c.Output)
	}
	return err
}

// The output says why a check is critical that has not run yet, and what it was when the
// registration changes. The agent is asked: Consul hands outputs on later.
func TestHealthcheckOutput(t *testing.T) {
	t.Parallel()
	ss := both(t)
	output := func(want string) func(s *site) error {
		return func(s *site) error {
			checks, err := s.Agent().Checks()
			if err == nil && len(checks) != 1 {
				err = fmt.Errorf("%d checks", len(checks))
			}
			for _, c := range checks {
				if c.Output != want {
					err = fmt.Errorf("%s: %q", c.Status, c.Output)
				}
			}
			return err
		}
	}
	id := start(t, "checked", "-e", "SERVICE_NAME=hc", "--health-interval=1h")
	ss.eventually(soon, "starting", output("starting"))
	remove(t, id)
	id = start(t, "checked", "-e", "SERVICE_NAME=hc")
	ss.has(soon, "healthy", "hc", published(t, id))
	for _, s := range ss {
		s.reg.kill()
		registrar(t, s.addr, "-tags=new", "-host=other")
	}
	ss.eventually(soon, "registered anew", output("healthy"))
}

// A HEALTHCHECK is followed both ways, and nothing passes before the first healthy.
func TestCase05Healthcheck(t *testing.T) {
	t.Parallel()
	ss := both(t)
	var healthy atomic.Bool
	end := ss.watch("before the first healthy", 10*time.Millisecond, func(s *site) error {
		known := healthy.Load() // asked before the catalog is, so that it cannot be newer
		got, err := s.passing("hc")
		if err == nil && len(got) > 0 && !known {
			if id := dockerCmd(t, "ps", "-q", "--filter", "label=test="+own(t), "--filter", "health=healthy"); id == "" {
				return fmt.Errorf("%v passes", got)
			}
			healthy.Store(true)
		}
		return err
	})
	id := start(t, "checked", "-e", "SERVICE_NAME=hc")
	ss.has(soon, "healthy", "hc", published(t, id))
	end()
	dockerCmd(t, "exec", id, "/bin/web", "-ill", "true")
	ss.eventually(soon, "unhealthy", func(s *site) error { return isCritical(s, "hc", "unhealthy") })
	dockerCmd(t, "exec", id, "/bin/web", "-ill", "false")
	ss.has(soon, "healthy again", "hc", published(t, id))
}

// A healthy that comes between the stop signal and the death brings nothing back.
func TestCase06HealthyWhileDraining(t *testing.T) {
	t.Parallel()
	ss := both(t)
	id := start(t, "checked", "-e", "SERVICE_NAME=hc", "--", "-drain", "60s")
	ss.has(soon, "healthy", "hc", published(t, id))
	dockerCmd(t, "exec", id, "/bin/web", "-ill", "true")
	ss.eventually(soon, "unhealthy", func(s *site) error { return isCritical(s, "hc", "unhealthy") })
	stopped := make(chan struct{})
	go func() { defer close(stopped); dockerCmd(t, "stop", "-t", "60", id) }()
	ss.eventually(soon, "out", func(s *site) error {
		all, err := s.all()
		if err == nil && len(all) > 0 {
			err = fmt.Errorf("%d services", len(all))
		}
		return err
	})
	end := ss.watch("it came back", 5*time.Millisecond, func(s *site) error { return s.has("hc") })
	dockerCmd(t, "exec", id, "/bin/web", "-ill", "false")
	eventually(t, soon, "the engine calls it healthy", func() error {
		if is := dockerCmd(t, "inspect", "-f", "{{.State.Health.Status}}", id); is != "healthy" {
			return fmt.Errorf("it is %s", is)
		}
		return nil
	})
	select {
	case <-stopped:
		t.Fatal("it had ended before it was healthy; nothing was tried")
	default:
	}
	dockerCmd(t, "kill", id)
	<-stopped
	end()
}

// Signals that are no stop signal change nothing.
func TestCase07OtherSignals(t *testing.T) {
	t.Parallel()
	ss := both(t)
	id := start(t, "plain", "-e", "SERVICE_NAME=web")
	at := published(t, id)
	ss.has(soon, "registered", "web", at)
	serves(t, at)
	end := ss.watch("in service all the time", 2*time.Millisecond, func(s *site) error { return s.has("web", at) })
	dockerCmd(t, "kill", "-s", "HUP", id)
	other := start(t, "plain", "-e", "SERVICE_NAME=later") // when this one is there, the signal was taken in long ago
	ss.has(soon, "the next event", "later", published(t, other))
	end()
}

// An image with a stop signal of its own drains at that, and not at another.
func TestCase08StopSignal(t *testing.T) {
	t.Parallel()
	ss := both(t)
	id := start(t, "quit", "-e", "SERVICE_NAME=web", "--", "-drain", "12s")
	at := published(t, id)
	ss.has(soon, "registered", "web", at)
	serves(t, at)
	stopped := make(chan struct{})
	go func() { defer close(stopped); dockerCmd(t, "stop", "-t", "30", id) }()
	ss.has(10*time.Second, "out of service", "web")
	if code, _, err := get("http://" + at + "/"); err != nil || code != 200 {
		t.Errorf("out of service, it serves no more: %d %v", code, err)
	}
	<-stopped
	if is := dockerCmd(t, "inspect", "-f", "{{.Config.StopSignal}} {{.State.ExitCode}}", id); is != "SIGQUIT 0" {
		t.Errorf("it was to end by SIGQUIT, with 0: %s", is)
	}
}

// A paused container is critical, and back as it was. The HEALTHCHECK is a rare one: Docker
// 20.10 never again answers for a container that it pauses while it starts a probe in it.
func TestCase09Pause(t *testing.T) {
	t.Parallel()
	ss := both(t)
	plain, checked := start(t, "plain", "-e", "SERVICE_NAME=web"), start(t, "checked", "--health-interval=5s", "-e", "SERVICE_NAME=hc")
	ss.has(soon, "registered", "web", published(t, plain))
	ss.has(soon, "healthy", "hc", published(t, checked))
	dockerCmd(t, "pause", plain, checked)
	for _, service := range []string{"web", "hc"} {
		ss.eventually(soon, "paused", func(s *site) error {
			state, _, err := s.Agent().AgentHealthServiceByName(service)
			if err == nil && state != "maintenance" && state != "critical" {
				err = fmt.Errorf("%s is %s", service, state)
			}
			return err
		})
	}
	dockerCmd(t, "unpause", plain, checked)
	ss.has(soon, "goes on", "web", published(t, plain))
	ss.has(soon, "goes on", "hc", published(t, checked))
}

// A rename gives a new id, and the instance is there all the time.
func TestCase24Rename(t *testing.T) {
	t.Parallel()
	ss := both(t)
	id := start(t, "plain", "-e", "SERVICE_NAME=web")
	at := published(t, id)
	ss.has(soon, "registered", "web", at)
	end := ss.watch("in service all the time", 2*time.Millisecond, func(s *site) error {
		got, err := s.passing("web")
		if err == nil && !slices.Contains(got, at) {
			err = fmt.Errorf("it is gone: %v", got)
		}
		return err
	})
	other := name()
	dockerCmd(t, "rename", id, other)
	ss.eventually(soon, "renamed", func(s *site) error {
		all, err := s.all()
		if err == nil && (len(all) != 1 || all["h:"+other+":8080"] == nil) {
			err = fmt.Errorf("services %v", all)
		}
		return err
	})
	end()
}
