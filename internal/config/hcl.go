package config

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxDepth is how deep blocks and lists may stand in each other. No configuration comes
// near it; without a bound a file of brackets would exhaust the stack.
const maxDepth = 200

// parseHCL reads HCL as version 1 has it, which is what files for Consul and
// consul-template are written in: items may share a line, with commas between them or
// without, keys may be quoted, blocks may stand in the objects of lists. There are no
// variables: "${…}" in a string is text.
func parseHCL(name string, src []byte) (o *object, err error) {
	p := &hclParser{name: name, src: strings.TrimPrefix(string(src), "\ufeff"), line: 1}
	if err := p.space(); err != nil {
		return nil, err
	}
	return p.items(0, 0)
}

// hclParser stands before the next byte of src that is no space, unless said otherwise.
type hclParser struct {
	name string
	src  string // what is left
	line int    // of the next byte, from 1
}

func (p *hclParser) fault(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", p.name, p.line, fmt.Sprintf(format, args...))
}

// next is the next byte, 0 at the end.
func (p *hclParser) next() byte {
	if p.src == "" {
		return 0
	}
	return p.src[0]
}

// take moves n bytes on and gives them.
func (p *hclParser) take(n int) string {
	text := p.src[:n]
	p.src = p.src[n:]
	p.line += strings.Count(text, "\n")
	return text
}

// space moves over blanks, lines and comments.
func (p *hclParser) space() error {
	for {
		p.take(len(p.src) - len(strings.TrimLeft(p.src, " \t\r\n")))
		switch {
		case strings.HasPrefix(p.src, "#"), strings.HasPrefix(p.src, "//"):
			end := strings.IndexByte(p.src, '\n')
			if end < 0 {
				end = len(p.src)
			}
			p.take(end)
		case strings.HasPrefix(p.src, "/*"):
			end := strings.Index(p.src[2:], "*/")
			if end < 0 {
				return p.fault("a comment begins with /* and does not end")
			}
			p.take(end + 4)
		default:
			return nil
		}
	}
}

// items reads keys with their values up to end, '}' or 0 for the end of the text, which
// it moves over.
func (p *hclParser) items(end byte, depth int) (*object, error) {
	o := &object{fields: map[string][]value{}}
	for {
		switch c := p.next(); {
		case c == 0 && end != 0:
			return nil, p.fault("a block begins with { and does not end")
		case c == 0:
			return o, nil
		case c == end:
			p.take(1)
			return o, p.space()
		}
		line := p.line
		keys, err := p.keys()
		if err != nil {
			return nil, err
		}
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		v.line = line
		if inner, ok := v.v.(*object); ok {
			inner.labels = keys[1:]
		}
		o.fields[keys[0]] = append(o.fields[keys[0]], v)
		if p.next() == ',' {
			p.take(1)
			if err := p.space(); err != nil {
				return nil, err
			}
		}
	}
}

// keys reads a key, with a block's labels behind it, up to its value.
func (p *hclParser) keys() ([]string, error) {
	var keys []string
	for {
		var key string
		switch c, _ := utf8.DecodeRuneInString(p.src); {
		case c == '"':
			text, err := p.quoted()
			if err != nil {
				return nil, err
			}
			key = text
		case unicode.IsLetter(c) || c == '_':
			key = p.word()
		case len(keys) == 0:
			return nil, p.fault("want a key, have %s", p.have())
		case c == '{':
			return keys, nil
		case (c == '=' || c == ':') && len(keys) == 1:
			p.take(1)
			return keys, p.space()
		default:
			return nil, p.fault("want = or { behind the key %s, have %s", strings.Join(keys, " "), p.have())
		}
		keys = append(keys, key)
		if err := p.space(); err != nil {
			return nil, err
		}
	}
}

// have says what stands next, for a fault.
func (p *hclParser) have() string {
	if p.src == "" {
		return "the end of the file"
	}
	text, _, _ := strings.Cut(p.src, "\n")
	if len(text) > 12 {
		text = strings.ToValidUTF8(text[:12], "") + "…"
	}
	return strconv.Quote(text)
}

// word reads letters, digits, and _ - . between them.
func (p *hclParser) word() string {
	end := strings.IndexFunc(p.src, func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '_' && c != '-' && c != '.'
	})
	if end < 0 {
		end = len(p.src)
	}
	return p.take(end)
}

