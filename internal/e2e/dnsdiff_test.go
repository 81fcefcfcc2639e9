package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
)

// realConsul is the path of the real Consul 1.8.7.
func realConsul(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("../../deploy/lab/consul.sh").Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			out = exit.Stderr
		}
		t.Skipf("the real Consul cannot be had here (deploy/lab/consul.sh): %v\n%s", err, out)
	}
	return strings.TrimSpace(string(out))
}

// The same catalog in ours and in the real Consul, the same questions to both: the same
// answers, but for the differences that testdata/dns/reasons.txt explains.
func TestDNSLikeConsul(t *testing.T) {
	t.Parallel()
	theirs := realConsul(t)
	reasons := readReasons(t)
	files, err := filepath.Glob("testdata/dns/*.scenario")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	var asked, ran int
	t.Run("scenarios", func(t *testing.T) {
		for _, file := range files {
			s := readScenario(t, file)
			asked += len(s.asks)
			t.Run(strings.TrimSuffix(filepath.Base(file), ".scenario"), func(t *testing.T) {
				ran++
				s.run(t, theirs, reasons)
			})
		}
	})
	t.Logf("%d questions", asked)
	if asked < 150 {
		t.Errorf("%d questions, want 150 at least", asked)
	}
	for name, r := range reasons {
		if !r.cited && ran == len(files) && !t.Failed() {
			t.Errorf("reasons.txt: nothing differs for the reason %q any more", name)
		}
	}
}

// reason allows parts of an answer to differ.
type reason struct {
	parts []string
	cited bool
}

func readReasons(t *testing.T) map[string]*reason {
	b, err := os.ReadFile("testdata/dns/reasons.txt")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]*reason{}
	for line := range strings.Lines(string(b)) {
		name, rest, ok := strings.Cut(line, ":")
		parts, why, _ := strings.Cut(rest, " — ")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if !ok || strings.TrimSpace(why) == "" {
			t.Fatalf("reasons.txt: %q is not NAME: PARTS — WHY", line)
		}
		out[name] = &reason{parts: strings.Fields(parts)}
	}
	return out
}

// scenario is a catalog, a configuration, and questions.
type scenario struct {
	file   string
	config map[string]any
	ours   map[string]any // laid over config for ours
	sends  [][3]string    // method, path, body
	then   [][3]string    // the last of all
	asks   []question
	zones  map[string]string // for the recursor: "name TYPE" to a record
}

// question is one line "ask NAME TYPE …" for one type and transport.
type question struct {
	line   int
	name   string
	qtype  uint16
	net    string
	edns   int // -1 for none
	subnet string
	rd, do bool
	pick   bool // any records may be left out: compare their number
	reason string
}

func (q question) String() string {
	s := fmt.Sprintf("line %d: %s %s %s", q.line, q.name, dns.TypeToString[q.qtype], q.net)
	if q.edns >= 0 {
		s += fmt.Sprintf(" edns=%d", q.edns)
	}
	return s
}

// readScenario reads lines of words. In a line with "for=1..9", $ is each of the numbers.
func readScenario(t *testing.T, file string) *scenario {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &scenario{file: file, config: map[string]any{}, ours: map[string]any{}, zones: map[string]string{}}
	n := 0
	for line := range strings.Lines(string(b)) {
		n++
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(words[0], "#") {
			continue
		}
		from, to := 0, 0
		if i := slices.IndexFunc(words, func(w string) bool { return strings.HasPrefix(w, "for=") }); i > 0 {
			if _, err := fmt.Sscanf(words[i], "for=%d..%d", &from, &to); err != nil {
				t.Fatalf("%s:%d: %v", file, n, err)
			}
			line = strings.Join(slices.Delete(words, i, i+1), " ")
		}
		for i := from; i <= to; i++ {
			if err := s.line(n, strings.Fields(strings.ReplaceAll(line, "$", strconv.Itoa(i)))); err != nil {
				t.Fatalf("%s:%d: %v", file, n, err)
			}
		}
	}
	return s
}

