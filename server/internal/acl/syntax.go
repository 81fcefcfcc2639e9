package acl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Policies are written in a small part of HCL's first version, which is looser than the
// second (blocks may share a line), or in the JSON of the same shape. Both are read into
// items.

// item is `keys… = value` or `keys… { body }`.
type item struct {
	keys  []string
	value any // string, bool, json.Number, []any, or body
	at    place
}

type body []item

// place is where something stands in a text, both from 1.
type place struct{ line, column int }

func (p place) String() string { return fmt.Sprintf("%d:%d", p.line, p.column) }

// deepest bounds how deep blocks stand in blocks.
const deepest = 32

// remark is a comment, with its marks.
type remark struct {
	text string
	line int
}

// syntax reads a text, and gives its comments beside it.
func syntax(text string) (body, []remark, error) {
	if strings.HasPrefix(strings.TrimLeftFunc(text, unicode.IsSpace), "{") {
		b, err := syntaxJSON(text)
		return b, nil, err
	}
	p := &parser{text: text, line: 1, lineStart: 0}
	b, err := p.body(0)
	if err != nil {
		return nil, nil, err
	}
	return b, p.remarks, nil
}

type parser struct {
	text            string
	pos             int
	line, lineStart int
	remarks         []remark
}

func (p *parser) at() place { return place{p.line, p.pos - p.lineStart + 1} }

func (p *parser) errorf(at place, format string, args ...any) error {
	return fmt.Errorf("at %s: %s", at, fmt.Sprintf(format, args...))
}

// skip passes spaces, comments and the commas that may stand between items.
func (p *parser) skip() error {
	for p.pos < len(p.text) {
		rest := p.text[p.pos:]
		switch c := rest[0]; {
		case c == '\n':
			p.pos++
			p.line, p.lineStart = p.line+1, p.pos
		case c == ' ' || c == '\t' || c == '\r' || c == ',':
			p.pos++
		case c == '#' || strings.HasPrefix(rest, "//"):
			end := strings.IndexByte(rest, '\n')
			if end < 0 {
				end = len(rest)
			}
			p.remarks = append(p.remarks, remark{strings.TrimRight(rest[:end], " \t\r"), p.line})
			p.pos += end
		case strings.HasPrefix(rest, "/*"):
			at := p.at()
			end := strings.Index(rest, "*/")
			if end < 0 {
				return p.errorf(at, "a comment is not closed")
			}
			p.remarks = append(p.remarks, remark{rest[:end+2], p.line})
			for i := range end {
				if rest[i] == '\n' {
					p.line, p.lineStart = p.line+1, p.pos+i+1
				}
			}
			p.pos += end + 2
		default:
			return nil
		}
	}
	return nil
}

// peek gives the next byte that counts, 0 at the end.
func (p *parser) peek() (byte, error) {
	if err := p.skip(); err != nil {
		return 0, err
	}
	if p.pos == len(p.text) {
		return 0, nil
	}
	return p.text[p.pos], nil
}

// body reads items up to the end of the text, or in a block up to its brace.
func (p *parser) body(depth int) (body, error) {
	if depth > deepest {
		return nil, p.errorf(p.at(), "blocks stand deeper than %d in each other", deepest)
	}
	var out body
	for {
		c, err := p.peek()
		switch {
		case err != nil:
			return nil, err
		case c == 0 && depth > 0:
			return nil, p.errorf(p.at(), "a block is not closed: } is missing")
		case c == 0:
			return out, nil
		case c == '}' && depth > 0:
			p.pos++
			return out, nil
		}
		it, err := p.item(depth)
		if err != nil {
			return nil, err
		}
		out = append(out, it)
	}
}

func (p *parser) item(depth int) (item, error) {
	it := item{at: p.at()}
	for {
		c, err := p.peek()
		if err != nil {
			return it, err
		}
		switch {
		case c == '{' && len(it.keys) > 0:
			p.pos++
			it.value, err = p.body(depth + 1)
			return it, err
		case c == '=' && len(it.keys) > 0:
			p.pos++
			it.value, err = p.value(depth)
			return it, err
		case c == '"' || word(rune(c)) || c >= utf8.RuneSelf:
			key, err := p.word()
			if err != nil {
				return it, err
			}
			it.keys = append(it.keys, key)
		case c == 0:
			return it, p.errorf(p.at(), "the text ends behind %s: = or { is missing", strings.Join(it.keys, " "))
		default:
			return it, p.errorf(p.at(), "%q is not expected here", c)
		}
	}
}

