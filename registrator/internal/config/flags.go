package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// group is a heading of the help and the flags under it.
type group struct {
	title string
	names []string
}

// flagSet is the standard one, with its flags in groups.
type flagSet struct {
	*flag.FlagSet
	groups []group
}

// list is a flag that may be given again.
type list []string

func (l *list) String() string     { return strings.Join(*l, ",") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

// conditions is a list whose variable holds one of them, blanks and all.
type conditions []string

func (c *conditions) String() string     { return strings.Join(*c, " ") }
func (c *conditions) Set(s string) error { *c = append(*c, s); return nil }

// flags defines every flag, once.
func (v *values) flags() *flagSet {
	fs := &flagSet{FlagSet: flag.NewFlagSet("registrator", flag.ContinueOnError)}
	fs.SetOutput(io.Discard)
	in := func(title string) { fs.groups = append(fs.groups, group{title: title}) }
	note := func(name string) {
		g := &fs.groups[len(fs.groups)-1]
		g.names = append(g.names, name)
	}
	str := func(p *string, name, def, usage string) { fs.StringVar(p, name, def, usage); note(name) }
	boolean := func(p *bool, name, usage string) { fs.BoolVar(p, name, false, usage); note(name) }
	dur := func(p *time.Duration, name, usage string) { fs.DurationVar(p, name, *p, usage); note(name) }
	m, r := &v.Mapping, &v.Reconcile

	in("Which containers, under which names")
	boolean(&m.Explicit, "explicit", "only containers that carry a SERVICE_NAME")
	fs.Var(&v.filters, "filter", "only containers that match: terms label:`k[=v]`, name:, image:, network:, project: or service:pattern, with ! && || and parentheses; may be repeated")
	note("filter")
	str(&m.Prefix, "label-prefix", m.Prefix, "what labels and environment variables for the registrator begin with")
	boolean(&m.EnvWins, "env-wins", "environment beats labels (gliderlabs: labels beat environment)")
	str(&m.Suffix, "name-suffix", m.Suffix, "append the port to names: auto (where a container has several ports), never, always")
	str(&v.tags, "tags", "", "tags for every service, comma-separated; may be a template over the inspected container")
	fs.Var(&v.meta, "meta", "metadata `key=value` for every service; may be repeated")
	note("meta")
	str(&v.Host, "host", "", "first part of service ids (default: the engine's host name)")
	str(&v.Owner, "owner", "", "mark of the entries that are ours (default: the engine's id)")

	in("Which address")
	str(&m.IP, "ip", "", "address of published ports: an address, a network interface, or a network of this host, or one IPv4 and one IPv6 of these (default: the agent's node)")
	boolean(&v.internal, "internal", "register the container's own address and port; the same as -address=container")
	str(&v.address, "address", "", "published (default), container, host, or auto (published where it is, else container)")
	str(&v.networks, "network", "", "networks for container addresses, in order of preference, comma-separated; * is allowed")
	str(&m.Family, "family", m.Family, "4, 6 or dual (both, as tagged addresses)")
	str(&m.UseIPFromLabel, "useIpFromLabel", "", "name of a label that holds the address")

	in("Health and draining")
	str(&v.health, "health", "docker", "docker: a HEALTHCHECK becomes a check in the catalog; off: it is not looked at")
	str(&m.HealthStarting, "health-starting", m.HealthStarting, "status of that check while the container starts: critical or warning")
	dur(&m.HealthTTL, "health-ttl", "it turns critical by itself when the registrator was not heard for so long")
	dur(&v.healthDeregister, "health-deregister-after", "the agent removes a service that was critical for so long; 0: never")
	str(&v.drain, "drain", "", "at the stop signal: deregister (default), maintenance or off")
	dur(&v.DrainMax, "drain-max", "a container that lives on for so long after its stop signal is in service again")
	str(&v.onExit, "on-exit", "", "what becomes of the entries of a container that ended, until it is removed: deregister (default), critical or keep")
	str(&v.deregister, "deregister", "always", "when a container ends: always, or on-success (-on-exit is for those that failed, and keep by default)")

	in("The engine and the catalog")
	str(&v.Docker, "docker", "", "unix:///path or tcp://host:port (default: DOCKER_HOST, else the first socket found)")
	dur(&v.DockerLost, "docker-lost-after", "entries turn critical when the engine is away for so long; 0: never")
	str(&v.resync, "resync", "30s", "look at everything again this often; only differences are written")
	str(&r.Adopt, "adopt", r.Adopt, "entries with the id of one of ours: true (those without owner are taken over), false, all")
	boolean(&r.Cleanup, "cleanup", "remove what gliderlabs/registrator left behind on this host")
	str(&r.OnShutdown, "on-shutdown", r.OnShutdown, "our entries when the registrator ends: keep, maintenance, deregister")
	str(&v.Lock, "lock", "", "`key` in the catalog's store: of the registrators that are given it, the one that holds it writes")
	fs.IntVar(&v.RetryAttempts, "retry-attempts", -1, "attempts to reach the catalog at the start, -1 for ever")
	note("retry-attempts")
	str(&v.retryInterval, "retry-interval", "2000", "between those; milliseconds without a unit")
	str(&v.ttl, "ttl", "", "accepted; without effect, as with gliderlabs and Consul")
	str(&v.ttlEvery, "ttl-refresh", "", "accepted; without effect")

	in("Running")
	boolean(&v.Announce, "announce", "show in the catalog, on the web page, how this registrator is (needs session:write and key:write on rollcall/agents/)")
	str(&v.Listen, "listen", v.Listen, "address of /containers /metrics /healthz /readyz and POST /drain; off: none")
	boolean(&v.DryRun, "dry-run", "print what would be written; exit 0 when nothing would, else 3")
	boolean(&v.JSON, "json", "with plan or -dry-run: as JSON")
	boolean(&v.Once, "once", "make the catalog right and exit")
	str(&v.logFormat, "log-format", "text", "text or json")
	str(&v.LogLevel, "log-level", v.LogLevel, "debug, info, warn or error")
	boolean(&v.Version, "version", "print the version and exit")
	return fs
}

// parse reads environment, then arguments: flags may stand before and after the others,
// which it gives back.
func parse(fs *flagSet, args, environ []string) (rest []string, err error) {
	env := map[string]string{}
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok {
			env[k] = v
		}
	}
	fs.VisitAll(func(f *flag.Flag) {
		key := EnvName(f.Name)
		v, ok := env[key]
		if !ok {
			return
		}
		if l, isList := f.Value.(*list); isList {
			*l = append(*l, splitWords(v)...)
		} else if e := fs.Set(f.Name, v); e != nil && err == nil {
			err = fmt.Errorf("%s=%q: %w", key, v, plain(e))
		}
	})
	for err == nil && len(args) > 0 {
		if err = fs.Parse(args); err != nil {
			break
		}
		if args = fs.Args(); len(args) > 0 {
			rest = append(rest, args[0])
			args = args[1:]
		}
	}
	if errors.Is(err, flag.ErrHelp) {
		return nil, err
	}
	if err != nil {
		return nil, explain(fs, err)
	}
	return rest, nil
}

