package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A long run: go test ./registrator -run TestChaos -chaos 10m, or make soak.
var (
	chaosFor  = flag.Duration("chaos", time.Minute, "how long the chaos goes on")
	chaosSeed = flag.Uint64("chaos-seed", 0, "of its dice; 0: by the clock")
)

// chaos is containers to which things happen, anchors to which nothing does, and what
// stands around them.
type chaos struct {
	t       *testing.T
	dice    *rand.Rand
	boxes   []string        // ids
	plain   map[string]bool // ids of those without a HEALTHCHECK
	anchors []string        // addresses
	lan     string
	catalog *catalog
	reg     *process
	relay   *relay
	did     map[string]int
}

// try runs a docker command that may come at the wrong moment.
func (c *chaos) try(what string, args ...string) {
	if exec.Command("docker", args...).Run() == nil {
		c.did[what]++
	}
}

// act does one thing to one container.
func (c *chaos) act() {
	i := c.dice.IntN(len(c.boxes))
	id := c.boxes[i]
	switch c.dice.IntN(11) {
	case 0, 1:
		c.try("start", "start", id)
	case 2:
		c.try("stop", "stop", "-t", "1", id)
	case 3:
		c.try("kill", "kill", id)
	case 4:
		if c.plain[id] { // see TestCase09Pause
			c.try("pause", "pause", id)
		}
	case 5:
		c.try("unpause", "unpause", id)
	case 6:
		c.try("rename", "rename", id, name())
	case 7:
		c.try("connect", "network", "connect", c.lan, id)
	case 8:
		c.try("disconnect", "network", "disconnect", c.lan, id)
	case 9:
		c.try("health", "exec", id, "/bin/web", "-ill", []string{"true", "false"}[c.dice.IntN(2)])
	case 10:
		c.try("replace", "rm", "-f", id)
		c.boxes[i] = c.box(c.dice.IntN(2))
	}
}

// box starts a container, without a HEALTHCHECK or with one.
func (c *chaos) box(checked int) (id string) {
	id = start(c.t, []string{"plain", "checked"}[checked], "-e", "SERVICE_NAME=chaos", "--", "-drain", "200ms")
	c.plain[id] = checked == 0
	return id
}

// fault begins one fault around the containers, and gives what ends it.
func (c *chaos) fault() (name string, end func()) {
	switch c.dice.IntN(6) {
	case 0:
		c.relay.cut(true)
		return "socket away", c.relay.back
	case 1:
		c.relay.cut(false)
		return "socket cut", func() {}
	case 2:
		c.relay.frozen.Store(true)
		return "stream frozen", func() { c.relay.frozen.Store(false) }
	case 3:
		c.catalog.kill()
		return "catalog away", func() { c.catalog.run(); c.catalog.await() }
	case 4:
		c.reg.kill()
		return "registrator killed", c.reg.run
	}
	return "none", func() {}
}

// right compares the catalog with what the engine says runs.
func (c *chaos) right() error {
	want := slices.Clone(c.anchors)
	out, err := exec.Command("docker", "ps", "-q", "--no-trunc", "--filter", "label=test="+own(c.t)).Output()
	if err != nil {
		return err
	}
	ids := slices.DeleteFunc(strings.Fields(string(out)), func(id string) bool { return !slices.Contains(c.boxes, id) })
	if len(ids) > 0 {
		if out, err = exec.Command("docker", append([]string{"inspect"}, ids...)...).Output(); err != nil {
			return err
		}
		var list []struct {
			State struct {
				Status string
				Health *struct{ Status string }
			}
			NetworkSettings struct {
				Ports map[string][]struct{ HostIp, HostPort string }
			}
		}
		if err := json.Unmarshal(out, &list); err != nil {
			return err
		}
		for _, b := range list {
			at := b.NetworkSettings.Ports["8080/tcp"]
			if b.State.Status != "running" || len(at) == 0 || b.State.Health != nil && b.State.Health.Status != "healthy" {
				continue
			}
			want = append(want, at[0].HostIp+":"+at[0].HostPort)
		}
	}
	return c.catalog.has("chaos", want...)
}

// Everything happens in any order, to containers and to what stands around them. Whenever
// it is quiet the catalog equals what runs, and what nothing happened to was never missing.
func TestChaos(t *testing.T) {
	needSocket(t)
	seed := *chaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("-chaos-seed %d", seed)
	c := &chaos{t: t, dice: rand.New(rand.NewPCG(seed, 1)), relay: startRelay(t), did: map[string]int{}, plain: map[string]bool{}, lan: network(t)}
	c.catalog = startCatalog(t, rollcall(t), true)
	c.reg = registrar(t, c.catalog.addr, "-docker=unix://"+c.relay.path, "-resync=2s")
	for range 2 {
		c.anchors = append(c.anchors, published(t, start(t, "plain", "-e", "SERVICE_NAME=chaos")))
	}
	for n := range 6 {
		c.boxes = append(c.boxes, c.box(n%2))
	}
	eventually(t, 30*time.Second, "at first", c.right)
	var asked atomic.Int64
	endWatch := watch(t, "an anchor", 5*time.Millisecond, func() error {
		got, err := c.catalog.passing("chaos")
		if err != nil {
			return nil // the catalog is away; that is not the registrator's
		}
		asked.Add(1)
		for _, a := range c.anchors {
			if !slices.Contains(got, a) {
				return fmt.Errorf("%s is missing among %v", a, got)
			}
		}
		return nil
	})
	for end := time.Now().Add(*chaosFor); time.Now().Before(end) && !t.Failed(); {
		fault, over := c.fault()
		c.did[fault]++
		for range 1 + c.dice.IntN(4) {
			c.act()
		}
		over()
		eventually(t, 30*time.Second, "quiet after "+fault, c.right)
	}
	endWatch()
	select {
	case <-c.reg.ends:
		t.Error("the registrator ended by itself")
	default:
	}
	t.Logf("%v; the anchors were looked at %d times", c.did, asked.Load())
}
