package apply

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rollcall/rollcall/templater/internal/guard"
)

// candidate writes the main file and all that it includes and that is, or leads to, a
// staged file, into dir, and gives the main file's path. Everything else of the
// configuration's directory is linked there, since nginx looks for relative names beside
// the main file.
func (c *copier) candidate(conf string) (string, error) {
	entries, err := os.ReadDir(c.base)
	if err != nil {
		return "", err
	}
	for _, e := range entries {
		if err := os.Symlink(filepath.Join(c.base, e.Name()), filepath.Join(c.dir, e.Name())); err != nil {
			return "", err
		}
	}
	b, err := os.ReadFile(conf)
	if err != nil {
		return "", err
	}
	main := filepath.Join(c.dir, filepath.Base(conf))
	if err := remove(main); err != nil {
		return "", err
	}
	out, err := c.rewrite(b, 0)
	if err != nil {
		return "", err
	}
	return main, os.WriteFile(main, out, 0o600)
}

// copier makes a copy of a configuration as it would be.
type copier struct {
	dir, base string            // where the copy goes, and the main file's directory
	staged    map[string]string // destination → file
	taken     map[string]bool   // destinations that some include takes in
	copies    [][2]string       // each file that was copied, with its copy
}

// names gives a text with the names of the files where it has those of copies.
func (c *copier) names(text string) string {
	for _, p := range slices.Backward(c.copies) { // the longer number first
		text = strings.ReplaceAll(text, p[1], p[0])
	}
	return strings.ReplaceAll(text, c.dir, c.base)
}

// rewrite gives a configuration in which every include names the files it takes in, one
// by one, each as it would be.
func (c *copier) rewrite(src []byte, depth int) ([]byte, error) {
	if depth > 20 {
		return nil, errors.New("includes go too deep; is there a circle?")
	}
	var out []byte
	var fault error
	last := 0
	var words []guard.Token
	guard.Tokens(src, func(t guard.Token) {
		if fault != nil {
			return
		}
		if t.Quoted || t.Text != "{" && t.Text != "}" && t.Text != ";" {
			words = append(words, t)
			return
		}
		if t.Text == ";" && len(words) == 2 && words[0].Text == "include" && !words[0].Quoted {
			var lines []byte
			if lines, fault = c.include(words[1].Text, depth); fault == nil {
				out = append(out, src[last:words[0].Start]...)
				out = append(out, lines...)
				last = t.End
			}
		}
		words = nil
	})
	return append(out, src[last:]...), fault
}

// include gives include directives for all that a pattern takes in.
func (c *copier) include(pattern string, depth int) ([]byte, error) {
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(c.base, pattern)
	}
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	paths = slices.DeleteFunc(paths, func(p string) bool { to, ok := c.staged[p]; return ok && to == "" }) // it goes
	for dest, to := range c.staged {                                                                       // one that is not there yet
		if to != "" && !slices.Contains(paths, dest) && comesUnder(pattern, dest) {
			paths = append(paths, dest)
		}
	}
	if strings.ContainsAny(pattern, "*?[") { // as nginx does
		paths = slices.DeleteFunc(paths, func(p string) bool { return strings.HasPrefix(filepath.Base(p), ".") })
	} else if len(paths) == 0 {
		paths = []string{pattern} // for nginx to say that it is not there
	}
	slices.Sort(paths)
	var out []byte
	for _, p := range paths {
		b, err := os.ReadFile(c.source(p))
		if err != nil {
			out = fmt.Appendf(out, "include %q;", p) // nginx says it better
			continue
		}
		text, err := c.rewrite(b, depth+1)
		if err != nil {
			return nil, err
		}
		to := filepath.Join(c.dir, fmt.Sprintf(".included-%d", len(c.copies)))
		if err := os.WriteFile(to, text, 0o600); err != nil {
			return nil, err
		}
		c.copies = append(c.copies, [2]string{p, to})
		out = fmt.Appendf(out, "include %q;", to)
	}
	return out, nil
}

// comesUnder reports whether a pattern takes in a file that may not be there yet, also by
// another name of its folder.
func comesUnder(pattern, dest string) bool {
	if ok, err := filepath.Match(pattern, dest); err == nil && ok {
		return true
	}
	if _, err := os.Lstat(dest); err == nil { // then what leads there takes it in
		return false
	}
	real := func(path string) string { return filepath.Join(resolve(filepath.Dir(path)), filepath.Base(path)) }
	ok, err := filepath.Match(real(pattern), real(dest))
	return err == nil && ok
}

// source is the file to read for one that is included: the staged one, also where only
// a link of another name leads to its destination.
func (c *copier) source(p string) string {
	if s, ok := c.staged[p]; ok {
		c.taken[p] = true
		return s
	}
	real := resolve(p)
	for dest, s := range c.staged {
		if s != "" && resolve(dest) == real {
			c.taken[dest] = true
			return s
		}
	}
	return p
}
