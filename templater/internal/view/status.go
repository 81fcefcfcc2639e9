package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/rollcall/rollcall/templater/internal/run"
	"github.com/rollcall/rollcall/templater/internal/status"
	"github.com/rollcall/rollcall/templater/internal/watch"
)

// Status writes what a templater says of itself for a terminal.
func Status(r status.Report, now time.Time) string {
	var out strings.Builder
	ready := "ready"
	if !r.Ready {
		ready = "NOT READY"
	}
	catalog := "the catalog answers"
	if r.Stale > 0 {
		catalog = "the catalog has not answered for " + short(r.Stale) + "; the last good files stay"
	}
	fmt.Fprintf(&out, "%s, %s\n\n", ready, catalog)
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "GROUP\tSTATE\tGENERATION\tAPPLIED\tRELOADS\tFAILURES\tINSTANCES")
	for _, g := range r.Groups {
		applied := "never"
		if !g.AppliedAt.IsZero() {
			applied = short(now.Sub(g.AppliedAt)) + " ago"
		}
		n := 0
		for _, i := range g.Instances {
			n += i
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%d\t%d\t%d\n", g.Name, state(g), g.Generation, applied, g.Reloads, g.Failures, n)
	}
	w.Flush()
	for _, g := range r.Groups {
		why(&out, g)
	}
	for _, d := range r.Dependencies {
		if d.Error != "" {
			fmt.Fprintf(&out, "\n%s: %s\n", d.Name, d.Error)
		}
	}
	return out.String()
}

func state(g run.Status) string {
	switch {
	case g.Pinned != "":
		return "pinned"
	case g.LastError != "":
		return "failed: " + g.Stage
	case g.Held != "":
		return "held"
	case len(g.Missing) > 0 && !g.Ready:
		return "waiting"
	case g.Ready:
		return "applied"
	}
	return "pending"
}

// why says what keeps a group from being applied, nothing where nothing does.
func why(out *strings.Builder, g run.Status) {
	if g.LastError != "" {
		fmt.Fprintf(out, "\n%s: %s: %s\n", g.Name, g.Stage, g.LastError)
	}
	if g.Held != "" {
		fmt.Fprintf(out, "\n%s: held: %s", g.Name, g.Held)
		if !g.HeldUntil.IsZero() {
			fmt.Fprintf(out, " (until %s)", g.HeldUntil.Local().Format("15:04:05"))
		}
		out.WriteString("\n")
	}
	for _, file := range slices.Sorted(maps.Keys(g.Missing)) {
		fmt.Fprintf(out, "\n%s: %s waits for %s\n", g.Name, file, strings.Join(g.Missing[file], ", "))
	}
}

// Why tells of the templates that are called like this, by the name of the source, the
// destination or the group, what they read, and what keeps their group back. It is false
// where there is no such template.
func Why(r status.Report, name string) (string, bool) {
	var out strings.Builder
	found := false
	for _, g := range r.Groups {
		for i, t := range g.Templates {
			called := t.Name + "\n" + g.Name
			if i < len(g.Files) {
				called += "\n" + g.Files[i]
			}
			if !strings.Contains(called, name) {
				continue
			}
			found = true
			fmt.Fprintf(&out, "%s: group %s, %s, executed %d times\n", t.Name, g.Name, state(g), t.Executed)
			w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
			for _, use := range t.Uses {
				fmt.Fprintf(w, "  reads %s\t%s\n", use, answer(r.Dependencies, use))
			}
			w.Flush()
			why(&out, g)
		}
	}
	return out.String(), found
}

func answer(all []watch.State, name string) string {
	for _, d := range all {
		switch {
		case d.Name != name:
		case d.Error != "":
			return d.Error
		case !d.Known:
			return "no answer yet, for " + short(d.Waiting)
		case d.Hidden:
			return fmt.Sprintf("index %d, answered %s ago; the token may not see all of it", d.Index, short(d.Age))
		default:
			return fmt.Sprintf("index %d, answered %s ago", d.Index, short(d.Age))
		}
	}
	return "not watched"
}

func short(d time.Duration) string {
	if d < time.Minute {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