// EnvName is the variable that sets a flag: REGISTRATOR_ and its name.
func EnvName(flag string) string {
	return "REGISTRATOR_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// splitWords cuts the value of a repeatable flag's variable at blanks.
func splitWords(v string) []string { return strings.Fields(v) }

// explain makes one line that helps of what the standard parser says.
func explain(fs *flagSet, err error) error {
	name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -")
	if !ok {
		return plain(err)
	}
	if near := nearest(fs, name); near != "" {
		return fmt.Errorf("there is no flag -%s; did you mean -%s? (registrator -h lists them)", name, near)
	}
	return fmt.Errorf("there is no flag -%s (registrator -h lists them)", name)
}

// plain takes what is of no use to people out of a parser's error.
func plain(err error) error {
	return errors.New(strings.ReplaceAll(strings.ReplaceAll(err.Error(), "parse error", "it cannot be read"), "\n", " "))
}

// nearest is the known flag that a wrong name most resembles, or nothing.
func nearest(fs *flagSet, name string) string {
	best, least := "", max(2, len(name)/3)+1
	fs.VisitAll(func(f *flag.Flag) {
		if d := distance(strings.ToLower(name), strings.ToLower(f.Name)); d < least {
			best, least = f.Name, d
		}
	})
	return best
}

// distance counts the letters to insert, remove or change between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}

// duration reads a Go duration, or a bare number of units as gliderlabs's flags have it.
func duration(text string, unit time.Duration) (time.Duration, error) {
	if n, err := strconv.Atoi(text); err == nil {
		return time.Duration(n) * unit, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		return 0, fmt.Errorf("%q is no duration such as 30s", text)
	}
	return d, nil
}

// Usage writes the help.
func Usage(w io.Writer) {
	fs := defaults().flags()
	fmt.Fprint(w, `Usage: registrator [flags] <catalog>
       registrator plan [-json] [flags] <catalog>
       registrator healthcheck [-listen=address]

Keeps a catalog of services equal to the containers that run on a Docker engine.

  registrator consul://127.0.0.1:8500
  registrator -internal -explicit -host=web1 consul://agent:8500

plan writes nothing: it says, container by container, what would be registered and why, and
exits with 0 where the catalog is right, else with 3. healthcheck asks a registrator that
runs whether it works, and exits with 0 if so. Faults exit with 1, a wrong command line with 2.

<catalog> is the agent on this host, ours or Consul's: consul://host:port, consuls:// or
consul-tls://host:port, consul-unix:///path. Parameters: ?token_file= ca= cert= key=
server_name= insecure=true. CONSUL_HTTP_ADDR, _TOKEN, _TOKEN_FILE, _SSL, … are read, too.

Flags may stand anywhere, with one dash or two. Each can be set by an environment variable:
-log-level is REGISTRATOR_LOG_LEVEL. What the flags say of containers, labels can change
for one of them: docs/labels.md.
`)
	for _, g := range fs.groups {
		fmt.Fprintf(w, "\n%s:\n", g.title)
		for _, n := range g.names {
			f := fs.Lookup(n)
			arg, usage := flag.UnquoteUsage(f)
			if arg != "" {
				arg = " " + arg
			}
			fmt.Fprintf(w, "  -%s%s\n      %s", n, arg, usage)
			if d := f.DefValue; d != "" && d != "false" && !strings.Contains(usage, "default") {
				fmt.Fprintf(w, " (default %s)", d)
			}
			fmt.Fprintln(w)
		}
	}
}
