// Package filter compiles the expressions of ?filter= into tests of rows. The language is
// that of go-bexpr, with what Consul's API promises beyond it: a selector that no row has is
// refused when the expression is compiled, and a selector that leads through a list of
// objects (Checks.Status == critical) holds if it does for any of them.
//
// It knows rows by their Go types only; endpoint and httpapi call it. A compiled filter may
// be used concurrently.
package filter

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/go-bexpr"
	"github.com/hashicorp/go-bexpr/grammar"
	"github.com/mitchellh/pointerstructure"
)

// Filter is a compiled expression.
type Filter struct{ holds test }

// test tells whether a part of an expression holds of a row.
type test func(row any) (bool, error)

// What clients read, in Consul's words.
const (
	notCompiled     = "Failed to create boolean expression evaluator of %q: %v"
	unknownSelector = "Selector %q is not valid"
)

// refusal is an error whose text clients know.
type refusal string

func (r refusal) Error() string { return string(r) }

func refused(text string, why error) error { return refusal(fmt.Sprintf(notCompiled, text, why)) }

// most bounds what the library's parser tries. It goes back over what stands in parentheses
// several times, so that each level of them costs as much as four of the level below.
const most = 1_000_000

// Compile reads an expression about rows of the type of row. An error says what is wrong
// with the text, and is the asker's.
func Compile(text string, row any) (*Filter, error) {
	if !balanced(text) { // the parser would take seconds to find out
		return nil, refused(text, errors.New("unmatched parentheses"))
	}
	tree, err := grammar.Parse("", []byte(text), grammar.MaxExpressions(most))
	if err != nil {
		return nil, refused(text, err)
	}
	holds, err := compile(tree.(grammar.Expression), reflect.TypeOf(row))
	if err != nil {
		return nil, refused(text, err)
	}
	return &Filter{holds}, nil
}

// balanced reports whether the parentheses of an expression, outside of strings, close what
// was opened.
func balanced(text string) bool {
	open := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '(':
			open++
		case ')':
			if open--; open < 0 {
				return false
			}
		case '"', '`':
			for i++; i < len(text) && text[i] != c; i++ {
				if c == '"' && text[i] == '\\' {
					i++
				}
			}
		}
	}
	return open == 0
}

// Match reports whether the expression holds of a row. An error means that a value of the
// expression cannot be compared with the row's (a port with a word).
func (f *Filter) Match(row any) (bool, error) { return f.holds(row) }

// compile makes a test of an expression: and, or and not are ours, what they join is the
// library's.
func compile(e grammar.Expression, row reflect.Type) (test, error) {
	switch e := e.(type) {
	case *grammar.UnaryExpression:
		of, err := compile(e.Operand, row)
		return func(row any) (bool, error) {
			ok, err := of(row)
			return !ok, err
		}, err
	case *grammar.BinaryExpression:
		left, err := compile(e.Left, row)
		if err != nil {
			return nil, err
		}
		right, err := compile(e.Right, row)
		decided := e.Operator == grammar.BinaryOpOr // by the left alone
		return func(row any) (bool, error) {
			if ok, err := left(row); err != nil || ok == decided {
				return ok, err
			}
			return right(row)
		}, err
	}
	match, _ := e.(*grammar.MatchExpression)
	if match != nil {
		if path := ofMesh(match.Selector.Path, row); path != nil {
			left := *match
			left.Selector = grammar.Selector{Type: grammar.SelectorTypeBexpr, Path: path}
			holds, err := compile(&left, reflect.TypeOf(noMesh))
			return func(any) (bool, error) { return holds(noMesh) }, err
		}
	}
	p := printer{row: row, bound: map[string]bool{}}
	p.print(e)
	if p.err != nil {
		return nil, p.err
	}
	eval, err := bexpr.CreateEvaluator(p.String(), bexpr.WithMaxExpressions(most))
	if err != nil {
		return nil, err
	}
	return func(row any) (bool, error) {
		ok, err := eval.Evaluate(row)
		if match != nil && len(p.lists) == 0 && errors.Is(err, pointerstructure.ErrNotFound) {
			return match.Operator.NotPresentDisposition(), nil // a key of a map on the way, which the library looks for in the last only
		}
		return ok, err
	}, nil
}

// noMesh is what an instance says of the service mesh, which is left out.
var noMesh struct {
	Kind    string
	Connect struct{ Native bool }
	Proxy   struct {
		DestinationServiceName, DestinationServiceID, LocalServiceAddress string
		LocalServicePort                                                  int
		MeshGateway                                                       struct{ Mode string }
	}
}

// ofMesh gives the path in noMesh that a selector means, nil if it means something else. A
// service is known by its EnableTagOverride.
func ofMesh(path []string, row reflect.Type) []string {
	row = deref(row)
	if row.Kind() != reflect.Struct {
		return nil
	}
	if of, ok := row.FieldByName("Service"); ok && len(path) > 1 && path[0] == "Service" && deref(of.Type).Kind() == reflect.Struct {
		row, path = deref(of.Type), path[1:]
	}
	for _, prefix := range []string{"", "Service"} {
		name, ok := strings.CutPrefix(path[0], prefix)
		_, service := row.FieldByName(prefix + "EnableTagOverride")
		if _, mesh := reflect.TypeOf(noMesh).FieldByName(name); ok && service && mesh {
			return append([]string{name}, path[1:]...)
		}
	}
	return nil
}

// printer writes an expression as text again, with selectors through lists spelled out.
type printer struct {
	strings.Builder
	row   reflect.Type
	bound map[string]bool // names that "any" and "all" have given
	lists []int           // lengths of what of the last selector led to lists
	err   error
}

