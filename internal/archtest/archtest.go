// Package archtest holds the import law: it reads the table of ARCHITECTURE.md and the
// imports of every package, so that the map and the law are one text. Tests and test
// support may import what they like; the law is about what the binaries are made of.
package archtest

import (
	"bufio"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Module is the path of our module; imports below it are ours.
const Module = "github.com/rollcall/rollcall"

// Law maps a room (a folder below the root) to what it may import: rooms of ours and
// paths of libraries, each allowing all below it.
type Law map[string][]string

// Read takes the law from the Markdown table under the heading "The import law": the
// first column names the room, the others what it may import, separated by spaces.
func Read(r io.Reader) (Law, error) {
	law, inside := Law{}, false
	for s := bufio.NewScanner(r); s.Scan(); {
		line := s.Text()
		if strings.HasPrefix(line, "## ") {
			inside = strings.Contains(line, "The import law")
		}
		if !inside || !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "|---") || strings.HasPrefix(line, "| room") {
			continue
		}
		cells := strings.Split(strings.Trim(line, "|"), "|")
		if len(cells) < 3 {
			return nil, fmt.Errorf("the law's row %q has fewer than three columns", line)
		}
		room := strings.Trim(cells[0], " `")
		if _, twice := law[room]; twice {
			return nil, fmt.Errorf("room %q stands twice in the law", room)
		}
		law[room] = strings.Fields(strings.NewReplacer("`", "", ",", " ", "–", " ").Replace(cells[1] + " " + cells[2]))
	}
	if len(law) == 0 {
		return nil, fmt.Errorf("no table under the heading \"The import law\"")
	}
	return law, nil
}

// Rooms gives every package below root with the imports of its files that are no tests,
// standard library left out.
func Rooms(root string) (map[string][]string, error) {
	rooms := map[string][]string{}
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && file != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "tools"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go"):
			return nil
		}
		rel, err := filepath.Rel(root, filepath.Dir(file))
		if err != nil {
			return err
		}
		room := filepath.ToSlash(rel)
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		if _, ok := rooms[room]; !ok {
			rooms[room] = nil
		}
		for _, spec := range f.Imports {
			p, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if first, _, _ := strings.Cut(p, "/"); strings.Contains(first, ".") && !slices.Contains(rooms[room], p) {
				rooms[room] = append(rooms[room], p)
			}
		}
		return nil
	})
	return rooms, err
}

// Breaches names every import that the law does not allow, and every room it does not
// know, in order.
func (l Law) Breaches(rooms map[string][]string) []string {
	var out []string
	for room, imports := range rooms {
		allowed, known := l[room]
		if !known {
			out = append(out, fmt.Sprintf("%s: the law has no row for this room", room))
			continue
		}
		for _, p := range imports {
			short := strings.TrimPrefix(p, Module+"/")
			if !slices.ContainsFunc(allowed, func(a string) bool { return covers(a, short) }) {
				out = append(out, fmt.Sprintf("%s: imports %s, which its row does not allow", room, short))
			}
		}
	}
	slices.Sort(out)
	return out
}

// Unused names every row that no package answers to, and every import that a row allows
// and no file makes: a law that allows more than is done hides the next breach.
func (l Law) Unused(rooms map[string][]string) []string {
	var out []string
	for room, allowed := range l {
		imports, exists := rooms[room]
		if !exists {
			out = append(out, fmt.Sprintf("%s: the law has a row, the house no such room", room))
			continue
		}
		for _, a := range allowed {
			if !slices.ContainsFunc(imports, func(p string) bool { return covers(a, strings.TrimPrefix(p, Module+"/")) }) {
				out = append(out, fmt.Sprintf("%s: allowed to import %s and does not", room, a))
			}
		}
	}
	slices.Sort(out)
	return out
}

// covers tells whether allowing a allows p. Rooms of ours are meant exactly; a library
// is meant with all its packages, and may be named by its last elements
// ("tidwall/btree").
func covers(a, p string) bool {
	if a == p {
		return true
	}
	if strings.HasPrefix(p, "internal/") || strings.HasPrefix(p, "server/") || strings.HasPrefix(p, "registrator/") || strings.HasPrefix(p, "templater/") || p == "templates" {
		return false
	}
	for rest := p; rest != "." && rest != "/"; rest = path.Dir(rest) {
		if rest == a || strings.HasSuffix(rest, "/"+a) {
			return true
		}
	}
	return false
}
