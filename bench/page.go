package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// machine describes what was measured on.
func machine() string {
	model, kernel := runtime.GOARCH, ""
	b, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(b)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
			model = strings.TrimSpace(v)
			break
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		kernel = ", Linux " + strings.TrimSpace(string(b))
	}
	return fmt.Sprintf("%s, %d cores%s, %s", model, runtime.NumCPU(), kernel, runtime.Version())
}

// begin and end are what stands around the part of the page that is made.
const (
	begin = "<!-- measured: begin -->"
	end   = "<!-- measured: end -->"
)

// page renews docs/benchmarks.md and its charts in a folder from a file of results.
func page(file, folder string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var r results
	if err := json.Unmarshal(b, &r); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	name := filepath.Join(folder, "benchmarks.md")
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(text), begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return fmt.Errorf("%s has no %q … %q", name, begin, end)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%s%s\n%s, %s, by `%s`:\n\n", before, begin, r.When, r.Machine, r.Command)
	table(&out, r.Scenarios)
	fmt.Fprintf(&out, "%s%s", end, after)
	if err := os.WriteFile(name, out.Bytes(), 0o644); err != nil {
		return err
	}
	if slices.ContainsFunc(r.Scenarios, func(sc *scenario) bool { return strings.HasPrefix(sc.Name, "grow-") }) {
		if err := os.WriteFile(filepath.Join(folder, "growth.svg"), curves(r.Scenarios), 0o644); err != nil {
			return err
		}
	}
	return os.WriteFile(filepath.Join(folder, "benchmarks.svg"), chart(r.Scenarios), 0o644)
}

func table(out *bytes.Buffer, all []*scenario) {
	out.WriteString("| what | unit | Rollcall | Consul | better by | goal | p50 / p99 / p99.9, ms | Consul's | processor, µs each | Consul's | memory, MB | Consul's | to disk, bytes each | Consul's | beside |\n")
	out.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, sc := range all {
		figure := func(peer string) string {
			v := values(sc.Peers[peer])
			if len(v) == 0 {
				return "–"
			}
			return number(median(v))
		}
		waits := func(peer string) string {
			m := middle(sc.Peers[peer])
			if m.P50 == 0 {
				return "–"
			}
			return fmt.Sprintf("%s / %s / %s", number(m.P50), number(m.P99), number(m.P999))
		}
		of := func(what func(sample) float64) string {
			var cells []string
			for _, peer := range []string{ours, consul} {
				cell := "–"
				if v := what(middle(sc.Peers[peer])); v != 0 {
					cell = number(v)
				}
				cells = append(cells, cell)
			}
			return strings.Join(cells, " | ")
		}
		ratio, goal, beside := "–", "–", "–"
		if r := sc.ratios(consul); r != nil {
			ratio = fmt.Sprintf("**×%.1f** (%.1f–%.1f)", median(r), slices.Min(r), slices.Max(r))
		}
		if sc.Goal != 0 {
			goal = fmt.Sprintf("×%g", sc.Goal)
		}
		for _, other := range []string{etcd, static, echo, answer, alone} {
			if r := sc.ratios(other); r != nil {
				beside = fmt.Sprintf("%s %s, ours ×%.2f", other, figure(other), median(r))
			}
		}
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", sc.What, sc.Unit, figure(ours), figure(consul), ratio, goal,
			waits(ours), waits(consul), of(func(s sample) float64 { return s.CPU * 1000 }), of(func(s sample) float64 { return s.Memory }),
			of(func(s sample) float64 { return s.Written }), beside)
	}
	out.WriteByte('\n')
}

// middle is the sample whose value is the median, or just below.
func middle(of []sample) sample {
	if len(of) == 0 {
		return sample{}
	}
	of = slices.SortedFunc(slices.Values(of), func(a, b sample) int {
		if a.Value < b.Value {
			return -1
		}
		return 1
	})
	return of[(len(of)-1)/2]
}

// chart draws how many times better ours is than Consul, on a logarithmic scale, with the
// goals.
func chart(all []*scenario) []byte {
	const width, left, row = 900, 250, 24
	var shown []*scenario
	most := 10.0
	for _, sc := range all {
		if r := sc.ratios(consul); r != nil && !strings.HasPrefix(sc.Name, "grow-") {
			shown = append(shown, sc)
			most = max(most, median(r), sc.Goal)
		}
	}
	span := float64(width - left - 70)
	x := func(ratio float64) float64 { return left + span*math.Log10(max(ratio, 1))/math.Log10(most) }
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="12" role="img" aria-label="How many times better than Consul">`+"\n",
		width, len(shown)*row+50)
	b.WriteString(`<style>text{fill:#24292f}.g{stroke:#d0d7de}.b{fill:#2f6f4f}.t{stroke:#bf5a00;stroke-width:2}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.g{stroke:#30363d}.b{fill:#57ab7f}.t{stroke:#f0883e}}</style>` + "\n")
	for tick := 1.0; tick <= most; tick *= 10 {
		fmt.Fprintf(&b, `<line class="g" x1="%.1f" x2="%.1f" y1="20" y2="%d"/><text x="%.1f" y="14" text-anchor="middle">×%g</text>`+"\n", x(tick), x(tick), len(shown)*row+24, x(tick), tick)
	}
	for i, sc := range shown {
		y := 26 + i*row
		r := median(sc.ratios(consul))
		fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="end">%s</text><rect class="b" x="%d" y="%d" width="%.1f" height="%d" rx="2"/><text x="%.1f" y="%d">%.1f</text>`+"\n",
			left-8, y+13, sc.Name, left, y, max(x(r)-left, 1), row-8, max(x(r), x(sc.Goal))+6, y+13, r)
		if sc.Goal != 0 {
			fmt.Fprintf(&b, `<line class="t" x1="%.1f" x2="%.1f" y1="%d" y2="%d"/>`+"\n", x(sc.Goal), x(sc.Goal), y-3, y+row-5)
		}
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d">times better than Consul 1.8.7; the mark is the goal</text>`+"\n</svg>\n", left, len(shown)*row+42)
	return b.Bytes()
}