func (p *printer) print(e grammar.Expression) {
	switch e := e.(type) {
	case *grammar.UnaryExpression:
		p.WriteString("not ")
		p.operand(e.Operand, grammar.BinaryOpAnd, grammar.BinaryOpOr)
	case *grammar.BinaryExpression:
		var looser []grammar.BinaryOperator
		if e.Operator == grammar.BinaryOpAnd {
			looser = append(looser, grammar.BinaryOpOr)
		}
		p.operand(e.Left, looser...)
		p.WriteString(" " + strings.ToLower(e.Operator.String()) + " ")
		p.operand(e.Right, looser...)
	case *grammar.CollectionExpression:
		p.collection(e)
	case *grammar.MatchExpression:
		p.match(e)
	}
}

// operand prints what an operator joins, in parentheses where another stands in it that
// binds more loosely.
func (p *printer) operand(e grammar.Expression, looser ...grammar.BinaryOperator) {
	b, binary := e.(*grammar.BinaryExpression)
	_, collection := e.(*grammar.CollectionExpression)
	if !collection && (!binary || !slices.Contains(looser, b.Operator)) {
		p.print(e)
		return
	}
	p.WriteString("(")
	p.print(e)
	p.WriteString(")")
}

// collection prints any and all as they were written.
func (p *printer) collection(e *grammar.CollectionExpression) {
	b := e.NameBinding
	names := map[grammar.CollectionBindMode]string{
		grammar.CollectionBindDefault: b.Default, grammar.CollectionBindIndex: b.Index + ", _",
		grammar.CollectionBindValue: "_, " + b.Value, grammar.CollectionBindIndexAndValue: b.Index + ", " + b.Value,
	}
	fmt.Fprintf(p, "%s %s as %s { ", strings.ToLower(string(e.Op)), selector(e.Selector), names[b.Mode])
	p.check(e.Selector)
	outer := p.bound
	p.bound = map[string]bool{b.Default: true, b.Index: true, b.Value: true}
	for name := range outer {
		p.bound[name] = true
	}
	p.print(e.Inner)
	p.bound = outer
	p.WriteString(" }")
}

// element is what an object of a list is called.
const element = "element"

// match prints a comparison; if its selector leads through lists, one for any element.
func (p *printer) match(e *grammar.MatchExpression) {
	depth := 0
	path := e.Selector.Path
	p.lists = p.check(e.Selector)
	for _, list := range p.lists {
		name := fmt.Sprintf("%s%d", element, depth)
		fmt.Fprintf(p, "any %s as %s { ", selector(grammar.Selector{Type: grammar.SelectorTypeBexpr, Path: path[:list]}), name)
		path = append([]string{name}, path[list:]...)
		depth++
	}
	sel := e.Selector
	if depth > 0 {
		sel = grammar.Selector{Type: grammar.SelectorTypeBexpr, Path: path}
	}
	value := ""
	if e.Value != nil {
		value = quote(e.Value.Raw)
	}
	switch e.Operator {
	case grammar.MatchIn, grammar.MatchNotIn:
		fmt.Fprintf(p, "%s %s %s", value, words[e.Operator], selector(sel))
	default:
		fmt.Fprintf(p, "%s %s %s", selector(sel), words[e.Operator], value)
	}
	p.WriteString(strings.Repeat(" }", depth))
}

var words = map[grammar.MatchOperator]string{
	grammar.MatchEqual: "==", grammar.MatchNotEqual: "!=", grammar.MatchIn: "in", grammar.MatchNotIn: "not in",
	grammar.MatchIsEmpty: "is empty", grammar.MatchIsNotEmpty: "is not empty", grammar.MatchMatches: "matches",
	grammar.MatchNotMatches: "not matches", grammar.MatchContains: "contains", grammar.MatchNotContains: "not contains",
	grammar.MatchIsNil: "is nil", grammar.MatchIsNotNil: "is not nil",
}

// check refuses a selector that rows do not have, and gives the lengths of its parts that
// end at a list: for Checks.Status, [1].
func (p *printer) check(sel grammar.Selector) (lists []int) {
	if p.bound[sel.Path[0]] {
		return nil
	}
	t := p.row
	taken := 0 // of the path, by the lists before
	for i, name := range sel.Path {
		for t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if t.Kind() == reflect.Slice && deref(t.Elem()).Kind() == reflect.Struct && !digits(name) {
			lists = append(lists, i-taken)
			taken = i - 1 // the element's name takes the place of what led to it
			t = deref(t.Elem())
		}
		switch t.Kind() {
		case reflect.Struct:
			field, ok := t.FieldByName(name)
			if !ok || !field.IsExported() {
				p.fail(sel)
				return nil
			}
			t = field.Type
		case reflect.Map, reflect.Slice, reflect.Array:
			t = t.Elem()
		case reflect.Interface:
			return lists
		default:
			p.fail(sel)
			return nil
		}
	}
	return lists
}

func (p *printer) fail(sel grammar.Selector) {
	if p.err == nil {
		p.err = refusal(fmt.Sprintf(unknownSelector, sel))
	}
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func digits(s string) bool { return strings.Trim(s, "0123456789") == "" }

// selector writes a path; keys that are no words stand in brackets.
func selector(sel grammar.Selector) string {
	if sel.Type == grammar.SelectorTypeJsonPointer {
		escape := strings.NewReplacer("~", "~0", "/", "~1")
		out := ""
		for _, part := range sel.Path {
			out += "/" + escape.Replace(part)
		}
		return `"` + out + `"`
	}
	out := sel.Path[0]
	for _, part := range sel.Path[1:] {
		out += "[" + quote(part) + "]"
	}
	return out
}

// quote writes a string so that the grammar reads it back; it knows no \".
func quote(s string) string {
	return strings.ReplaceAll(fmt.Sprintf("%q", s), `\"`, `\x22`)
}
