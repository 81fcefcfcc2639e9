package cli

import (
	"context"
	"fmt"
	"slices"
	"time"

	consul "github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v3"

	"github.com/rollcall/rollcall/internal/api"
)

func (a *app) purge() *cli.Command {
	return described("What its living agent would bring back is named, not touched.", asking("purge", "deregister what has been critical for long", "", "rollcall purge -for=2m -dry-run", catalogFlags(format(),
		&cli.DurationFlag{Name: "for", Usage: "only instances that stay critical, unchanged, for so long while this looks on", Value: time.Minute},
		&cli.StringFlag{Name: "service", Usage: "only of this service"},
		&cli.BoolFlag{Name: "dry-run", Usage: "say what would be done, and do nothing"},
	), func(ctx context.Context, c *cli.Command, cl *consul.Client) error {
		ctx, stop := interruptible(ctx)
		defer stop()
		self, err := cl.Agent().NodeName()
		if err != nil {
			return explain("querying agent", err)
		}
		first, err := a.critical(ctx, c, cl)
		if err != nil {
			return err
		}
		last := first
		if wait := c.Duration("for"); wait > 0 && len(first) > 0 {
			show := a.progress("looking on", int64(wait), func(n int64) string { return time.Duration(n).Round(time.Second).String() })
			began, tick := time.Now(), time.NewTicker(progressEvery)
			defer tick.Stop()
			for time.Since(began) < wait {
				select {
				case <-ctx.Done():
					show.end()
					return &exit{1, "interrupted: nothing was done"}
				case <-tick.C:
					show.add(int64(time.Since(began)) - show.done)
				}
			}
			show.end()
			if last, err = a.critical(ctx, c, cl); err != nil {
				return err
			}
		}
		var rows []verdict
		failed := 0
		for key, was := range first {
			is, still := last[key]
			if !still || is.index != was.index {
				continue
			}
			v := is.judge(self)
			if !c.Bool("dry-run") && v.Done {
				if err := v.do(cl, self, writeOptionsIn(c)); err != nil {
					v.Done, v.Why = false, explain("deregistering", err).Error()
					failed++
				}
			}
			rows = append(rows, v)
		}
		slices.SortFunc(rows, func(x, y verdict) int {
			return compareAll(x.Service, y.Service, x.Node, y.Node, x.ID, y.ID)
		})
		if c.String("format") == "json" {
			if err := a.json(rows); err != nil {
				return err
			}
		} else {
			a.verdicts(rows, c.Bool("dry-run"))
		}
		if failed > 0 {
			return &exit{1, fmt.Sprintf("%d could not be deregistered", failed)}
		}
		return nil
	}))
}

// ill is an instance with a critical check.
type ill struct {
	node, id, service, check string
	nodeDown                 bool
	index                    uint64 // of its newest critical check
}

// verdict is what becomes of an instance.
type verdict struct {
	Service, ID, Node, Check string
	Done                     bool
	Why                      string
}

// critical gives the instances with a critical check of their own, or on a node that is
// down, by node and id.
func (a *app) critical(ctx context.Context, c *cli.Command, cl *consul.Client) (map[string]ill, error) {
	q := options(c).WithContext(ctx)
	checks, _, err := cl.Health().State(api.Critical, q)
	if err != nil {
		return nil, explain("querying checks", err)
	}
	down := map[string]uint64{}
	for _, k := range checks {
		if k.CheckID == api.SerfHealth {
			down[k.Node] = k.ModifyIndex
		}
	}
	out := map[string]ill{}
	note := func(i ill) {
		if only := c.String("service"); only != "" && only != i.service || i.service == api.ServerService {
			return
		}
		if old, ok := out[i.node+"/"+i.id]; !ok || old.index < i.index {
			out[i.node+"/"+i.id] = i
		}
	}
	for _, k := range checks {
		if k.ServiceID != "" {
			_, gone := down[k.Node]
			note(ill{k.Node, k.ServiceID, k.ServiceName, k.CheckID, gone, k.ModifyIndex})
		}
	}
	for node, index := range down {
		n, _, err := cl.Catalog().Node(node, q)
		if err != nil {
			return nil, explain("querying node", err)
		}
		if n == nil {
			continue
		}
		for _, s := range n.Services {
			note(ill{node, s.ID, s.Service, api.SerfHealth, true, index})
		}
	}
	return out, nil
}

// judge says whether an instance can be deregistered for good: its agent would bring it
// back.
func (i ill) judge(self string) verdict {
	v := verdict{i.service, i.id, i.node, i.check, true, "its node is down"}
	switch {
	case i.node == self:
		v.Why = "it is this agent's own"
	case !i.nodeDown:
		v.Done, v.Why = false, "the agent on "+i.node+" lives and would bring it back: purge there (-http-addr)"
	}
	return v
}

func (v verdict) do(cl *consul.Client, self string, w *consul.WriteOptions) error {
	if v.Node == self {
		return cl.Agent().ServiceDeregister(v.ID)
	}
	_, err := cl.Catalog().Deregister(&consul.CatalogDeregistration{Node: v.Node, ServiceID: v.ID, Datacenter: w.Datacenter}, w)
	return err
}

func (a *app) verdicts(list []verdict, dry bool) {
	if len(list) == 0 {
		a.printf("Nothing is critical for that long.\n")
		return
	}
	rows := [][]string{{"Service", "ID", "Node", "Check", "Purged", "Why"}}
	for _, v := range list {
		done := "no"
		switch {
		case v.Done && dry:
			done = "would be"
		case v.Done:
			done = "yes"
		}
		rows = append(rows, []string{v.Service, v.ID, v.Node, v.Check, done, v.Why})
	}
	a.table(rows...)
}

// compareAll compares pairs of texts, the first that differs decides.
func compareAll(pairs ...string) int {
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i] != pairs[i+1] {
			if pairs[i] < pairs[i+1] {
				return -1
			}
			return 1
		}
	}
	return 0
}