func (p *hclParser) value(depth int) (value, error) {
	if depth++; depth > maxDepth {
		return value{}, p.fault("more than %d blocks and lists in each other", maxDepth)
	}
	v := value{line: p.line}
	var err error
	switch c := p.next(); {
	case c == '{':
		p.take(1)
		if err := p.space(); err != nil {
			return v, err
		}
		v.v, err = p.items('}', depth)
		return v, err
	case c == '[':
		v.v, err = p.list(depth)
		return v, err
	case c == '"':
		v.v, err = p.quoted()
	case strings.HasPrefix(p.src, "<<"):
		v.v, err = p.heredoc()
	case c == '-' || c == '.' || c >= '0' && c <= '9':
		v.v, err = p.number()
	default:
		have := p.have()
		switch word := p.word(); word {
		case "true", "false":
			v.v = word == "true"
		case "null":
		default:
			return v, p.fault("want a value, have %s: quote text", have)
		}
	}
	if err != nil {
		return v, err
	}
	return v, p.space()
}

// list reads values between brackets, with commas between them.
func (p *hclParser) list(depth int) ([]value, error) {
	p.take(1)
	out := []value{}
	for {
		if err := p.space(); err != nil {
			return nil, err
		}
		switch p.next() {
		case ']':
			p.take(1)
			return out, p.space()
		case 0:
			return nil, p.fault("a list begins with [ and does not end")
		}
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		out = append(out, v)
		switch p.next() {
		case ',':
			p.take(1)
		case ']', 0:
		default:
			return nil, p.fault("want , or ] in the list, have %s", p.have())
		}
	}
}

// number reads a decimal, hexadecimal or octal number.
func (p *hclParser) number() (json.Number, error) {
	end := strings.IndexFunc(p.src, func(c rune) bool {
		return !unicode.IsLetter(c) && !unicode.IsDigit(c) && c != '.' && c != '-' && c != '+'
	})
	if end < 0 {
		end = len(p.src)
	}
	text := p.src[:end]
	if _, err := strconv.ParseInt(text, 0, 64); err == nil {
		return json.Number(p.take(end)), nil
	}
	f, err := strconv.ParseFloat(text, 64)
	if err != nil || strings.ContainsAny(text, "xXpPnN") { // no hexadecimal fractions, no Inf, no NaN
		return "", p.fault("%q is no number", text)
	}
	p.take(end)
	return json.Number(strconv.FormatFloat(f, 'g', -1, 64)), nil
}

// quoted reads a string in quotes. Escapes are Go's; what stands in ${ } is taken as it
// is, quotes included.
func (p *hclParser) quoted() (string, error) {
	var out strings.Builder
	s, depth := p.src[1:], 0
	for {
		switch {
		case s == "" || s[0] == '\n' && depth == 0:
			return "", p.fault("a string begins with \" and does not end on its line")
		case depth > 0:
			switch s[0] {
			case '{':
				depth++
			case '}':
				depth--
			}
			out.WriteByte(s[0])
			s = s[1:]
		case s[0] == '"':
			p.take(len(p.src) - len(s) + 1)
			return out.String(), nil
		case strings.HasPrefix(s, "${"):
			depth = 1
			out.WriteString(s[:2])
			s = s[2:]
		case s[0] == '\\':
			c, wide, rest, err := strconv.UnquoteChar(s, '"')
			if err != nil {
				return "", p.fault("%q is no escape that a string may have: write \\\\ for a backslash", s[:min(2, len(s))])
			}
			if wide || c < utf8.RuneSelf {
				out.WriteRune(c)
			} else {
				out.WriteByte(byte(c))
			}
			s = rest
		default:
			out.WriteByte(s[0])
			s = s[1:]
		}
	}
}

// heredoc reads lines up to one with the marker alone. Behind <<- the blanks that stand
// before that marker are taken off every line, if every line has them.
func (p *hclParser) heredoc() (string, error) {
	first, rest, ok := strings.Cut(p.src, "\n")
	marker, indented := strings.CutPrefix(strings.TrimSpace(first[2:]), "-")
	if !ok || marker == "" {
		return "", p.fault("want a word and a new line behind <<")
	}
	var lines []string
	for rest != "" {
		line, after, _ := strings.Cut(rest, "\n")
		if strings.TrimSpace(line) != marker {
			lines, rest = append(lines, line+"\n"), after
			continue
		}
		p.take(len(p.src) - len(rest) + len(line))
		if blanks := line[:strings.Index(line, marker)]; indented && blanks != "" {
			lines = unindent(lines, blanks)
		}
		return strings.Join(lines, ""), nil
	}
	return "", p.fault("text begins with <<%s and no line has %s alone", marker, marker)
}

func unindent(lines []string, blanks string) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		cut, ok := strings.CutPrefix(line, blanks)
		if !ok && line != "\n" {
			return lines
		}
		out[i] = cut
	}
	return out
}
