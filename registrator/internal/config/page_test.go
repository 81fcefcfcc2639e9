package config

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Every command line of the page that calls the registrator is one that it takes.
func TestPageExamples(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../../docs/registrator.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, block := range regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for _, text := range strings.Split(strings.ReplaceAll(block[1], "\\\n", " "), "\n") {
			_, rest, isImage := strings.Cut(text, "rollcall/registrator ")
			if !isImage {
				var ok bool
				if rest, ok = strings.CutPrefix(text, "registrator "); !ok {
					continue
				}
			}
			found++
			// an interface's name depends on the machine
			if _, err := Parse(words(strings.ReplaceAll(rest, "eth0", "lo")), nil); err != nil {
				t.Errorf("%s\n%v", text, err)
			}
		}
	}
	if found < 12 {
		t.Errorf("%d examples found", found)
	}
}

// words cuts a line as a shell does that knows blanks, single quotes and comments.
func words(line string) []string {
	var out []string
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			out[len(out)-1] += part
			continue
		}
		part, _, comment := strings.Cut(part, " #")
		fields := strings.Fields(part)
		if i > 0 && len(fields) > 0 && !strings.HasPrefix(part, " ") { // goes on after a quote
			out[len(out)-1] += fields[0]
			fields = fields[1:]
		}
		out = append(out, fields...)
		if comment {
			break
		}
		if strings.HasSuffix(part, " ") || part == "" {
			out = append(out, "") // a quote begins a word of its own
		}
	}
	var full []string
	for _, w := range out {
		if w != "" {
			full = append(full, w)
		}
	}
	return full
}
