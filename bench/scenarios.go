package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"
)

const (
	ours   = "rollcall"
	consul = "consul"
	etcd   = "etcd"
)

// starts measures from the start of the process to a leader that is known.
func (s *suite) starts() error {
	for _, sc := range []*scenario{
		{Name: "start-dev", What: "`agent -dev`: start of the process to a leader", Unit: "ms", Less: true},
		{Name: "start-server", What: "one server: start of the process to a leader", Unit: "ms", Less: true},
	} {
		sc.run = func(p *peer, _ int) (sample, error) {
			args := []string{"-server", "-bootstrap-expect=1"}
			if sc.Name == "start-dev" {
				args = []string{"-dev"}
			}
			began := time.Now()
			q, err := s.launch(p.name, args...)
			if err != nil {
				return sample{}, err
			}
			took := time.Since(began)
			q.remove()
			return sample{Value: ms(took)}, nil
		}
		if err := s.measure(sc, map[string]*peer{ours: {name: ours}, consul: {name: consul}}); err != nil {
			return err
		}
	}
	return nil
}

// appendValue appends 100 bytes, never the same: to write the same again changes nothing.
func appendValue(b []byte) []byte {
	b = strconv.AppendInt(b, time.Now().UnixNano(), 10) // 19 digits
	return append(b, filler...)
}

var filler = strings.Repeat("v", 81)

// putKey appends the request that writes a key of 100 bytes.
func putKey(b []byte, worker, i int) []byte {
	var value [100]byte
	return appendRequest(b, "PUT", "/v1/kv/k/"+strconv.Itoa(worker)+"/"+strconv.Itoa(i%1000), appendValue(value[:0]))
}

// getKey appends the request that reads a key which putKey has written.
func getKey(b []byte, worker, _ int) []byte {
	return appendRequest(b, "GET", "/v1/kv/k/"+strconv.Itoa(worker)+"/0", nil)
}

// register appends the request that registers an instance on a node of twenty.
func register(b []byte, service string, i int) []byte {
	node := strconv.Itoa(i / 20)
	return appendRequest(b, "PUT", "/v1/catalog/register", fmt.Appendf(nil,
		`{"Node":"h%s","Address":"10.%d.%d.%d","Service":{"ID":"i%d","Service":%q,"Port":%d,"Tags":["v1"]}}`,
		node, i/20>>16, i/20>>8&255, i/20&255, i, service, 1024+i%60000))
}

// fill registers instances from…to, a thousandth of them of each service.
func (s *suite) fill(p *peer, from, to int) error {
	began := time.Now()
	_, err := drive(p, 64, 0, int64(to-from), over(p.http, func(b []byte, _, i int) []byte {
		return register(b, "f"+strconv.Itoa((from+i)%1000), from+i)
	}))
	s.say("%s: %d instances registered in %s", p.name, to-from, time.Since(began).Round(time.Second))
	return err
}

// crowds are the services that reads are measured at: instances, by service.
var crowds = []int{10, 100, 1000}