func (s *scenario) line(n int, words []string) error {
	rest := strings.Join(words[1:], " ")
	opts := map[string]string{}
	for _, w := range words[1:] {
		if k, v, ok := strings.Cut(w, "="); ok {
			opts[k] = v
		}
	}
	switch words[0] {
	case "config":
		return json.Unmarshal([]byte(rest), &s.config)
	case "ours":
		return json.Unmarshal([]byte(rest), &s.ours)
	case "then": // then METHOD PATH JSON
		s.then = append(s.then, [3]string{words[1], words[2], strings.Join(words[3:], " ")})
	case "query": // query JSON
		s.sends = append(s.sends, [3]string{"POST", "/v1/query", rest})
	case "zone": // zone www.example. A 300 IN A 10.9.9.9
		s.zones[words[1]+" "+words[2]] += words[1] + " " + strings.Join(words[3:], " ") + "\n"
	case "node": // node NAME ADDRESS [key=value …]
		s.register(map[string]any{"Node": words[1], "Address": words[2], "NodeMeta": opts})
	case "check": // check NODE ID STATUS [service=ID]
		s.register(map[string]any{"Node": words[1], "SkipNodeUpdate": true, "Check": map[string]any{
			"CheckID": words[2], "Name": words[2], "Status": words[3], "ServiceID": opts["service"]}})
	case "service": // service NODE NAME [id= addr= port= tags=a,b weights=5/2 check=STATUS]
		port, _ := strconv.Atoi(opts["port"])
		service := map[string]any{"Service": words[2], "ID": words[2] + opts["id"], "Address": opts["addr"], "Port": port}
		if opts["tags"] != "" {
			service["Tags"] = strings.Split(opts["tags"], ",")
		}
		var passing, warning int
		if fmt.Sscanf(opts["weights"], "%d/%d", &passing, &warning); passing > 0 {
			service["Weights"] = map[string]int{"Passing": passing, "Warning": warning}
		}
		r := map[string]any{"Node": words[1], "SkipNodeUpdate": true, "Service": service}
		if opts["check"] != "" {
			id := words[2] + opts["id"]
			r["Check"] = map[string]any{"CheckID": "c-" + id, "Name": "c", "Status": opts["check"], "ServiceID": id}
		}
		s.register(r)
	case "ask":
		return s.ask(n, words, opts)
	default:
		return fmt.Errorf("unknown word %q", words[0])
	}
	return nil
}

func (s *scenario) register(body map[string]any) {
	b, _ := json.Marshal(body)
	s.sends = append(s.sends, [3]string{"PUT", "/v1/catalog/register", string(b)})
}

// ask: NAME TYPE[,TYPE…] [udp] [tcp] [edns=N] [subnet=CIDR] [nord] [do] [pick] [~REASON].
func (s *scenario) ask(n int, words []string, opts map[string]string) error {
	q := question{line: n, name: dns.Fqdn(words[1]), edns: -1, rd: true, subnet: opts["subnet"]}
	var nets []string
	for _, w := range words[3:] {
		switch {
		case w == "udp" || w == "tcp":
			nets = append(nets, w)
		case w == "nord":
			q.rd = false
		case w == "do":
			q.do = true
		case w == "pick":
			q.pick = true
		case strings.HasPrefix(w, "~"):
			q.reason = w[1:]
		case strings.HasPrefix(w, "edns="):
			q.edns, _ = strconv.Atoi(w[5:])
		case !strings.HasPrefix(w, "subnet="):
			return fmt.Errorf("unknown word %q", w)
		}
	}
	if nets == nil {
		nets = []string{"udp"}
	}
	for _, t := range strings.Split(words[2], ",") {
		for _, q.net = range nets {
			var ok bool
			if q.qtype, ok = dns.StringToType[t]; !ok {
				return fmt.Errorf("unknown type %q", t)
			}
			s.asks = append(s.asks, q)
		}
	}
	return nil
}

