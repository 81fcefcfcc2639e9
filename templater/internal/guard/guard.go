// Package guard decides whether a rendered set of files may replace the live one. It is
// pure. It refuses what nginx would refuse or what would take everything away at once.
package guard

import (
	"fmt"
	"slices"
	"strings"
)

// Upstreams counts the servers of each upstream block in an nginx configuration.
func Upstreams(conf []byte) map[string]int {
	out := map[string]int{}
	upstreams(conf, func(name string, server []string) {
		out[name] += 0
		if server != nil {
			out[name]++
		}
	})
	return out
}

// Places are the addresses of the servers of all upstreams that are not marked down, each
// once, in order.
func Places(conf []byte) []string {
	var out []string
	upstreams(conf, func(_ string, server []string) {
		if len(server) > 1 && !slices.Contains(server, "down") {
			out = append(out, server[1])
		}
	})
	slices.Sort(out)
	return slices.Compact(out)
}

// upstreams hands the name of every upstream block to f, with nil, and then the words of
// each of its servers.
func upstreams(conf []byte, f func(name string, server []string)) {
	name, depth, start := "", 0, true
	var words []string
	Tokens(conf, func(t Token) {
		switch {
		case t.Text == "{" && !t.Quoted:
			if depth == 0 || name == "" {
				if len(words) == 2 && words[0] == "upstream" {
					name = words[1]
					f(name, nil)
				}
			}
			depth++
			words, start = nil, true
		case t.Text == "}" && !t.Quoted:
			depth--
			name = ""
			words, start = nil, true
		case t.Text == ";" && !t.Quoted:
			if name != "" && len(words) > 0 && words[0] == "server" {
				f(name, words)
			}
			words, start = nil, true
		default:
			if start || len(words) > 0 {
				words = append(words, t.Text)
			}
			start = false
		}
	})
}

// Empty names an upstream without a server, "" where there is none. A file that is no
// nginx configuration has no upstreams.
func Empty(conf []byte) error {
	for name, n := range Upstreams(conf) {
		if n == 0 {
			return fmt.Errorf("upstream %q would have no server, which nginx refuses: render a 503 for it instead (templates/nginx.conf.ctmpl shows how)", name)
		}
	}
	return nil
}

// Blank reports whether a configuration says nothing at all.
func Blank(conf []byte) bool {
	blank := true
	Tokens(conf, func(Token) { blank = false })
	return blank
}

// Same reports whether two configurations say the same to nginx: they differ in space and
// comments only.
func Same(a, b []byte) bool {
	return slices.Equal(words(a), words(b))
}

func words(conf []byte) []string {
	var out []string
	Tokens(conf, func(t Token) {
		if t.Quoted {
			out = append(out, "\""+t.Text)
			return
		}
		out = append(out, t.Text)
	})
	return out
}

// Servers counts all servers of all upstreams.
func Servers(conf []byte) int {
	n := 0
	for _, c := range Upstreams(conf) {
		n += c
	}
	return n
}

// Token is a word of an nginx configuration, or one of { } ;.
type Token struct {
	Text       string
	Quoted     bool
	Start, End int // in the source
}

// Tokens hands every token of a configuration to f. Comments are left out.
func Tokens(src []byte, f func(Token)) {
	for i := 0; i < len(src); {
		switch c := src[i]; {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
		case c == '#':
			for i < len(src) && src[i] != '\n' {
				i++
			}
		case c == '{' || c == '}' || c == ';':
			f(Token{string(c), false, i, i + 1})
			i++
		case c == '"' || c == '\'':
			end := i + 1
			var b strings.Builder
			for end < len(src) && src[end] != c {
				if src[end] == '\\' && end+1 < len(src) {
					end++
				}
				b.WriteByte(src[end])
				end++
			}
			end = min(end+1, len(src))
			f(Token{b.String(), true, i, end})
			i = end
		default:
			end := i
			for end < len(src) && !strings.ContainsRune(" \t\r\n;{}", rune(src[end])) {
				if src[end] == '\\' && end+1 < len(src) {
					end++
				}
				if src[end] == '$' && end+1 < len(src) && src[end+1] == '{' { // ${variable}
					for end < len(src) && src[end] != '}' {
						end++
					}
				}
				end++
			}
			end = min(end, len(src))
			f(Token{string(src[i:end]), false, i, end})
			i = end
		}
	}
}
