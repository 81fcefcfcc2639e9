package e2e

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// A long run: go test ./internal/e2e -run TestHouseChaos -house-chaos 10m, or make soak.
var (
	houseChaosFor  = flag.Duration("house-chaos", 30*time.Second, "how long the chaos in the whole house goes on")
	houseChaosSeed = flag.Uint64("house-chaos-seed", 0, "of its dice; 0: by the clock")
)

// fault is something that befalls a part, until it ends; node is whose health it may touch.
type fault struct {
	what, node string
	begin, end func()
}

func cutOff(l *lan, node, host string) fault {
	return fault{node + " cut off", node, func() { l.link(host, "down") }, func() { l.link(host, "up") }}
}

// lossy drops three of ten packets that come in.
func lossy(l *lan, node, host string) fault {
	do := func(verb string) func() {
		return func() {
			l.hosts("exec", host, "iptables", verb, "INPUT", "-i", "eth0", "-m", "statistic", "--mode", "random", "--probability", "0.3", "-j", "DROP")
		}
	}
	return fault{node + " loses packets", node, do("-I"), do("-D")}
}

func frozen(what, node string, p *process) fault {
	return fault{what + " frozen", node, func() { p.signal(syscall.SIGSTOP) }, func() { p.signal(syscall.SIGCONT) }}
}

func killed(what, node string, p *process) fault {
	return fault{what + " killed", node, p.kill, p.run}
}

// blamed notes nodes that turn critical though nothing befell them. Word of it comes by way
// of an agent, if that answers.
type blamed struct {
	agent *agent
	mu    sync.Mutex
	may   []fault  // guarded by mu; what befalls somebody, or did just before
	wrong []string // guarded by mu
}

func (b *blamed) watch(ctx context.Context) {
	health := b.agent.client().Health()
	ask := consul.QueryOptions{RequireConsistent: true, WaitTime: time.Second}
	for ctx.Err() == nil {
		checks, meta, err := health.State("critical", ask.WithContext(ctx))
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond):
			}
			continue
		}
		ask.WaitIndex = meta.LastIndex
		b.mu.Lock()
		for _, c := range checks {
			if !slices.ContainsFunc(b.may, func(f fault) bool { return f.node == c.Node }) {
				b.wrong = append(b.wrong, fmt.Sprintf("%s: %s of %s: %s", time.Now().Format("05.000"), c.CheckID, c.Node, c.Output))
			}
		}
		b.mu.Unlock()
	}
}

// befalls says what happens from now on, beside what happened last, for death is noticed with
// a delay. It gives who turned critical without cause.
func (b *blamed) befalls(last, now []fault) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.may = append(slices.Clone(last), now...)
	return b.wrong
}

// Three servers, two Docker hosts, and an nginx with its templater: whatever befalls one of
// them, nginx answers every request, and afterwards both hosts serve, also what was started
// meanwhile.
func TestHouseChaos(t *testing.T) {
	t.Parallel()
	l := startLAN(t, 1)
	var servers []*agent
	hostOf := map[*agent]string{}
	for i := range 3 {
		ns := l.plain(2 + i)
		args := append(joining(servers), "-server", "-bootstrap-expect=3")
		s := startAgent(t, fmt.Sprintf("s%d", i+1), options{ns: ns, ip: l.ip(2 + i)}, args...)
		servers, hostOf[s] = append(servers, s), ns
	}
	for _, s := range servers {
		s.awaitLeader()
	}
	a, b := l.host(11, servers...), l.host(12, servers...)
	front := startAgent(t, "front", options{ip: l.ip(1)}, joining(servers)...)
	front.awaitLeader()
	h := &house{t: t, engine: a.engine, server: front, nginx: startNginx(t)}
	h.startTemplater()
	all := []string{a.web("web"), a.web("web"), b.web("web"), b.web("web")}
	eventually(t, soon, "all are served", h.wantServed("web", all...))

	seed := *houseChaosSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano())
	}
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	stop := h.load("web", 20)
	health := front.client().Health()
	watch := &blamed{agent: front}
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watching.Go(func() { watch.watch(ctx) })
	reachable := time.Now() // since when both hosts are
	type container struct {
		on *host
		id string
	}
	var churn []container // of another service, oldest first
	hosts := []*host{a, b}
	var faults []fault
	for end := time.Now().Add(*houseChaosFor); time.Now().Before(end) && !t.Failed(); {
		host, server := hosts[dice.IntN(2)], servers[dice.IntN(3)]
		agent, registrator := host.agent.process, "registrator of "+host.name
		beside := []fault{
			frozen(host.name, host.name, agent), killed(host.name, host.name, agent),
			frozen(registrator, "", host.registrator), killed(registrator, "", host.registrator),
			frozen(front.name, front.name, front.process), killed(front.name, front.name, front.process), killed("templater", "", h.templater),
		}
		if time.Since(reachable) > 3*time.Second { // nginx may still hold the other host to be away
			beside = append(beside, cutOff(l, host.name, host.name), lossy(l, host.name, host.name))
		}
		ofServer := []fault{
			cutOff(l, server.name, hostOf[server]), lossy(l, server.name, hostOf[server]),
			frozen(server.name, server.name, server.process), killed(server.name, server.name, server.process),
		}
		last := faults
		faults = nil
		if which := dice.IntN(3); which != 0 {
			faults = append(faults, beside[dice.IntN(len(beside))])
		}
		if which := dice.IntN(3); which != 0 || len(faults) == 0 {
			faults = append(faults, ofServer[dice.IntN(len(ofServer))])
		}
		began, long := time.Now(), min(time.Duration(dice.ExpFloat64()*float64(6*time.Second)), 40*time.Second)
		if wrong := watch.befalls(last, faults); len(wrong) > 0 {
			t.Errorf("critical without a cause: %v", wrong)
		}
		var names []string
		for _, f := range faults {
			names = append(names, f.what)
			f.begin()
		}
		what := strings.Join(names, ", ")
		on := hosts[dice.IntN(2)]
		if churn = append(churn, container{on, on.web("churn")}); len(churn) > 3 {
			churn[0].on.remove(churn[0].id)
			churn = churn[1:]
		}
		<-time.After(time.Until(began.Add(long)))
		for _, f := range faults {
			f.end()
		}
		healed := time.Now()
		eventually(t, time.Minute, "all are served after: "+what, h.wantServed("web", all...))
		var ids []string
		for _, c := range churn {
			ids = append(ids, c.id)
		}
		eventually(t, time.Minute, "what was started and removed meanwhile is known after: "+what, h.wantServed("churn", ids...))
		eventually(t, time.Minute, "nobody is critical after: "+what, func() error {
			checks, _, err := health.State("critical", nil)
			if err == nil && len(checks) > 0 {
				err = fmt.Errorf("%d checks, of %s", len(checks), checks[0].Node)
			}
			return err
		})
		if slices.ContainsFunc(faults, func(f fault) bool { return f.node == host.name }) {
			reachable = time.Now()
		}
		if got, err := front.instances("web"); err != nil || len(got) != len(all) {
			t.Errorf("after %s the catalog has %v, %v", what, got, err)
		}
		t.Logf("%s: %s for %.1f s, healed after %.1f s", began.Format("05.000"), what, long.Seconds(), time.Since(healed).Seconds())
	}
	if total, failures := stop(); len(failures) > 0 {
		t.Errorf("%d of %d requests failed: %v", len(failures), total, failures[:min(len(failures), 5)])
	} else {
		t.Logf("%d requests", total)
	}
}
