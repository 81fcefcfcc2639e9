package config

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// parseHCL reads HCL's native syntax. There are no variables: "${…}" in a string is
// text, as it was in HCL 1.
func parseHCL(name string, src []byte) (*object, error) {
	f, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, diagnostic(diags)
	}
	body, ok := f.Body.(*hclsyntax.Body)
	if !ok {
		return nil, fmt.Errorf("%s: not a configuration file", name)
	}
	p := hclParser{src: src}
	return p.body(body)
}

// diagnostic turns the first fault into one line.
func diagnostic(diags hcl.Diagnostics) error {
	d := diags[0]
	where := ""
	if d.Subject != nil {
		where = fmt.Sprintf("%s:%d: ", d.Subject.Filename, d.Subject.Start.Line)
	}
	return fmt.Errorf("%s%s: %s", where, d.Summary, strings.ReplaceAll(d.Detail, "\n", " "))
}

type hclParser struct{ src []byte }

func (p hclParser) body(b *hclsyntax.Body) (*object, error) {
	o := &object{fields: map[string][]value{}}
	for name, attr := range b.Attributes {
		v, err := p.expr(attr.Expr)
		if err != nil {
			return nil, err
		}
		v.line = attr.NameRange.Start.Line
		o.fields[name] = append(o.fields[name], v)
	}
	for _, block := range b.Blocks {
		inner, err := p.body(block.Body)
		if err != nil {
			return nil, err
		}
		inner.labels = block.Labels
		o.fields[block.Type] = append(o.fields[block.Type], value{block.TypeRange.Start.Line, inner})
	}
	return o, nil
}

func (p hclParser) expr(e hclsyntax.Expression) (value, error) {
	line := e.Range().Start.Line
	switch t := e.(type) {
	case *hclsyntax.TemplateExpr:
		var text strings.Builder
		for _, part := range t.Parts {
			text.WriteString(p.part(part))
		}
		return value{line, text.String()}, nil
	case *hclsyntax.TemplateWrapExpr:
		return value{line, p.part(t.Wrapped)}, nil
	case *hclsyntax.TupleConsExpr:
		list := make([]value, 0, len(t.Exprs))
		for _, x := range t.Exprs {
			v, err := p.expr(x)
			if err != nil {
				return value{}, err
			}
			list = append(list, v)
		}
		return value{line, list}, nil
	case *hclsyntax.ObjectConsExpr:
		o := &object{fields: map[string][]value{}}
		for _, item := range t.Items {
			key, diags := item.KeyExpr.Value(nil)
			if diags.HasErrors() || key.Type() != cty.String {
				return value{}, fmt.Errorf("%s:%d: a key must be a plain word or a string", e.Range().Filename, item.KeyExpr.Range().Start.Line)
			}
			v, err := p.expr(item.ValueExpr)
			if err != nil {
				return value{}, err
			}
			o.fields[key.AsString()] = append(o.fields[key.AsString()], v)
		}
		return value{line, o}, nil
	}
	v, diags := e.Value(nil)
	if diags.HasErrors() {
		return value{}, diagnostic(diags)
	}
	return value{line, scalar(v)}, nil
}

// part gives a piece of a string literal as text: what stands in it, or its source.
func (p hclParser) part(e hclsyntax.Expression) string {
	if lit, ok := e.(*hclsyntax.LiteralValueExpr); ok && lit.Val.Type() == cty.String {
		return lit.Val.AsString()
	}
	return "${" + string(e.Range().SliceBytes(p.src)) + "}"
}

func scalar(v cty.Value) any {
	switch {
	case v.IsNull():
		return nil
	case v.Type() == cty.String:
		return v.AsString()
	case v.Type() == cty.Bool:
		return v.True()
	case v.Type() == cty.Number:
		return json.Number(v.AsBigFloat().Text('f', -1))
	}
	return v.GoString()
}
