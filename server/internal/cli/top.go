package cli

import (
	"context"
	"fmt"
	"strconv"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"
)

func (a *app) top() *cli.Command {
	return asking("top", "watch how busy the cluster is", "", "rollcall top -n=3 -interval=1s", catalogFlags(format(),
		&cli.DurationFlag{Name: "interval", Usage: "between two looks", Value: 2 * time.Second},
		&cli.IntFlag{Name: "n", Usage: "end after so many looks; 0 goes on until interrupted"},
	), func(ctx context.Context, c *cli.Command, cl *consul.Client) error {
		if c.Duration("interval") < 100*time.Millisecond {
			return misused(c, "-interval is 100ms or more")
		}
		ctx, stop := interruptible(ctx)
		defer stop()
		live := terminal(a.Stdout)
		tick := time.NewTicker(c.Duration("interval"))
		defer tick.Stop()
		var last *load
		for n := 1; ; n++ {
			now, err := measure(ctx, c, cl)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			if last != nil && now.at.After(last.at) {
				now.Rate = (now.Index - last.Index) / now.at.Sub(last.at).Seconds()
			}
			if c.String("format") == "json" {
				err = a.json(now)
			} else {
				a.show(now, live, n == 1)
			}
			if err != nil {
				return err
			}
			last = now
			if n == c.Int("n") {
				return nil
			}
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	})
}

// load is how busy things are at a moment.
type load struct {
	at                         time.Time
	Node, Leader, State        string
	Nodes, Services, Instances int
	Passing, Warning, Critical int
	Watchers, Goroutines       float64
	Memory                     float64 // bytes
	Index                      float64 // of the log
	Rate                       float64 // log entries a second since the look before
}

func measure(ctx context.Context, c *cli.Command, cl *consul.Client) (*load, error) {
	l := &load{at: time.Now()}
	q := options(c).WithContext(ctx)
	self, err := cl.Agent().Self()
	if err != nil {
		return nil, explain("querying agent", err)
	}
	l.Node = fmt.Sprint(self["Config"]["NodeName"])
	if raft, ok := self["Stats"]["raft"].(map[string]any); ok {
		l.Index, _ = strconv.ParseFloat(fmt.Sprint(raft["applied_index"]), 64)
		l.State = fmt.Sprint(raft["state"])
	}
	if l.Leader, err = cl.Status().LeaderWithQueryOptions(q); err != nil {
		return nil, explain("querying leader", err)
	}
	var overview struct {
		Nodes, Services, Checks []struct{ Total, Passing, Warning, Critical int }
	}
	if _, err := cl.Raw().Query("/v1/internal/ui/catalog-overview", &overview, q); err != nil {
		return nil, explain("querying catalog", err)
	}
	for _, n := range overview.Nodes {
		l.Nodes += n.Total
	}
	for _, s := range overview.Services {
		l.Services++
		l.Instances += s.Total
	}
	for _, k := range overview.Checks {
		l.Passing, l.Warning, l.Critical = l.Passing+k.Passing, l.Warning+k.Warning, l.Critical+k.Critical
	}
	m, err := cl.Agent().Metrics()
	if err != nil {
		return nil, explain("querying metrics", err)
	}
	for _, g := range m.Gauges {
		switch g.Name {
		case "consul.rpc.queries_blocking", "consul_rpc_queries_blocking":
			l.Watchers = float64(g.Value)
		case "consul.runtime.num_goroutines":
			l.Goroutines = float64(g.Value)
		case "consul.runtime.alloc_bytes":
			l.Memory = float64(g.Value)
		}
	}
	return l, nil
}

func (a *app) show(now *load, live, first bool) {
	if !live {
		if first {
			a.printf("Time      Nodes  Services  Instances  Passing  Warning  Critical  Watchers  Entries/s\n")
		}
		a.printf("%s  %-5d  %-8d  %-9d  %-7d  %-7d  %-8d  %-8.0f  %.1f\n", now.at.Format(time.TimeOnly), now.Nodes, now.Services, now.Instances,
			now.Passing, now.Warning, now.Critical, now.Watchers, now.Rate)
		return
	}
	a.printf("\x1b[H\x1b[2J")
	critical := fmt.Sprint(now.Critical)
	if now.Critical > 0 {
		critical = "\x1b[31m" + critical + "\x1b[0m"
	}
	a.printf("%s  %s (%s)\n", now.at.Format(time.TimeOnly), now.Node, now.State)
	for _, line := range [][2]string{ // narrow, for small terminals
		{"leader", now.Leader}, {"nodes", fmt.Sprint(now.Nodes)}, {"services", fmt.Sprint(now.Services)}, {"instances", fmt.Sprint(now.Instances)},
		{"passing", fmt.Sprint(now.Passing)}, {"warning", fmt.Sprint(now.Warning)}, {"critical", critical},
		{"writes/s", fmt.Sprintf("%.1f", now.Rate)}, {"index", fmt.Sprintf("%.0f", now.Index)}, {"watchers", fmt.Sprintf("%.0f", now.Watchers)},
		{"goroutines", fmt.Sprintf("%.0f", now.Goroutines)}, {"memory", bytesOf(int64(now.Memory))},
	} {
		a.printf("%-10s  %s\n", line[0], line[1])
	}
}