// run asks both and compares.
func (s *scenario) run(t *testing.T, theirs string, reasons map[string]*reason) {
	if len(s.zones) > 0 {
		s.config["recursors"] = []string{s.recursor(t)}
	}
	s.config["performance"] = map[string]int{"raft_multiplier": 1}
	dir := t.TempDir()
	args := func(configs ...map[string]any) []string {
		args := []string{"-server", "-bootstrap-expect=1"}
		for i, c := range configs {
			b, _ := json.Marshal(c)
			file := fmt.Sprintf("%s/%d-%d.json", dir, len(configs), i)
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, "-config-file="+file)
		}
		return args
	}
	pair := []*agent{startAgent(t, "probe", options{}, args(s.config, s.ours)...), startAgent(t, "probe", options{bin: theirs}, args(s.config)...)}
	ofServer := slices.ContainsFunc(s.asks, func(q question) bool { return strings.HasPrefix(q.name, "probe.") })
	for _, a := range pair {
		a.awaitLeader()
		for _, p := range s.sends {
			if err := a.send(p[0], p[1], p[2]); err != nil {
				t.Fatalf("%s: %v", a.process.name, err)
			}
		}
		if ofServer {
			s.awaitMeta(t, a)
		}
		for _, p := range s.then {
			if err := a.send(p[0], p[1], p[2]); err != nil {
				t.Fatalf("%s: %v", a.process.name, err)
			}
		}
	}
	for _, q := range s.asks {
		ours, err := q.to(pair[0].dns)
		if err != nil {
			t.Errorf("%s: ours: %v", q, err)
			continue
		}
		real, err := q.to(pair[1].dns)
		if err != nil {
			t.Errorf("%s: Consul: %v", q, err)
			continue
		}
		if got := q.parts(ours)["size"]; got != "fits=true" {
			t.Errorf("%s: our answer is longer than the client takes", q)
		}
		if q.pick {
			q.known(t, pair[0].dns, ours)
		}
		s.judge(t, q, q.parts(ours), q.parts(real), reasons)
	}
}

// awaitMeta waits until an agent has told its own meta.
func (s *scenario) awaitMeta(t *testing.T, a *agent) {
	t.Helper()
	eventually(t, soon, "the server and its meta are in the catalog of "+a.process.name, func() error {
		// Consul takes its time to tell its own meta, unless it has something else to tell
		if err := a.put("/v1/agent/service/register", fmt.Sprintf(`{"Name": "local", "Port": %d}`, 1+time.Now().UnixNano()%60000)); err != nil {
			return err
		}
		var nodes []consul.Node
		if err := a.json("/v1/catalog/nodes?node-meta=consul-network-segment:", &nodes); err != nil {
			return err
		}
		if len(nodes) != 1 {
			return fmt.Errorf("nodes %v", nodes)
		}
		return nil
	})
}

// judge compares two answers part by part.
func (s *scenario) judge(t *testing.T, q question, ours, real map[string]string, reasons map[string]*reason) {
	var differ []string
	for _, part := range slices.Sorted(maps.Keys(ours)) {
		if ours[part] != real[part] {
			differ = append(differ, part)
		}
	}
	r := reasons[q.reason]
	switch {
	case q.reason != "" && r == nil:
		t.Errorf("%s: reason %q stands nowhere in reasons.txt", q, q.reason)
	case r != nil && len(differ) == 0:
		t.Errorf("%s: differs no more; strike ~%s", q, q.reason)
	case r != nil && !slices.ContainsFunc(differ, func(p string) bool { return !slices.Contains(r.parts, p) }):
		r.cited = true
	case len(differ) > 0:
		for _, p := range differ {
			t.Errorf("%s: %s\n ours   %s\n Consul %s", q, p, ours[p], real[p])
		}
	}
}

// to asks a server.
func (q question) to(addr string) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(q.name, q.qtype)
	m.RecursionDesired = q.rd
	if q.edns >= 0 {
		m.SetEdns0(uint16(q.edns), q.do)
		if q.subnet != "" {
			ip, ipnet, err := net.ParseCIDR(q.subnet)
			if err != nil {
				return nil, err
			}
			bits, _ := ipnet.Mask.Size()
			e := &dns.EDNS0_SUBNET{Code: dns.EDNS0SUBNET, Family: 1, SourceNetmask: uint8(bits), Address: ip}
			if ip.To4() == nil {
				e.Family = 2
			}
			m.IsEdns0().Option = append(m.IsEdns0().Option, e)
		}
	}
	c, err := dns.DialTimeout(q.net, addr, 5*time.Second)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	c.UDPSize = dns.MaxMsgSize - 1 // whatever comes: its size is compared, too
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if err := c.WriteMsg(m); err != nil {
		return nil, err
	}
	return c.ReadMsg()
}

