// Package view shows things on a terminal: what a plan would change, as a unified diff,
// and what a running templater says of itself. It is pure.
package view

import (
	"fmt"
	"strings"
)

// context is how many lines stand around a change.
const context = 3

// Diff writes a unified diff of a file, "" where nothing differs. nil is no file.
func Diff(name string, before, after []byte) string {
	a, b := lines(before), lines(after)
	ops := edits(a, b)
	var out strings.Builder
	from, to := name, name
	if before == nil {
		from = "/dev/null"
	}
	if after == nil {
		to = "/dev/null"
	}
	for _, h := range hunks(ops) {
		if out.Len() == 0 {
			fmt.Fprintf(&out, "--- %s\n+++ %s\n", from, to)
		}
		h.write(&out)
	}
	if out.Len() == 0 && (before == nil) != (after == nil) {
		return fmt.Sprintf("--- %s\n+++ %s\n", from, to)
	}
	return out.String()
}

// Redacted writes how many lines of a file come and go, and nothing of what they hold.
func Redacted(name string, before, after []byte) string {
	come, gone := 0, 0
	for _, o := range edits(lines(before), lines(after)) {
		switch o.kind {
		case '+':
			come++
		case '-':
			gone++
		}
	}
	return fmt.Sprintf("%s: +%d -%d lines\n", name, come, gone)
}

// lines splits behind each line break; the last line may lack one.
func lines(b []byte) []string {
	out := strings.SplitAfter(string(b), "\n")
	if out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

// op is a line that stays (' '), goes ('-') or comes ('+'); a and b are its numbers
// before and after, from 0.
type op struct {
	kind byte
	text string
	a, b int
}

// edits gives a shortest way from a to b, by Myers' greedy method on what is left when
// equal lines at both ends are put aside.
func edits(a, b []string) []op {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	var out []op
	for i := range head {
		out = append(out, op{' ', a[i], i, i})
	}
	out = append(out, middle(a[head:len(a)-tail], b[head:len(b)-tail], head)...)
	for i := range tail {
		out = append(out, op{' ', a[len(a)-tail+i], len(a) - tail + i, len(b) - tail + i})
	}
	return out
}

// most bounds the work: what differs more is shown as all gone and all new.
const most = 500

func middle(a, b []string, shift int) []op {
	n, m := len(a), len(b)
	limit := min(n+m, most)
	v := map[int]int{1: 0}
	var trace []map[int]int
	for d := 0; d <= limit; d++ {
		seen := make(map[int]int, len(v))
		for k, x := range v {
			seen[k] = x
		}
		trace = append(trace, seen)
		for k := -d; k <= d; k += 2 {
			x := v[k-1] + 1
			if k == -d || k != d && v[k-1] < v[k+1] {
				x = v[k+1]
			}
			for x < n && x-k < m && a[x] == b[x-k] {
				x++
			}
			v[k] = x
			if x >= n && x-k >= m {
				return back(a, b, trace, shift)
			}
		}
	}
	var out []op
	for i, line := range a {
		out = append(out, op{'-', line, i + shift, shift})
	}
	for i, line := range b {
		out = append(out, op{'+', line, n + shift, i + shift})
	}
	return out
}

// back walks the trace from the end.
func back(a, b []string, trace []map[int]int, shift int) []op {
	var out []op
	x, y := len(a), len(b)
	for d := len(trace) - 1; d >= 0; d-- {
		v, k := trace[d], x-y
		before := k - 1
		if k == -d || k != d && v[k-1] < v[k+1] {
			before = k + 1
		}
		px := v[before]
		py := px - before
		for x > px && y > py && x > 0 && y > 0 {
			x, y = x-1, y-1
			out = append(out, op{' ', a[x], x + shift, y + shift})
		}
		if d == 0 {
			break
		}
		if x == px {
			y--
			out = append(out, op{'+', b[y], x + shift, y + shift})
		} else {
			x--
			out = append(out, op{'-', a[x], x + shift, y + shift})
		}
	}
	for i, j := 0, len(out)-1; i < j; i, j = i+1, j-1 {
		out[i], out[j] = out[j], out[i]
	}
	return out
}

type hunk []op

// hunks cuts out the changes with the lines around them.
func hunks(ops []op) []hunk {
	var out []hunk
	for i := 0; i < len(ops); {
		if ops[i].kind == ' ' {
			i++
			continue
		}
		start, end := max(i-context, 0), i
		for quiet := 0; end < len(ops) && quiet <= 2*context; end++ {
			if ops[end].kind == ' ' {
				quiet++
			} else {
				quiet = 0
			}
		}
		stop := end
		for stop > i && ops[stop-1].kind == ' ' {
			stop--
		}
		stop = min(stop+context, len(ops))
		out = append(out, ops[start:stop])
		i = max(end, stop)
	}
	return out
}

func (h hunk) write(out *strings.Builder) {
	before, after := 0, 0
	for _, o := range h {
		if o.kind != '+' {
			before++
		}
		if o.kind != '-' {
			after++
		}
	}
	fmt.Fprintf(out, "@@ -%s +%s @@\n", span(h[0].a, before), span(h[0].b, after))
	for _, o := range h {
		out.WriteByte(o.kind)
		out.WriteString(o.text)
		if !strings.HasSuffix(o.text, "\n") {
			out.WriteString("\n\\ No newline at end of file\n")
		}
	}
}

// span is "first,count", as diff has it: lines from 1, and none is after a line.
func span(first, n int) string {
	switch n {
	case 0:
		return fmt.Sprintf("%d,0", first)
	case 1:
		return fmt.Sprint(first + 1)
	}
	return fmt.Sprintf("%d,%d", first+1, n)
}