func (s *suite) single() error {
	rate := func(name, what string, goal float64, run func(p *peer, round int) (sample, error)) *scenario {
		return &scenario{Name: name, What: what, Unit: "/s", Goal: goal, run: run}
	}
	read := func(path string) func(p *peer, _ int) (sample, error) {
		return func(p *peer, _ int) (sample, error) { return drive(p, 16, s.during, 0, always(p.http, "GET", path)) }
	}
	registering := func(p *peer, round int) (sample, error) {
		return drive(p, 64, s.during, 0, over(p.http, func(b []byte, w, i int) []byte {
			return register(b, "new"+strconv.Itoa(w), 10_000_000+round<<20+w<<14+i)
		}))
	}
	small := []*scenario{
		rate("kv-put", "KV put of 100 bytes, 64 connections", 5, func(p *peer, _ int) (sample, error) {
			if p.name == etcd {
				return work(p, 64, s.during, etcdPuts(p.http))
			}
			return drive(p, 64, s.during, 0, over(p.http, putKey))
		}),
		rate("kv-get", "KV get of 100 bytes, 64 connections", 3, func(p *peer, _ int) (sample, error) {
			return drive(p, 64, s.during, 0, over(p.http, getKey))
		}),
		rate("health-10", "`health/service/X?passing`, 10 instances", 8, read("/v1/health/service/s10?passing")),
		rate("health-100", "the same, 100 instances", 20, read("/v1/health/service/s100?passing")),
		rate("health-1000", "the same, 1,000 instances", 25, read("/v1/health/service/s1000?passing")),
	}
	small[0].Only = []string{ours, consul, etcd}
	for _, n := range []int{10, 1000} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
			kind := dns.TypeToString[qtype]
			small = append(small, rate(fmt.Sprintf("dns-%s-%d", strings.ToLower(kind), n), fmt.Sprintf("DNS %s, %d instances", kind, n), map[int]float64{10: 6, 1000: 100}[n],
				func(p *peer, _ int) (sample, error) {
					packet, err := question(fmt.Sprintf("s%d.service.consul.", n), qtype)
					if err != nil {
						return sample{}, err
					}
					return drive(p, 16, s.during, 0, asking(p.dns, packet))
				}))
		}
	}
	small = append(small,
		&scenario{Name: "watchers", What: "5,000 blocked watchers on one service, one change: the last one is awake", Unit: "ms", Less: true, Goal: 5, run: s.watchers},
		rate("agent-register", "512 services registered with an agent until all are in the catalog, 32 connections", 20, s.agentRegister(512)),
		rate("agent-register-4k", "4,096 services registered with an agent until all are in the catalog, 32 connections", 20, s.agentRegister(4096)),
		rate("mixed", "nine reads of 10 instances to one registration, 64 connections", 0, func(p *peer, round int) (sample, error) {
			return drive(p, 64, s.during, 0, over(p.http, func(b []byte, w, i int) []byte {
				if i%10 == 9 {
					return register(b, "mixed", 20_000_000+w<<10+i%1000)
				}
				return appendRequest(b, "GET", "/v1/health/service/s10?passing", nil)
			}))
		}),
		rate("sessions", "sessions created and destroyed, 64 connections", 0, func(p *peer, _ int) (sample, error) {
			return drive(p, 64, s.during, 0, sessions(p.http, 64))
		}),
		rate("churn", "instances registered in the catalog and deregistered, 64 connections", 0, func(p *peer, _ int) (sample, error) {
			return drive(p, 64, s.during, 0, over(p.http, func(b []byte, w, i int) []byte {
				instance := 30_000_000 + w<<14 + i/2
				if i%2 == 0 {
					return register(b, "churn", instance)
				}
				return appendRequest(b, "PUT", "/v1/catalog/deregister", fmt.Appendf(nil, `{"Node":"h%d","ServiceID":"i%d"}`, instance/20, instance))
			}))
		}),
		rate("ttl", "TTL checks of 10,000 kept passing, 64 connections", 0, s.ttl),
		rate("register-1k", "catalog register, 64 connections, at 1 k instances", 10, registering),
	)
	at20k := []*scenario{rate("register-20k", "the same at 20 k instances", 10, registering)}
	at100k := []*scenario{
		rate("register-100k", "the same at 100 k instances", 10, registering),
		rate("health-10-at-100k", "`health/service/X?passing`, 10 instances, while there are 100 k others", 0, read("/v1/health/service/s10?passing")),
		{Name: "memory-100k", What: "resident memory at 100 k instances", Unit: "MB", Less: true, Goal: 4, Once: true, run: func(p *peer, _ int) (sample, error) {
			return sample{Value: p.resident() / 1e6}, nil
		}},
		{Name: "snapshot-stall", What: "the longest of the writes of 16 connections while a snapshot of 100 k instances is taken", Unit: "ms", Less: true, run: s.snapshotStall},
		{Name: "restart-100k", What: "kill -9 at 100 k instances, start to the first answer", Unit: "ms", Less: true, Kills: true, run: func(p *peer, _ int) (sample, error) {
			p.kill()
			began := time.Now()
			if err := p.start(); err != nil {
				return sample{}, err
			}
			err := p.until(time.Minute, func() error { return p.get("/v1/health/service/s10?passing", `"s10"`) })
			return sample{Value: ms(time.Since(began))}, err
		}},
	}
	names := func(of []*scenario) (out []string) {
		for _, sc := range of {
			out = append(out, sc.Name)
		}
		return out
	}
	if !s.wants(append(append(names(small), names(at20k)...), names(at100k)...)...) {
		return nil
	}
	running, end, err := s.run(append([]string{ours}, s.compare...), "-server", "-bootstrap-expect=1")
	if err != nil {
		return err
	}
	defer end()
	catalogs := func(do func(p *peer) error) error {
		for _, name := range []string{ours, consul} {
			if p := running[name]; p != nil {
				if err := do(p); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
		return nil
	}
	err = catalogs(func(p *peer) error {
		for _, n := range crowds {
			if _, err := drive(p, 32, 0, int64(n), over(p.http, func(b []byte, _, i int) []byte {
				return appendRequest(b, "PUT", "/v1/catalog/register", fmt.Appendf(nil,
					`{"Node":"n%d","Address":"10.0.%d.%d","Service":{"ID":"s%d","Service":"s%d","Port":80,"Tags":["v1"]}}`, i, i/250, i%250, n, n))
			})); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	run := func(of []*scenario) error {
		for _, sc := range of {
			if err := s.measure(sc, running); err != nil {
				return err
			}
		}
		return nil
	}
	if err := run(small); err != nil {
		return err
	}
	if s.wants(append(names(at20k), names(at100k)...)...) {
		if err := catalogs(func(p *peer) error { return s.fill(p, 0, 20_000) }); err != nil {
			return err
		}
		if err := run(at20k); err != nil {
			return err
		}
	}
	if s.wants(names(at100k)...) {
		if err := catalogs(func(p *peer) error { return s.fill(p, 20_000, 100_000) }); err != nil {
			return err
		}
	}
	return run(at100k)
}

// question is a packet that asks, with room for an answer of 1,232 bytes.
func question(name string, qtype uint16) ([]byte, error) {
	return new(dns.Msg).SetQuestion(name, qtype).SetEdns0(1232, false).Pack()
}

// watchers has 5,000 wait for one service, changes it, and measures until the last has its
// answer.
func (s *suite) watchers(p *peer, round int) (sample, error) {
	const watchers = 5000
	change := func(port int) error {
		return p.put("/v1/catalog/register", fmt.Sprintf(`{"Node":"n0","Address":"10.0.0.0","Service":{"ID":"watched","Service":"watched","Port":%d}}`, port))
	}
	if err := change(round + 1); err != nil {
		return sample{}, err
	}
	l, err := newLoop(p.http, false, 0, 1, watchers)
	if err != nil {
		return sample{}, err
	}
	defer l.Close()
	const path = "/v1/health/service/watched?passing"
	wait := func(c *conn) error {
		return c.send(request("GET", path+"&wait=5m&index="+strconv.FormatUint(c.index, 10), nil))
	}
	for _, c := range l.clients {
		if err := c.send(request("GET", path, nil)); err != nil {
			return sample{}, err
		}
	}
	if err := l.answers(watchers, func(c *conn) (int, error) { return 0, wait(c) }); err != nil {
		return sample{}, err
	}
	var took, used []float64
	for change0 := range 3 {
		time.Sleep(500 * time.Millisecond) // the last of them are on their way
		before, _ := p.usage()
		began := time.Now()
		if err := change(1000 + round*10 + change0); err != nil {
			return sample{}, err
		}
		if err := l.answers(watchers, func(*conn) (int, error) { return 0, nil }); err != nil {
			return sample{}, err
		}
		took = append(took, ms(time.Since(began)))
		after, _ := p.usage()
		used = append(used, ms(after-before)/watchers)
		for _, c := range l.clients {
			if err := wait(c); err != nil {
				return sample{}, err
			}
		}
	}
	return sample{Value: median(took), CPU: median(used)}, nil
}

// agentRegister registers so many services with the agent, waits until all are in the
// catalog, and takes them away again.
func (s *suite) agentRegister(count int) func(p *peer, round int) (sample, error) {
	return func(p *peer, round int) (sample, error) {
		service := fmt.Sprintf("agent%d-%d", count, round)
		all := func(next func(b []byte, i int) []byte) (sample, error) {
			return drive(p, 32, 0, int64(count), over(p.http, func(b []byte, _, i int) []byte { return next(b, i) }))
		}
		began := time.Now()
		got, err := all(func(b []byte, i int) []byte {
			return appendRequest(b, "PUT", "/v1/agent/service/register", fmt.Appendf(nil, `{"ID":"%s-%d","Name":"%s","Port":80}`, service, i, service))
		})
		if err != nil {
			return sample{}, err
		}
		err = p.until(time.Minute, func() error {
			body, err := p.fetch("/v1/catalog/service/" + service + "?stale")
			if n := strings.Count(body, `"ServiceID"`); err == nil && n != count {
				err = fmt.Errorf("%d of %d are in the catalog", n, count)
			}
			return err
		})
		got.Value = float64(count) / time.Since(began).Seconds()
		if err != nil {
			return sample{}, err
		}
		_, err = all(func(b []byte, i int) []byte {
			return appendRequest(b, "PUT", fmt.Sprintf("/v1/agent/service/deregister/%s-%d", service, i), nil)
		})
		return got, err
	}
}

// ttl keeps 10,000 TTL checks passing.
func (s *suite) ttl(p *peer, round int) (sample, error) {
	const checks = 10_000
	if round == 0 {
		if _, err := drive(p, 64, 0, checks, over(p.http, func(b []byte, _, i int) []byte {
			return appendRequest(b, "PUT", "/v1/agent/check/register", fmt.Appendf(nil, `{"ID":"ttl-%d","Name":"ttl","TTL":"10m","Status":"passing"}`, i))
		})); err != nil {
			return sample{}, err
		}
	}
	return drive(p, 64, s.during, 0, over(p.http, func(b []byte, w, i int) []byte {
		return appendRequest(b, "PUT", fmt.Sprintf("/v1/agent/check/pass/ttl-%d", (w*(checks/64)+i)%checks), nil)
	}))
}

// sessions has each client create a session, and destroy it the next time.
func sessions(addr string, clients int) traffic {
	ids := make([]string, clients)
	return traffic{addr: addr, next: func(b []byte, number, _ int) []byte {
		if id := ids[number]; id != "" {
			return appendRequest(b, "PUT", "/v1/session/destroy/"+id, nil)
		}
		return appendRequest(b, "PUT", "/v1/session/create", []byte(`{"TTL":"10m"}`))
	}, seen: func(c *conn) error {
		if ids[c.number] != "" {
			ids[c.number] = ""
			return nil
		}
		var made struct{ ID string }
		err := json.Unmarshal(c.text, &made)
		ids[c.number] = made.ID
		return err
	}}
}

// snapshotStall takes a snapshot while others write, and tells their longest wait.
func (s *suite) snapshotStall(p *peer, _ int) (sample, error) {
	taken := make(chan error, 1)
	go func() {
		time.Sleep(s.during / 4)
		l, err := newLoop(p.http, false, 0, 1, 1)
		if err == nil {
			defer l.Close()
			err = l.clients[0].send(request("GET", "/v1/snapshot", nil))
		}
		if err == nil {
			err = l.answers(1, func(c *conn) (int, error) {
				if c.status != 200 {
					return 0, fmt.Errorf("snapshot: status %d", c.status)
				}
				return 0, nil
			})
		}
		taken <- err
	}()
	longest := make([]time.Duration, 16) // of each client
	t := over(p.http, putKey)
	t.seen = func(c *conn) error {
		longest[c.number] = max(longest[c.number], time.Since(c.sent))
		return nil
	}
	got, err := drive(p, len(longest), max(s.during, 4*time.Second), 0, t)
	got.Value = ms(slices.Max(longest))
	return got, errors.Join(err, <-taken)
}