func word(r rune) bool {
	return unicode.IsLetter(r) || unicode.IsDigit(r) || r == '_' || r == '-' || r == '.'
}

// word reads a bare word or a string.
func (p *parser) word() (string, error) {
	if p.text[p.pos] == '"' {
		return p.str()
	}
	end := p.pos
	for end < len(p.text) {
		r, n := utf8.DecodeRuneInString(p.text[end:])
		if !word(r) || r == utf8.RuneError && n == 1 {
			break
		}
		end += n
	}
	if end == p.pos {
		r, _ := utf8.DecodeRuneInString(p.text[p.pos:])
		return "", p.errorf(p.at(), "%q is not expected here", r)
	}
	w := p.text[p.pos:end]
	p.pos = end
	return w, nil
}

// str reads a string in quotes.
func (p *parser) str() (string, error) {
	at := p.at()
	for i := p.pos + 1; i < len(p.text); i++ {
		switch p.text[i] {
		case '\n':
			return "", p.errorf(at, "a string goes over the end of its line")
		case '\\':
			i++
		case '"':
			raw := p.text[p.pos : i+1]
			p.pos = i + 1
			s, err := strconv.Unquote(raw)
			if err != nil {
				return "", p.errorf(at, "the string %s has an escape that is none", raw)
			}
			return s, nil
		}
	}
	return "", p.errorf(at, "a string is not closed: \" is missing")
}

func (p *parser) value(depth int) (any, error) {
	if depth > deepest {
		return nil, p.errorf(p.at(), "values stand deeper than %d in each other", deepest)
	}
	c, err := p.peek()
	if err != nil {
		return nil, err
	}
	switch {
	case c == '"':
		return p.str()
	case c == '{':
		p.pos++
		return p.body(depth + 1)
	case c == '[':
		p.pos++
		out := []any{}
		for {
			if c, err = p.peek(); err != nil {
				return nil, err
			}
			if c == ']' {
				p.pos++
				return out, nil
			}
			v, err := p.value(depth + 1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
	case c != 0 && (word(rune(c)) || c >= utf8.RuneSelf):
		at := p.at()
		w, err := p.word()
		if err != nil {
			return nil, err
		}
		if w == "true" || w == "false" {
			return w == "true", nil
		}
		if _, err := strconv.ParseFloat(w, 64); err != nil {
			return nil, p.errorf(at, "the value %s must stand in quotes", w)
		}
		return json.Number(w), nil
	}
	return nil, p.errorf(p.at(), "a value is missing")
}

// syntaxJSON reads the JSON form, keys in their order.
func syntaxJSON(text string) (body, error) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	v, err := jsonValue(d, text, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("at %s: there is more behind the object", offset(text, d.InputOffset()))
	}
	b, _ := v.(body) // syntax has seen the brace
	return b, nil
}

func offset(text string, n int64) place {
	before := []byte(text[:min(int(n), len(text))])
	line := bytes.Count(before, []byte("\n")) + 1
	return place{line, len(before) - (bytes.LastIndexByte(before, '\n') + 1) + 1}
}

func jsonValue(d *json.Decoder, text string, depth int) (any, error) {
	if depth > 2*deepest {
		return nil, fmt.Errorf("at %s: values stand deeper than %d in each other", offset(text, d.InputOffset()), 2*deepest)
	}
	wrap := func(err error) error { return fmt.Errorf("at %s: %w", offset(text, d.InputOffset()), err) }
	t, err := d.Token()
	if err != nil {
		return nil, wrap(err)
	}
	delim, ok := t.(json.Delim)
	if !ok {
		return t, nil
	}
	if delim == '[' {
		out := []any{}
		for d.More() {
			v, err := jsonValue(d, text, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		_, err := d.Token()
		if err != nil {
			return nil, wrap(err)
		}
		return out, nil
	}
	out := body{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, wrap(err)
		}
		it := item{keys: []string{key.(string)}, at: offset(text, d.InputOffset())} // a key is a string, or Token errs
		if it.value, err = jsonValue(d, text, depth+1); err != nil {
			return nil, err
		}
		out = append(out, it)
	}
	if _, err := d.Token(); err != nil {
		return nil, wrap(err)
	}
	return out, nil
}