// takes is how many bytes the question's sender takes.
func (q question) takes() int {
	if q.net == "tcp" {
		return dns.MaxMsgSize - 1
	}
	return max(q.edns, dns.MinMsgSize)
}

// known holds a pick of records against all that there are, which SRV over TCP gives.
func (q question) known(t *testing.T, addr string, m *dns.Msg) {
	all := q
	all.qtype, all.net, all.edns = dns.TypeSRV, "tcp", -1
	whole, err := all.to(addr)
	if err != nil {
		t.Errorf("%s: %v", all, err)
		return
	}
	data := func(rr dns.RR) string { return strings.TrimPrefix(rr.String(), rr.Header().String()) }
	set := map[string]bool{}
	for _, rr := range append(whole.Answer, whole.Extra...) {
		set[data(rr)] = true
	}
	for _, rr := range m.Answer {
		if !set[data(rr)] {
			t.Errorf("%s: %s is none of the service's", q, rr)
		}
		delete(set, data(rr)) // nor may it come twice
	}
}

// parts is an answer in the parts that are compared.
func (q question) parts(m *dns.Msg) map[string]string {
	m.Compress = true // for its Len
	opt := "none"
	var extra []dns.RR
	for _, rr := range m.Extra {
		o, ok := rr.(*dns.OPT)
		if !ok {
			extra = append(extra, rr)
			continue
		}
		opt = fmt.Sprint(o.UDPSize(), o.Do(), o.Option)
	}
	out := map[string]string{
		"size":  fmt.Sprintf("fits=%t", m.Len() <= q.takes()),
		"rcode": dns.RcodeToString[m.Rcode], "question": fmt.Sprint(m.Question), "opt": opt,
		"flags":  fmt.Sprintf("aa=%t tc=%t ra=%t rd=%t", m.Authoritative, m.Truncated, m.RecursionAvailable, m.RecursionDesired),
		"answer": strings.Join(sortedRecords(m.Answer), "; "), "authority": strings.Join(sortedRecords(m.Ns), "; "),
		"additional": strings.Join(sortedRecords(extra), "; "),
	}
	if q.pick {
		out["answer"], out["additional"] = fmt.Sprint(len(m.Answer), " records"), fmt.Sprint(len(extra), " records")
	}
	return out
}

func sortedRecords(rrs []dns.RR) []string {
	var out []string
	for _, rr := range rrs {
		if soa, ok := rr.(*dns.SOA); ok {
			soa.Serial = 0 // the time
		}
		out = append(out, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	slices.Sort(out)
	return out
}

// recursor serves the scenario's zones on loopback.
func (s *scenario) recursor(t *testing.T) string {
	addr := fmt.Sprintf("127.0.0.1:%d", freePorts(t, 1)[0])
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		m := new(dns.Msg).SetReply(r)
		q := r.Question[0]
		for key := range s.zones {
			if name, _, _ := strings.Cut(key, " "); strings.EqualFold(name, q.Name) {
				m.Authoritative = true // it exists
			}
		}
		if !m.Authoritative {
			m.Rcode = dns.RcodeNameError
		}
		m.Authoritative, m.RecursionAvailable = false, true
		for line := range strings.Lines(s.zones[strings.ToLower(q.Name)+" "+dns.TypeToString[q.Qtype]]) {
			rr, err := dns.NewRR(line)
			if err != nil {
				t.Errorf("zone: %v", err)
				continue
			}
			m.Answer = append(m.Answer, rr)
		}
		w.WriteMsg(m)
	})
	for _, srv := range []*dns.Server{{PacketConn: pc, Handler: handler}, {Listener: l, Handler: handler}} {
		go srv.ActivateAndServe()
		t.Cleanup(func() { srv.Shutdown() })
	}
	return addr
}
