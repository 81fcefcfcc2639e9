package main

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	consul "github.com/hashicorp/consul/api"

	"github.com/rollcall/rollcall/internal/docker"
	"github.com/rollcall/rollcall/registrator/internal/mapping"
)

// parity is a container and what gliderlabs/registrator 7.4 makes of it, by its rules,
// run with -ip=127.0.0.1 on a host h. A service is
//
//	name id port [tags] check
//
// where {n} is the container's name, CID its short id, and {8080} the port that the engine
// published 8080/tcp on ({53u} for UDP). Tags are compared as sets: gliderlabs reverses their
// order. Where we mean to differ, ours says what we make of it, and why says why.
type parity struct {
	what string
	run  string // of docker run
	want []string
	ours []string
	why  string
}

const (
	p8080 = "-p 127.0.0.1::8080 "
	two   = p8080 + "-p 127.0.0.1::9090 "
)

// parities is the table. {8080} in a check is the same as in a port.
var parities = []parity{
	{"image's name", p8080, []string{"rc-reg-test h:{n}:8080 {8080} []"}, nil, ""},
	{"name by env", p8080 + "-e SERVICE_NAME=web", []string{"web h:{n}:8080 {8080} []"}, nil, ""},
	{"name by label", p8080 + "--label SERVICE_NAME=web", []string{"web h:{n}:8080 {8080} []"}, nil, ""},
	{"label beats env", p8080 + "-e SERVICE_NAME=env --label SERVICE_NAME=label", []string{"label h:{n}:8080 {8080} []"}, nil, ""},
	{"prefix in lower case", p8080 + "--label service_name=web", []string{"rc-reg-test h:{n}:8080 {8080} []"}, nil, ""},
	{"key in lower case", p8080 + "--label SERVICE_name=web", []string{"web h:{n}:8080 {8080} []"}, nil, ""},
	{"empty name", p8080 + "-e SERVICE_NAME=", []string{"rc-reg-test h:{n}:8080 {8080} []"}, nil, ""},
	{"two ports", two, []string{"rc-reg-test-8080 h:{n}:8080 {8080} []", "rc-reg-test-9090 h:{n}:9090 {9090} []"}, nil, ""},
	{"two ports, a name", two + "-e SERVICE_NAME=web", []string{"web-8080 h:{n}:8080 {8080} []", "web-9090 h:{n}:9090 {9090} []"}, nil, ""},
	{"two ports, one named", two + "-e SERVICE_8080_NAME=web", []string{"web h:{n}:8080 {8080} []", "rc-reg-test-9090 h:{n}:9090 {9090} []"}, nil, ""},
	{"two ports, both named", two + "-e SERVICE_8080_NAME=web -e SERVICE_9090_NAME=admin", []string{"web h:{n}:8080 {8080} []", "admin h:{n}:9090 {9090} []"}, nil, ""},
	{"port's name beats name", two + "-e SERVICE_NAME=all -e SERVICE_8080_NAME=web", []string{"web h:{n}:8080 {8080} []", "all-9090 h:{n}:9090 {9090} []"}, nil, ""},
	{"two ports, one ignored", two + "-e SERVICE_NAME=web -e SERVICE_9090_IGNORE=1", []string{"web-8080 h:{n}:8080 {8080} []"}, nil, ""},
	{"two ports, one not published", p8080 + "--expose 9090 -e SERVICE_NAME=web", []string{"web h:{n}:8080 {8080} []"}, nil, ""},
	{"name for a port that is not there", p8080 + "-e SERVICE_80_NAME=web", []string{"rc-reg-test h:{n}:8080 {8080} []"}, nil, ""},
	{"UDP", "-p 127.0.0.1::53/udp -e SERVICE_NAME=dns", []string{"dns h:{n}:53:udp {53u} [udp]"}, nil, ""},
	{"TCP and UDP", p8080 + "-p 127.0.0.1::8080/udp -e SERVICE_NAME=both", []string{"both-8080 h:{n}:8080 {8080} []", "both-8080 h:{n}:8080:udp {8080u} [udp]"}, nil, ""},
	{"UDP with tags", "-p 127.0.0.1::53/udp -e SERVICE_NAME=dns -e SERVICE_TAGS=a", []string{"dns h:{n}:53:udp {53u} [a,udp]"}, nil, ""},
	{"tags", p8080 + "-e SERVICE_TAGS=a,b,c", []string{"rc-reg-test h:{n}:8080 {8080} [c,b,a]"}, nil, ""},
	{"escaped comma", p8080 + `-e SERVICE_TAGS=a\,b,c`, []string{"rc-reg-test h:{n}:8080 {8080} [c,a\\,b]"}, nil, ""},
	{"empty tags", p8080 + "-e SERVICE_TAGS=,a,,b,", []string{"rc-reg-test h:{n}:8080 {8080} [b,a]"}, nil, ""},
	{"port's tags beat tags", two + "-e SERVICE_NAME=web -e SERVICE_TAGS=g -e SERVICE_8080_TAGS=p", []string{"web-8080 h:{n}:8080 {8080} [p]", "web-9090 h:{n}:9090 {9090} [g]"}, nil, ""},
	{"port's env beats label", p8080 + "-e SERVICE_8080_NAME=env --label SERVICE_NAME=label", []string{"env h:{n}:8080 {8080} []"}, nil, ""},
	{"id", p8080 + "-e SERVICE_ID=my-{n}", []string{"rc-reg-test my-{n} {8080} []"}, nil, ""},
	{"port's id", two + "-e SERVICE_NAME=web -e SERVICE_8080_ID=my-{n}", []string{"web-8080 my-{n} {8080} []", "web-9090 h:{n}:9090 {9090} []"}, nil, ""},
	{"one id on two ports", two + "-e SERVICE_NAME=web -e SERVICE_ID=my-{n}", []string{"? my-{n} ? []"},
		[]string{"web-8080 my-{n} {8080} []", "web-9090 h:{n}:9090 {9090} []"}, "there, the ports overwrite each other, and chance decides"},
	{"ignored", p8080 + "-e SERVICE_IGNORE=true", nil, nil, ""},
	{"port ignored", p8080 + "-e SERVICE_8080_IGNORE=yes", nil, nil, ""},
	{"ignored: false", p8080 + "-e SERVICE_IGNORE=false", nil, []string{"rc-reg-test h:{n}:8080 {8080} []"}, "false means false"},
	{"nothing published", "", nil, nil, ""},
	{"attribute", p8080 + "-e SERVICE_REGION=eu", []string{"rc-reg-test h:{n}:8080 {8080} [] region=eu"}, nil, ""},
	{"port's attribute", p8080 + "-e SERVICE_REGION=eu -e SERVICE_8080_REGION=us", []string{"rc-reg-test h:{n}:8080 {8080} [] region=us"}, nil, ""},
	{"HTTP check", p8080 + "-e SERVICE_CHECK_HTTP=/up", []string{"rc-reg-test h:{n}:8080 {8080} [] http http://127.0.0.1:{8080}/up every 10s"}, nil, ""},
	{"HTTP check with all", p8080 + "-e SERVICE_CHECK_HTTP=/up -e SERVICE_CHECK_HTTP_METHOD=HEAD -e SERVICE_CHECK_INTERVAL=5s -e SERVICE_CHECK_TIMEOUT=1s",
		[]string{"rc-reg-test h:{n}:8080 {8080} [] http http://127.0.0.1:{8080}/up every 5s method HEAD timeout 1s"}, nil, ""},
	{"HTTPS check", p8080 + "-e SERVICE_CHECK_HTTPS=/up -e SERVICE_CHECK_HTTPS_METHOD=PUT", []string{"rc-reg-test h:{n}:8080 {8080} [] http https://127.0.0.1:{8080}/up every 10s method PUT"}, nil, ""},
	{"TCP check", p8080 + "-e SERVICE_CHECK_TCP=true", []string{"rc-reg-test h:{n}:8080 {8080} [] tcp 127.0.0.1:{8080} every 10s"}, nil, ""},
	{"TCP check with all", p8080 + "-e SERVICE_CHECK_TCP=true -e SERVICE_CHECK_INITIAL_STATUS=passing -e SERVICE_CHECK_DEREGISTER_AFTER=10m -e SERVICE_CHECK_TIMEOUT=3s",
		[]string{"rc-reg-test h:{n}:8080 {8080} [] tcp 127.0.0.1:{8080} every 10s timeout 3s status passing deregister 10m"}, nil, ""},
	{"TCP check: false", p8080 + "-e SERVICE_CHECK_TCP=false", []string{"rc-reg-test h:{n}:8080 {8080} [] tcp 127.0.0.1:{8080} every 10s"},
		[]string{"rc-reg-test h:{n}:8080 {8080} []"}, "false means false"},
	{"TTL check", p8080 + "-e SERVICE_CHECK_TTL=30s", []string{"rc-reg-test h:{n}:8080 {8080} [] ttl 30s"}, nil, ""},
	{"script check", p8080 + `-e SERVICE_CHECK_SCRIPT=nc_-z_$SERVICE_IP_$SERVICE_PORT`, []string{`rc-reg-test h:{n}:8080 {8080} [] args "nc_-z_127.0.0.1_{8080}" every 10s`}, nil, ""},
	{"command check", p8080 + "-e SERVICE_CHECK_CMD=/check.sh", []string{`rc-reg-test h:{n}:8080 {8080} [] args "check-cmd" "CID" "8080" "/check.sh" every 10s`}, nil, ""},
	{"gRPC check", p8080 + "-e SERVICE_CHECK_GRPC=true -e SERVICE_CHECK_TIMEOUT=2s", []string{"rc-reg-test h:{n}:8080 {8080} [] grpc 127.0.0.1:{8080} every 10s timeout 2s"}, nil, ""},
	{"gRPC check over TLS", p8080 + "-e SERVICE_CHECK_GRPC=true -e SERVICE_CHECK_GRPC_USE_TLS=true -e SERVICE_CHECK_TLS_SKIP_VERIFY=true",
		[]string{"rc-reg-test h:{n}:8080 {8080} [] grpc 127.0.0.1:{8080} every 10s tls unverified"}, nil, ""},
	{"first kind of check wins", p8080 + "-e SERVICE_CHECK_TCP=true -e SERVICE_CHECK_HTTP=/up -e SERVICE_CHECK_TTL=1s", []string{"rc-reg-test h:{n}:8080 {8080} [] http http://127.0.0.1:{8080}/up every 10s"}, nil, ""},
	{"port's check", two + "-e SERVICE_NAME=web -e SERVICE_9090_CHECK_TCP=1", []string{"web-8080 h:{n}:8080 {8080} []", "web-9090 h:{n}:9090 {9090} [] tcp 127.0.0.1:{9090} every 10s"}, nil, ""},
	{"interval alone", p8080 + "-e SERVICE_CHECK_INTERVAL=5s", []string{"rc-reg-test h:{n}:8080 {8080} []"}, nil, ""},
	{"host's network", "--network host -e SERVICE_NAME=hosted", []string{"hosted h:{n}:8080 8080 []"}, nil, ""},
}

