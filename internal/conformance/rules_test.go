package conformance

import (
	"fmt"
	"os"
	"strings"
)

// rule allows a difference.
type rule struct {
	line                      int
	scenario, request, aspect string // patterns
	reason                    string
	used                      bool
}

func (r *rule) String() string { return r.scenario + " | " + r.request + " | " + r.aspect }

type rules []*rule

// readRules reads differences.txt: "= reason" begins a block of lines
// "scenario | request | aspect", in which * stands for anything.
func readRules(file string) (rules, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var list rules
	reason := ""
	for i, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "= "):
			reason = line[2:]
		default:
			parts := strings.Split(line, " | ")
			if len(parts) != 3 || reason == "" {
				return nil, fmt.Errorf("%s:%d: want \"scenario | request | aspect\" below a reason", file, i+1)
			}
			list = append(list, &rule{line: i + 1, scenario: parts[0], request: parts[1], aspect: parts[2], reason: reason})
		}
	}
	return list, nil
}

// allow reports whether a rule fits a difference, and marks all that do.
func (l rules) allow(d difference) bool {
	allowed := false
	for _, r := range l {
		if matches(r.scenario, d.scenario) && matches(r.request, d.request) && matches(r.aspect, d.aspect) {
			r.used, allowed = true, true
		}
	}
	return allowed
}
