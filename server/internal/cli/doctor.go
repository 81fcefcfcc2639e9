package cli

import (
	"context"

	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
	"github.com/urfave/cli/v3"

	"github.com/rollcall/rollcall/internal/api"
)

// finding is what the doctor says about one thing.
type finding struct {
	What   string
	Status string // ok, warning, wrong
	Found  string
	Do     string `json:",omitempty"` // what to do about it
}

const (
	fine    = "ok"
	warning = "warning"
	wrong   = "wrong"
)

func (a *app) doctor() *cli.Command {
	return described("Exit code 1: something is wrong.", asking("doctor", "look for what is wrong with the agent and its cluster, and say what to do", "", "rollcall doctor -data-dir=/tmp", clientFlags(format(),
		&cli.StringFlag{Name: "data-dir", Usage: "also time how long the disk under this directory takes to keep a write"},
	), func(ctx context.Context, c *cli.Command, cl *consul.Client) error {
		d := &doctor{cl: cl}
		d.agent(ctx, configured(c))
		if d.self != nil {
			d.quorum()
			d.members()
			d.token()
			d.dns(ctx)
			d.gossip()
			d.services()
		}
		if dir := c.String("data-dir"); dir != "" {
			d.disk(dir)
		}
		if c.String("format") == "json" {
			if err := a.json(d.findings); err != nil {
				return err
			}
		} else {
			a.findings(d.findings)
		}
		if slices.ContainsFunc(d.findings, func(f finding) bool { return f.Status == wrong }) {
			return &exit{code: 1}
		}
		return nil
	}))
}

func (a *app) findings(list []finding) {
	colour := map[string]string{fine: "32", warning: "33", wrong: "31"}
	paint := terminal(a.Stdout)
	for _, f := range list {
		status := fmt.Sprintf("%-7s", f.Status)
		if paint {
			status = "\x1b[" + colour[f.Status] + "m" + status + "\x1b[0m"
		}
		a.printf("%s  %s: %s\n", status, f.What, f.Found)
		if f.Do != "" {
			a.printf("         → %s\n", f.Do)
		}
	}
}

type doctor struct {
	cl       *consul.Client
	self     map[string]map[string]any
	findings []finding
}

func (d *doctor) say(what, status, found, do string) {
	d.findings = append(d.findings, finding{what, status, found, do})
}

// agent asks whether the agent answers, how fast, and what its clock says.
func (d *doctor) agent(ctx context.Context, cfg *consul.Config) {
	began := time.Now()
	self, err := d.cl.Agent().Self()
	took := time.Since(began)
	if err != nil {
		d.say("agent", wrong, explain("querying agent", err).Error(), "start an agent, or name another with -http-addr")
		return
	}
	d.self = self
	d.say("agent", fine, fmt.Sprintf("%v, version %v, answers in %s", self["Config"]["NodeName"], self["Config"]["Version"], took.Round(time.Microsecond)), "")
	d.clock(ctx, cfg)
}

// skewed is how far clocks may be apart.
const skewed = time.Second

func (d *doctor) clock(ctx context.Context, cfg *consul.Config) {
	do, err := newDoer(cfg)
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://agent/v1/status/leader", nil)
	if err != nil {
		return
	}
	resp, err := do.Do(req)
	if err != nil {
		return
	}
	resp.Body.Close()
	theirs, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	if off := time.Since(theirs) - time.Second/2; off.Abs() > skewed+time.Second { // the header has whole seconds
		d.say("clock", warning, fmt.Sprintf("the agent's differs from this machine's by about %s", off.Round(time.Second)), "let both keep time by NTP: TTLs and certificates depend on it")
		return
	}
	d.say("clock", fine, "the agent's agrees with this machine's", "")
}

