package conformance

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// scenario is one file of testdata. Its lines are:
//
//	# remark
//	@ hcl                  a line of the agents' configuration, only before the first request
//	METHOD TARGET [BODY]   a request; the body is the rest of the line, or a Go string in quotes
//	  > Name: value        (indented, below a request) a header that it has
//	  name = .Path[0].To   keeps a value of the JSON answer as ${name}; a header if without dot
//	  until TEXT           asks again, for 10 s at most, until the body has TEXT; "until 404" a status
//	  unordered            arrays of the answer are sets
//	  shape                of values only the kind matters
//	  keys                 of an object, or of any in a list, only the keys matter
//	  wake METHOD …        sends this request once the one above waits; then both must be answered
//
// ${name} is what was kept, ${repeat TEXT N} is TEXT N times; anywhere in a request.
type scenario struct {
	name  string
	hcl   string
	steps []*step
}

// step is one request with what belongs to it.
type step struct {
	line         int
	method       string
	target, body string
	header       []string // "Name: value"
	keep         [][2]string
	until        string
	unordered    bool
	shape        bool
	keys         bool
	wake         *step
}

func (s *step) String() string { return s.method + " " + s.target }

// read parses one file.
func read(file string) (*scenario, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s := &scenario{name: strings.TrimSuffix(filepath.Base(file), ".txt")}
	for i, line := range strings.Split(string(text), "\n") {
		if err := s.add(i+1, line); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", file, i+1, err)
		}
	}
	return s, nil
}

var keeps = regexp.MustCompile(`^(\w+) = (\S+)$`)

func (s *scenario) add(number int, line string) error {
	word := strings.TrimSpace(line)
	switch {
	case word == "" || strings.HasPrefix(word, "#"):
		return nil
	case strings.HasPrefix(line, "@"):
		s.hcl += strings.TrimPrefix(line, "@") + "\n"
		return nil
	case line == word:
		st, err := request(word)
		if err != nil {
			return err
		}
		st.line = number
		s.steps = append(s.steps, st)
		return nil
	case len(s.steps) == 0:
		return fmt.Errorf("%q belongs to no request", word)
	}
	st := s.steps[len(s.steps)-1]
	switch kept := keeps.FindStringSubmatch(word); {
	case strings.HasPrefix(word, "> "):
		st.header = append(st.header, word[2:])
	case strings.HasPrefix(word, "until "):
		st.until = word[len("until "):]
	case word == "unordered":
		st.unordered = true
	case word == "shape":
		st.shape = true
	case word == "keys":
		st.keys = true
	case strings.HasPrefix(word, "wake "):
		wake, err := request(word[len("wake "):])
		if err != nil {
			return err
		}
		st.wake = wake
	case kept != nil:
		st.keep = append(st.keep, [2]string{kept[1], kept[2]})
	default:
		return fmt.Errorf("%q: no such line below a request", word)
	}
	return nil
}

var methods = regexp.MustCompile(`^[A-Z]+$`)

// request parses "METHOD TARGET BODY".
func request(line string) (*step, error) {
	method, rest, _ := strings.Cut(line, " ")
	target, body, _ := strings.Cut(rest, " ")
	if !methods.MatchString(method) || target == "" {
		return nil, fmt.Errorf("%q is no request", line)
	}
	if strings.HasPrefix(body, `"`) {
		var err error
		if body, err = strconv.Unquote(body); err != nil {
			return nil, fmt.Errorf("%q: body: %w", line, err)
		}
	}
	return &step{method: method, target: target, body: body}, nil
}

var variable = regexp.MustCompile(`\$\{[^}]*\}`)

// fill puts in what was kept. An unknown name stays as it is, and shows in the answer.
func fill(text string, kept map[string]string) string {
	return variable.ReplaceAllStringFunc(text, func(v string) string {
		if f := strings.Fields(v[2 : len(v)-1]); len(f) == 3 && f[0] == "repeat" {
			n, _ := strconv.Atoi(f[2])
			return strings.Repeat(f[1], n)
		}
		if value, ok := kept[v[2:len(v)-1]]; ok {
			return value
		}
		return v
	})
}
