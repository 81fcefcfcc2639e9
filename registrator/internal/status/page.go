package status

import (
	_ "embed" // the page
	"text/template"
	"text/template/parse"
)

//go:embed page.html
var pageText string

// page shows the containers to a browser. It escapes all that it is given, for text and
// quoted attributes: html/template would do that for scripts and styles, too, and makes
// the binary a quarter of a megabyte larger.
var page = escaping(template.Must(template.New("page").Parse(pageText)))

// escaping has every value of a template go through html.
func escaping(t *template.Template) *template.Template {
	escape(t.Root)
	return t
}

func escape(n parse.Node) {
	branches := func(b *parse.BranchNode) {
		escape(b.List)
		if b.ElseList != nil {
			escape(b.ElseList)
		}
	}
	switch n := n.(type) {
	case *parse.ListNode:
		for _, n := range n.Nodes {
			escape(n)
		}
	case *parse.IfNode:
		branches(&n.BranchNode)
	case *parse.RangeNode:
		branches(&n.BranchNode)
	case *parse.WithNode:
		branches(&n.BranchNode)
	case *parse.ActionNode:
		html := &parse.CommandNode{NodeType: parse.NodeCommand, Pos: n.Pos, Args: []parse.Node{parse.NewIdentifier("html").SetPos(n.Pos)}}
		n.Pipe.Cmds = append(n.Pipe.Cmds, html)
	case *parse.TextNode, *parse.CommentNode:
	default:
		panic("the page's template has something that is not known to be escaped: " + n.String())
	}
}