func (d *doctor) quorum() {
	leader, err := d.cl.Status().Leader()
	if err != nil || leader == "" {
		d.say("leader", wrong, "there is none", "look at `rollcall members`: more than half of the servers must be alive; if they are lost for good, docs/operations.md says how to recover")
		return
	}
	d.say("leader", fine, leader, "")
	conf, err := d.cl.Operator().RaftGetConfiguration(&consul.QueryOptions{AllowStale: true})
	if err != nil {
		d.say("quorum", warning, explain("getting peers", err).Error(), "")
		return
	}
	voters := 0
	for _, s := range conf.Servers {
		if s.Voter {
			voters++
		}
	}
	switch {
	case voters == 1:
		d.say("quorum", warning, "one server: with it goes everything", "run three or five servers where it matters")
	case voters%2 == 0:
		d.say("quorum", warning, fmt.Sprintf("%d voters stand no more losses than %d would", voters, voters-1), "run an odd number of servers")
	default:
		d.say("quorum", fine, fmt.Sprintf("%d voters: %d may fail", voters, (voters-1)/2), "")
	}
	health, err := d.cl.Operator().AutopilotServerHealth(nil)
	if health == nil {
		if err != nil && !strings.Contains(err.Error(), "429") {
			d.say("servers", warning, explain("querying their health", err).Error(), "")
		}
		return
	}
	var ill []string
	for _, s := range health.Servers {
		if !s.Healthy {
			ill = append(ill, s.Name)
		}
	}
	if len(ill) > 0 {
		d.say("servers", wrong, "not healthy: "+strings.Join(ill, ", "), "`rollcall operator autopilot state` shows why")
		return
	}
	d.say("servers", fine, fmt.Sprintf("all %d healthy", len(health.Servers)), "")
}

func (d *doctor) members() {
	list, err := d.cl.Agent().Members(false)
	if err != nil {
		d.say("members", warning, explain("retrieving members", err).Error(), "")
		return
	}
	var failed []string
	builds := map[string]int{}
	for _, m := range list {
		if api.MemberStatus(m.Status) == api.StatusFailed {
			failed = append(failed, m.Name)
		}
		if api.MemberStatus(m.Status) == api.StatusAlive {
			builds[m.Tags["build"]]++
		}
	}
	if len(failed) > 0 {
		d.say("members", warning, "failed: "+strings.Join(failed, ", "), "bring them back, or `rollcall force-leave NODE` if they will not come")
	} else {
		d.say("members", fine, fmt.Sprintf("all %d alive or gone on purpose", len(list)), "")
	}
	if len(builds) > 1 {
		d.say("versions", warning, fmt.Sprintf("%d different ones: %v", len(builds), builds), "finish the upgrade, servers first")
	} else {
		d.say("versions", fine, "the same everywhere", "")
	}
}

func (d *doctor) token() {
	_, _, err := d.cl.ACL().TokenReadSelf(nil)
	switch {
	case err == nil:
		d.say("token", fine, "it is known", "")
	case strings.Contains(err.Error(), "ACL support disabled"):
		d.say("token", fine, "ACLs are off: none is needed", "")
	default:
		d.say("token", wrong, explain("reading it", err).Error(), "give a token with -token or CONSUL_HTTP_TOKEN; `rollcall acl bootstrap` makes the first")
	}
}

