package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// sizes are how many keys or instances there are when the main operations are measured.
var sizes = []int{1_000, 10_000, 100_000, 1_000_000}

// fillTime bounds how long a peer may take to reach the next size; one that does not is
// left out from there on.
const fillTime = 3 * time.Minute

// growth measures the main operations at each size: of keys to a million, of instances to
// a hundred thousand.
func (s *suite) growth() error {
	key := func(i int) string { return "grow/" + strconv.Itoa(i/100) + "/" + strconv.Itoa(i%100) }
	tables := []struct {
		what  string
		most  int
		fill  func(p *peer, from, to int) error
		tests []*scenario
	}{
		{"keys", 1_000_000, func(p *peer, from, to int) error {
			const each = 64
			_, err := drive(p, 16, 0, int64((to-from+each-1)/each), over(p.http, func(b []byte, _, i int) []byte {
				var ops bytes.Buffer
				for k := range each {
					if n := from + i*each + k; n < to {
						fmt.Fprintf(&ops, `,{"KV":{"Verb":"set","Key":%q,"Value":%q}}`, key(n), base64.StdEncoding.EncodeToString(appendValue(nil)))
					}
				}
				ops.WriteByte(']')
				body := ops.Bytes()
				body[0] = '['
				return appendRequest(b, "PUT", "/v1/txn", body)
			}))
			return err
		}, []*scenario{
			{Name: "put", What: "KV put", run: func(p *peer, _ int) (sample, error) { return drive(p, 64, s.during, 0, over(p.http, putKey)) }},
			{Name: "list", What: "KV list of 100 keys", run: func(p *peer, _ int) (sample, error) {
				return drive(p, 16, s.during, 0, over(p.http, func(b []byte, w, i int) []byte {
					return appendRequest(b, "GET", "/v1/kv/grow/"+strconv.Itoa((w+i)%10)+"/?recurse", nil)
				}))
			}},
		}},
		{"instances", 100_000, s.fill, []*scenario{
			{Name: "register", What: "catalog register", run: func(p *peer, round int) (sample, error) {
				return drive(p, 64, s.during, 0, over(p.http, func(b []byte, w, i int) []byte { // the same again and again: the size stays
					return register(b, "new"+strconv.Itoa(w), 10_000_000+w<<10+(i+round)%100)
				}))
			}},
			{Name: "health", What: "`health/service/X` of 10 instances", run: func(p *peer, _ int) (sample, error) {
				return drive(p, 16, s.during, 0, always(p.http, "GET", "/v1/health/service/tens?passing"))
			}},
			{Name: "services", What: "`catalog/services`, a thousand names", run: func(p *peer, _ int) (sample, error) {
				return drive(p, 16, s.during, 0, always(p.http, "GET", "/v1/catalog/services"))
			}},
		}},
	}
	for _, t := range tables {
		var all [][]*scenario
		var names []string
		for _, n := range sizes {
			if n > t.most {
				break
			}
			var at []*scenario
			for _, sc := range t.tests {
				c := *sc
				c.Name, c.What, c.Unit = fmt.Sprintf("grow-%s-at-%d", sc.Name, n), fmt.Sprintf("%s at %s %s", sc.What, number(float64(n)), t.what), "/s"
				at, names = append(at, &c), append(names, c.Name)
			}
			all = append(all, at)
		}
		if !s.wants(names...) {
			continue
		}
		if err := s.grow(t.fill, all); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) grow(fill func(p *peer, from, to int) error, all [][]*scenario) error {
	running, end, err := s.run(s.peersOf(all[0][0]), "-server", "-bootstrap-expect=1")
	if err != nil {
		return err
	}
	defer end()
	for _, p := range running {
		for i := range 10 {
			if err := p.put("/v1/catalog/register", fmt.Sprintf(`{"Node":"t%d","Address":"10.1.0.%d","Service":{"Service":"tens","Port":80}}`, i, i)); err != nil {
				return err
			}
		}
	}
	for i, at := range all {
		from := 0
		if i > 0 {
			from = sizes[i-1]
		}
		for _, name := range []string{ours, consul} {
			p := running[name]
			if p == nil {
				continue
			}
			began := time.Now()
			if err := fill(p, from, sizes[i]); err != nil {
				return err
			}
			if took := time.Since(began); took > fillTime && name != ours {
				s.say("%s took %s for the way to %d, and is left out from here on", name, took.Round(time.Second), sizes[i])
				p.remove()
				delete(running, name)
			}
		}
		for _, sc := range at {
			if err := s.measure(sc, running); err != nil {
				return err
			}
		}
	}
	return nil
}

// curves draws how the main operations fare as tables grow, beside Consul's: both axes
// logarithmic, a picture each.
func curves(all []*scenario) []byte {
	const w, h, pad = 290, 190, 40
	type point struct {
		size        int
		ours, other float64
	}
	var names []string
	found := map[string][]point{}
	for _, sc := range all {
		var name string
		var size int
		if rest, ok := strings.CutPrefix(sc.Name, "grow-"); ok {
			before, after, _ := strings.Cut(rest, "-at-")
			name = before
			size, _ = strconv.Atoi(after)
		}
		if size == 0 {
			continue
		}
		if found[name] == nil {
			names = append(names, name)
		}
		found[name] = append(found[name], point{size, median(values(sc.Peers[ours])), median(values(sc.Peers[consul]))})
	}
	var b bytes.Buffer
	columns := 3
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="system-ui, sans-serif" font-size="11" role="img" aria-label="Operations a second as tables grow">`+"\n",
		columns*w, (len(names)+columns-1)/columns*h+20)
	b.WriteString(`<style>text{fill:#24292f}.g{stroke:#d0d7de}path{fill:none;stroke-width:2}.o{stroke:#2f6f4f}.c{stroke:#bf5a00}.O{fill:#2f6f4f}.C{fill:#bf5a00}@media(prefers-color-scheme:dark){text{fill:#e6edf3}.g{stroke:#30363d}.o{stroke:#57ab7f}.c{stroke:#f0883e}.O{fill:#57ab7f}.C{fill:#f0883e}}</style>` + "\n")
	for i, name := range names {
		points := found[name]
		low, high := math.Inf(1), 1.0
		for _, p := range points {
			for _, v := range []float64{p.ours, p.other} {
				if v > 0 {
					low, high = min(low, v), max(high, v)
				}
			}
		}
		low, high = math.Pow(10, math.Floor(math.Log10(low))), math.Pow(10, math.Ceil(math.Log10(high)))
		left, top := i%columns*w+pad, i/columns*h+24
		x := func(size int) float64 {
			return float64(left) + (math.Log10(float64(size))-3)/3*float64(w-pad-16)
		}
		y := func(v float64) float64 {
			return float64(top) + (1-math.Log10(v/low)/math.Log10(high/low))*float64(h-64)
		}
		fmt.Fprintf(&b, `<text x="%d" y="%d" font-weight="600">%s</text>`+"\n", left, top-10, name)
		for v := low; v <= high; v *= 10 {
			fmt.Fprintf(&b, `<line class="g" x1="%d" x2="%d" y1="%.1f" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left, left+w-pad-16, y(v), y(v), left-5, y(v)+4, number(v))
		}
		for _, size := range sizes {
			fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x(size), top+h-48, number(float64(size)))
		}
		for _, line := range []struct {
			class string
			of    func(point) float64
		}{{"o", func(p point) float64 { return p.ours }}, {"c", func(p point) float64 { return p.other }}} {
			path, pen := "", "M"
			for _, p := range points {
				if v := line.of(p); v > 0 {
					path += fmt.Sprintf("%s%.1f %.1f", pen, x(p.size), y(v))
					pen = "L"
				}
			}
			if path != "" {
				fmt.Fprintf(&b, `<path class="%s" d="%s"/>`+"\n", line.class, path)
			}
		}
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d">operations a second, <tspan class="O">ours</tspan> and <tspan class="C">Consul's</tspan>, by how many there are</text>`+"\n</svg>\n", pad, (len(names)+columns-1)/columns*h+14)
	return b.Bytes()
}