// Containers with all kinds of labels and port mappings, as gliderlabs does it but for
// the exceptions of the table. What the agents show is compared in the catalog; how checks
// are run, which no agent tells, on the mapping of the same inspected containers.
func TestCase20GliderlabsParity(t *testing.T) {
	t.Parallel()
	ss := someSites(t, false, []string{"-enable-script-checks"}, "-ip=127.0.0.1")
	e, err := docker.New(docker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	cfg := mapping.Config{Host: "h", Owner: "x", Prefix: "SERVICE_", Address: mapping.AddressPublished, IP: "127.0.0.1", Family: mapping.FamilyIPv4, Suffix: mapping.SuffixAuto}
	boxes := make([]*docker.Container, len(parities))
	slots, wg := make(chan struct{}, 4), sync.WaitGroup{}
	for i, p := range parities {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			own := name() // the second --name counts
			args := append(strings.Fields(strings.ReplaceAll(p.run, "{n}", own)), "--name", own)
			if strings.Contains(p.run, "--network host") {
				args = append(args, "--", "-listen=127.0.0.1:0")
			}
			id := begin(t, "plain", args...)
			c, err := e.Inspect(t.Context(), id)
			if err != nil {
				t.Errorf("%s: %v", p.what, err)
				return
			}
			boxes[i] = c
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	catalog := map[string]string{} // id to what stands in the catalog
	for i, p := range parities {
		c := boxes[i]
		want := p.want
		if p.why != "" {
			want = p.ours
		}
		var wants, got []string
		for _, w := range want {
			w = fill(w, c)
			wants = append(wants, w)
			catalog[strings.Fields(w)[1]] = w
		}
		for _, s := range mapping.Map(&cfg, c, nil).Services {
			got = append(got, line(s.Name, s.ID, s.Port, s.Tags, s.Meta, s.Checks))
		}
		slices.Sort(wants)
		slices.Sort(got)
		if !slices.Equal(wants, got) {
			t.Errorf("%s (%s):\n got %q\nwant %q", p.what, p.run, got, wants)
		}
	}
	ss.eventually(soon, "the catalog", func(s *site) error {
		all, err := s.all()
		if err != nil {
			return err
		}
		for id, want := range catalog {
			r := all[id]
			if r == nil {
				return fmt.Errorf("%s is missing", id)
			}
			if got := line(r.Service, r.ID, r.Port, r.Tags, r.Meta, nil); !strings.HasPrefix(want+" ", got+" ") || r.Address != "127.0.0.1" {
				return fmt.Errorf("%s at %s, want %s", got, r.Address, want)
			}
		}
		if len(all) != len(catalog) {
			return fmt.Errorf("%d services, want %d", len(all), len(catalog))
		}
		return nil
	})
	if n := len(parities); n < 40 {
		t.Errorf("%d containers", n)
	}
}

// fill puts a container's own facts into a line of the table, and its tags in order.
func fill(w string, c *docker.Container) string {
	w = strings.NewReplacer("{n}", c.Name, "CID", c.Short()).Replace(w)
	for p, list := range c.Published {
		suffix := map[string]string{"tcp": "}", "udp": "u}"}[p.Proto]
		w = strings.ReplaceAll(w, fmt.Sprintf("{%d%s", p.Number, suffix), fmt.Sprint(list[0].Port))
	}
	head, rest, _ := strings.Cut(w, "[")
	tags, tail, _ := strings.Cut(rest, "]")
	tags = strings.ReplaceAll(tags, `\,`, "\x00")
	list := strings.Split(tags, ",")
	slices.Sort(list)
	return head + "[" + strings.ReplaceAll(strings.Join(list, ","), "\x00", `\,`) + "]" + tail
}

// line words a service as the table does.
func line(name, id string, port int, tags []string, meta map[string]string, checks consul.AgentServiceChecks) string {
	var list []string
	for _, t := range tags {
		list = append(list, strings.ReplaceAll(t, ",", `\,`))
	}
	slices.Sort(list)
	out := fmt.Sprintf("%s %s %d [%s]", name, id, port, strings.Join(list, ","))
	if r := meta["region"]; r != "" {
		out += " region=" + r
	}
	for _, c := range checks {
		switch {
		case c.HTTP != "":
			out += " http " + c.HTTP
		case c.TCP != "":
			out += " tcp " + c.TCP
		case c.GRPC != "":
			out += " grpc " + c.GRPC
		case c.TTL != "":
			out += " ttl " + c.TTL
		case len(c.Args) > 0:
			out += " args"
			for _, a := range c.Args {
				out += fmt.Sprintf(" %q", a)
			}
		}
		out += words("every", c.Interval, "method", c.Method, "timeout", c.Timeout, "status", c.Status, "deregister", c.DeregisterCriticalServiceAfter)
		if c.GRPCUseTLS {
			out += " tls"
		}
		if c.TLSSkipVerify {
			out += " unverified"
		}
	}
	return out
}

// words joins those pairs that have a value.
func words(pairs ...string) string {
	out := ""
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			out += " " + pairs[i] + " " + pairs[i+1]
		}
	}
	return out
}