// dns asks the agent's DNS port for the agent's own node.
func (d *doctor) dns(ctx context.Context) {
	port, addr := 0, "127.0.0.1"
	if p, ok := d.self["DebugConfig"]["DNSPort"].(float64); ok {
		port = int(p)
	}
	if port <= 0 {
		d.say("dns", warning, "the agent does not serve it", "set ports.dns, unless nobody asks by DNS")
		return
	}
	if list, ok := d.self["DebugConfig"]["DNSAddrs"].([]any); ok && len(list) > 0 {
		if text, ok := list[0].(string); ok {
			if host, _, err := net.SplitHostPort(text[strings.LastIndex(text, "/")+1:]); err == nil {
				addr = host
			}
		}
	}
	name := fmt.Sprintf("%v.node.consul.", d.self["Config"]["NodeName"])
	if domain, ok := d.self["DebugConfig"]["DNSDomain"].(string); ok && domain != "" {
		name = fmt.Sprintf("%v.node.%s", d.self["Config"]["NodeName"], dns.Fqdn(domain))
	}
	q := new(dns.Msg)
	q.SetQuestion(name, dns.TypeANY)
	client := &dns.Client{Timeout: 3 * time.Second}
	at := net.JoinHostPort(addr, strconv.Itoa(port))
	reply, took, err := client.ExchangeContext(ctx, q, at)
	switch {
	case err != nil:
		d.say("dns", wrong, fmt.Sprintf("%s at %s: %v", name, at, err), "is the port open for UDP, and this machine allowed to ask?")
	case reply.Rcode == dns.RcodeRefused:
		d.say("dns", wrong, name+" is refused", "the token of DNS (acl.tokens.dns, else acl.tokens.default) may not read the node")
	case len(reply.Answer) == 0:
		d.say("dns", wrong, fmt.Sprintf("%s has no address (%s)", name, dns.RcodeToString[reply.Rcode]), "the node may not be in the catalog yet: is there a leader?")
	default:
		d.say("dns", fine, fmt.Sprintf("%s is answered in %s", name, took.Round(time.Microsecond)), "")
	}
}

func (d *doctor) gossip() {
	lan, _ := d.self["Stats"]["serf_lan"].(map[string]any)
	if lan["encrypted"] == "false" {
		d.say("gossip", warning, "it is not encrypted", "`rollcall keygen` makes a key for `encrypt`, the same on all agents")
	} else {
		d.say("gossip", fine, "it is encrypted", "")
	}
	if score, err := strconv.Atoi(fmt.Sprint(lan["health_score"])); err == nil && score > 0 {
		d.say("gossip health", warning, fmt.Sprintf("score %d: this agent is late with its messages", score), "look for a starved CPU, or UDP packets that are lost on the way")
	}
}

func (d *doctor) services() {
	checks, _, err := d.cl.Health().State(api.Critical, nil)
	switch {
	case err != nil:
		d.say("checks", warning, explain("querying checks", err).Error(), "")
	case len(checks) > 0:
		d.say("checks", warning, fmt.Sprintf("%d are critical", len(checks)), "`rollcall purge -dry-run` shows which of them are left behind")
	default:
		d.say("checks", fine, "none is critical", "")
	}
}

// Times that a disk may take to keep a write: above slowDisk writes are felt, above
// deadDisk leaders lose elections.
const (
	fsyncs   = 20
	slowDisk = 20 * time.Millisecond
	deadDisk = 500 * time.Millisecond
)

func (d *doctor) disk(dir string) {
	worst, middle, err := fsyncTime(dir)
	if err != nil {
		d.say("disk", wrong, err.Error(), "the agent needs a directory it can write to")
		return
	}
	found := fmt.Sprintf("keeps a write in %s, at worst %s", middle.Round(10*time.Microsecond), worst.Round(10*time.Microsecond))
	switch {
	case worst > deadDisk:
		d.say("disk", wrong, found, "move data_dir to a faster disk: servers that wait for theirs lose elections")
	case middle > slowDisk:
		d.say("disk", warning, found, "every write of the cluster waits for this: prefer an SSD of its own")
	default:
		d.say("disk", fine, found, "")
	}
}

func fsyncTime(dir string) (worst, middle time.Duration, err error) {
	f, err := os.CreateTemp(dir, ".doctor-")
	if err != nil {
		return 0, 0, fmt.Errorf("write to %s: %w", filepath.Clean(dir), err)
	}
	defer os.Remove(f.Name())
	defer f.Close()
	block := make([]byte, 4096)
	var took []time.Duration
	for range fsyncs {
		began := time.Now()
		if _, err := f.Write(block); err != nil {
			return 0, 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, 0, err
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return took[len(took)-1], took[len(took)/2], nil
}
