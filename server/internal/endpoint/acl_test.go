package endpoint

import (
	"context"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/hashicorp/raft"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/consensus"
	"github.com/rollcall/rollcall/server/internal/fsm"
	"github.com/rollcall/rollcall/server/internal/leader"
	"github.com/rollcall/rollcall/server/internal/store"
)

// machine is a log that the real state machine carries out.
type machine struct {
	*fakeRaft
	fsm *fsm.FSM
}

func (m *machine) Apply(_ context.Context, item consensus.Item) (any, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, err := item.Append(append([]byte{}, command.Prefix...))
	if err != nil {
		return nil, err
	}
	m.index++
	answers, ok := m.fsm.Apply(&raft.Log{Index: m.index, Data: data}).([]any)
	if !ok {
		return nil, err
	}
	return answers[0], nil
}

const (
	root = "root"
	held = "22222222-2222-2222-2222-222222222222" // the session that furnish begins
)

// guarded is a server that enforces ACLs, with the management token root.
func guarded(t testing.TB, a ACLs) *Local {
	t.Helper()
	s := store.New()
	m := &machine{newRaft(s), fsm.New(s, slog.New(slog.DiscardHandler))}
	a.Enabled = true
	l := NewLocal(Config{Datacenter: "dc1", Store: s, Raft: m, ACLs: a})
	c, err := leader.SetUpACLs(s.State(), root)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply(t.Context(), command.Item{Command: c}); err != nil {
		t.Fatal(err)
	}
	if again, err := leader.SetUpACLs(s.State(), root); again != nil || err != nil {
		t.Fatalf("what is set up is set up again: %+v, %v", again, err)
	}
	return l
}

func commit(t testing.TB, l *Local, token string, c command.Command) error {
	t.Helper()
	res, err := l.Write(t.Context(), &Write{Token: token, Command: c})
	if err == nil && res.Txn != nil && res.Txn.Errors != nil { // a transaction tells its refusals by operation
		return api.Errorf(api.Forbidden, "%s", res.Txn.Errors[0].What)
	}
	return err
}

func mustCommit(t testing.TB, l *Local, c command.Command) {
	t.Helper()
	if err := commit(t, l, root, c); err != nil {
		t.Fatalf("%T as management: %v", c, err)
	}
}

// grant makes a token with rules of its own, and gives its secret.
func grant(t testing.TB, l *Local, rules string) string {
	t.Helper()
	p := &api.Policy{ID: uuid.NewString(), Name: "p" + uuid.NewString(), Rules: rules}
	mustCommit(t, l, &command.ACLSet{Mode: command.Create, Policy: p})
	tok := api.Token{Policies: []api.Link{{ID: p.ID}}}
	NewToken(&tok)
	mustCommit(t, l, &command.ACLSet{Mode: command.Create, Token: &api.SealedToken{Token: tok}})
	return tok.SecretID
}

func ask(t testing.TB, l *Local, token string, q Query) (*Answer, error) {
	t.Helper()
	q.Token = token
	return l.Read(t.Context(), &q)
}

func body1(t testing.TB, l *Local, token string, q Query) string {
	t.Helper()
	a, err := ask(t, l, token, q)
	if err != nil {
		t.Fatalf("%s %q: %v", q.Kind, q.Name, err)
	}
	b, err := a.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func furnish(t testing.TB, l *Local) {
	t.Helper()
	for _, node := range []string{"n1", "n2"} {
		for _, svc := range []string{"web", "db"} {
			mustCommit(t, l, &command.Register{Registration: api.Registration{
				Node: node, Address: "10.0.0.1", Service: &api.Service{ID: svc + "1", Service: svc},
				Checks: []*api.Check{{CheckID: "c-" + svc, Name: "c", ServiceID: svc + "1", Status: api.Passing}, {CheckID: "c-node", Name: "n", Status: api.Passing}},
			}})
		}
	}
	mustCommit(t, l, &command.Register{Registration: api.Registration{Node: "n3", ID: "33333333-3333-3333-3333-333333333333", Address: "10.0.0.3"}})
	mustCommit(t, l, &command.Query{Verb: command.CreateQuery, Query: api.PreparedQuery{
		ID: "11111111-1111-1111-1111-111111111111", Name: "find", Token: "owner", Service: api.ServiceQuery{Service: "web"},
	}})
	mustCommit(t, l, &command.CreateSession{Session: api.Session{ID: held, Node: "n1"}})
	for _, k := range []string{"a/1", "a/2", "b/1"} {
		mustCommit(t, l, &command.KV{Verb: command.Set, Pair: api.KVPair{Key: k, Value: []byte("v")}})
	}
}

// constants gives the values of the package's constants of a type, by their source.
func constants(t *testing.T, dir, typ string) map[string]string {
	t.Helper()
	out := map[string]string{}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range files {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), dir+"/"+e.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if id, ok := v.Type.(*ast.Ident); !ok || id.Name != typ {
				return true
			}
			for i, name := range v.Names {
				if lit, ok := v.Values[i].(*ast.BasicLit); ok {
					out[name.Name] = lit.Value
				}
			}
			return true
		})
	}
	return out
}

// open are the kinds of read that show an anonymous asker something even under default
// deny: what the cluster tells everybody, and what the asker is.
var open = map[Kind]string{
	Datacenters: `["dc1"]`, Leader: `"10.0.0.1:8300"`, Peers: `["10.0.0.1:8300"]`,
	RaftStanding: `{"LastContact":"0s","LastTerm":0,"LastIndex":0}`,
	UIOverview:   `{"Nodes":[{"Total":0,"Passing":0,"Warning":0,"Critical":0}],"Services":[],"Checks":[]}`,
	ACLResolve:   `{"Accessor":"00000000-0000-0000-0000-000000000002","Local":false,"Allow":false,"Rules":null}`,
	ACLReplication: `{"Enabled":false,"Running":false,"SourceDatacenter":"","ReplicationType":"","ReplicatedIndex":0,"ReplicatedRoleIndex":0,` +
		`"ReplicatedTokenIndex":0,"LastSuccess":"0001-01-01T00:00:00Z","LastError":"0001-01-01T00:00:00Z"}`,
}

// everyRead is a transaction that reads what there is.
var everyRead = []api.TxnOp{
	{KV: &api.TxnKV{Verb: api.TxnGet, Key: "a/1"}}, {KV: &api.TxnKV{Verb: api.TxnGetTree, Key: "a"}},
	{Node: &api.TxnNode{Verb: api.TxnGet, Node: api.Node{Node: "n1"}}},
	{Service: &api.TxnService{Verb: api.TxnGet, Node: "n1", Service: api.Service{ID: "web1"}}},
	{Check: &api.TxnCheck{Verb: api.TxnGet, Check: api.Check{Node: "n1", CheckID: "c-web"}}},
}

// Every read there is, and every write, refuses an asker without a token under default
// deny, or shows nothing. Whoever adds an operation meets this test.
func TestEveryOperation(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{})
	furnish(t, l)
	empty := map[string]bool{"[]": true, "{}": true, "null": true, `{"Node":null,"Services":null}`: true, `{"Results":[],"Errors":null}`: true}
	kinds := constants(t, ".", "Kind")
	if len(kinds) < 30 {
		t.Fatalf("found %d kinds of read only: %v", len(kinds), kinds)
	}
	for name, lit := range kinds {
		text, err := strconv.Unquote(lit)
		if err != nil {
			t.Fatal(err)
		}
		kind := Kind(text)
		if needs[kind] == nil {
			t.Errorf("%s has no entry in needs: say what its asker must hold", name)
		}
		for _, arg := range []string{"n1", "web", "a/1", "a", "", "any", held} {
			a, err := ask(t, l, "", Query{Kind: kind, Name: arg, Txn: everyRead})
			if err != nil {
				// As Consul has it, who asks for a query or session that there is not learns that.
				missing := strings.HasPrefix(text, "query.") || strings.HasPrefix(text, "session.") && arg != held
				if api.KindOf(err) != api.Forbidden && !missing {
					t.Errorf("%s %q without a token: %v, want it refused", name, arg, err)
				}
				continue
			}
			b, err := a.JSON()
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if want, ok := open[kind]; ok && string(b) == want || empty[string(b)] {
				continue
			}
			t.Errorf("%s %q without a token shows %s", name, arg, b)
		}
	}
	before := l.cfg.Store.State().Index()
	for op, lit := range constants(t, "../command", "Op") {
		c := example(op)
		if c == nil {
			t.Errorf("%s (%s) has no example here: add one, and its right to mayWrite", op, lit)
			continue
		}
		if err := commit(t, l, "", c); api.KindOf(err) != api.Forbidden {
			t.Errorf("%s without a token: %v, want it refused", op, err)
		}
	}
	if after := l.cfg.Store.State().Index(); after != before {
		t.Errorf("refused writes moved the index from %d to %d", before, after)
	}
}

// example gives a command of a kind, nil where none is known.
func example(op string) command.Command {
	switch op {
	case "OpRegister":
		return &command.Register{Registration: api.Registration{Node: "n1", Address: "10.0.0.9"}}
	case "OpDeregister":
		return &command.Deregister{Deregistration: api.Deregistration{Node: "n1"}}
	case "OpKV":
		return &command.KV{Verb: command.Set, Pair: api.KVPair{Key: "a/1"}}
	case "OpReap":
		return &command.Reap{Index: 1}
	case "OpCreateSession":
		return &command.CreateSession{Session: api.Session{Node: "n1"}}
	case "OpEndSession":
		return &command.EndSession{ID: held}
	case "OpTxn":
		return &command.Txn{Ops: []api.TxnOp{{KV: &api.TxnKV{Verb: api.TxnSet, Key: "a/1"}}}}
	case "OpQuery":
		return &command.Query{Verb: command.CreateQuery, Query: api.PreparedQuery{ID: uuid.NewString(), Name: "q", Service: api.ServiceQuery{Service: "web"}}}
	case "OpPlaces":
		return &command.Places{Entries: []*api.CoordinateEntry{{Node: "n1", Coord: &api.Coordinate{Vec: make([]float64, api.CoordinateDimensions)}}}}
	case "OpOperate":
		return &command.Operate{Verb: command.TransferLeader}
	case "OpFire":
		return &command.Fire{Event: api.UserEvent{Name: "deploy"}}
	case "OpKeyring":
		return &command.Keyring{Do: command.ListKeys}
	case "OpAutopilot":
		return &command.Autopilot{}
	case "OpACLSetUp":
		return &command.ACLSetUp{Key: []byte("k")}
	case "OpACLSet":
		return &command.ACLSet{Policy: &api.Policy{ID: uuid.NewString(), Name: "x"}}
	case "OpACLDelete":
		return &command.ACLDelete{Tokens: []string{acl.AnonymousID}}
	case "OpACLBootstrap":
		tok := api.Token{}
		NewToken(&tok)
		return &command.ACLBootstrap{Token: api.SealedToken{Token: tok}}
	case "OpACLLogin":
		return &command.ACLLogin{Method: "m", BearerToken: "b"}
	case "OpACLLogout":
		return &command.ACLLogout{}
	}
	return nil
}

func TestReadsAreFiltered(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{})
	furnish(t, l)
	one := grant(t, l, `node "n1" { policy = "read" } service "web" { policy = "read" } key_prefix "a/" { policy = "read" } key "a/2" { policy = "deny" }`)
	for _, c := range []struct {
		q           Query
		has, hasNot []string
	}{
		{Query{Kind: Nodes}, []string{`"n1"`}, []string{`"n2"`}},
		{Query{Kind: Services}, []string{`"web"`}, []string{`"db"`}},
		{Query{Kind: ServiceNodes, Name: "web"}, []string{`"n1"`}, []string{`"n2"`}},
		{Query{Kind: HealthService, Name: "web"}, []string{`"n1"`, `"c-web"`}, []string{`"n2"`}},
		{Query{Kind: HealthService, Name: "db"}, nil, []string{`"n1"`}},
		{Query{Kind: NodeServices, Name: "n1"}, []string{`"web1"`}, []string{`"db1"`}},
		{Query{Kind: NodeServices, Name: "n2"}, []string{"null"}, []string{`"n2"`}},
		{Query{Kind: NodeList, Name: "n2"}, []string{`{"Node":null,"Services":null}`}, []string{`"n2"`}},
		{Query{Kind: HealthNode, Name: "n1"}, []string{`"c-node"`, `"c-web"`}, []string{`"c-db"`}},
		{Query{Kind: HealthState, Name: api.Any}, []string{`"c-node"`, `"c-web"`}, []string{`"c-db"`, `"n2"`}},
		{Query{Kind: HealthChecks, Name: "web"}, []string{`"n1"`}, []string{`"n2"`}},
		{Query{Kind: KVList, Name: ""}, []string{`"a/1"`}, []string{`"a/2"`, `"b/1"`}},
		{Query{Kind: KVKeys, Name: ""}, []string{`"a/1"`}, []string{`"a/2"`, `"b/1"`}},
	} {
		for _, again := range []bool{false, true} { // the second time from the cache
			a, err := ask(t, l, one, c.q)
			if err != nil {
				t.Errorf("%s %q: %v", c.q.Kind, c.q.Name, err)
				continue
			}
			b, _ := a.JSON()
			for _, w := range c.has {
				if !strings.Contains(string(b), w) {
					t.Errorf("%s %q: %s lacks %s", c.q.Kind, c.q.Name, b, w)
				}
			}
			for _, w := range c.hasNot {
				if strings.Contains(string(b), w) {
					t.Errorf("%s %q: %s shows %s", c.q.Kind, c.q.Name, b, w)
				}
			}
			if !a.Meta.Filtered {
				t.Errorf("%s %q (again %t): the answer does not say that it was filtered", c.q.Kind, c.q.Name, again)
			}
		}
		a, err := ask(t, l, root, c.q)
		if err != nil || a.Meta.Filtered {
			t.Errorf("%s %q as management: filtered %t, %v", c.q.Kind, c.q.Name, a.Meta.Filtered, err)
		}
		a, err = ask(t, l, "", c.q)
		if err != nil || a.Meta.Filtered {
			t.Errorf("%s %q: the anonymous asker is told that there was something: %t, %v", c.q.Kind, c.q.Name, a.Meta.Filtered, err)
		}
	}
	if _, err := ask(t, l, one, Query{Kind: KVGet, Name: "a/2"}); api.KindOf(err) != api.Forbidden || !strings.Contains(err.Error(), `lacks permission 'key:read' on "a/2"`) {
		t.Errorf("a key that may not be read: %v", err)
	}
}

func TestKeyListPolicy(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{KeyList: true})
	furnish(t, l)
	reads := grant(t, l, `key_prefix "a/" { policy = "read" }`)
	lists := grant(t, l, `key_prefix "a/" { policy = "list" }`)
	if _, err := ask(t, l, reads, Query{Kind: KVList, Name: "a/"}); api.KindOf(err) != api.Forbidden || !strings.Contains(err.Error(), "key:list") {
		t.Errorf("listing with the right to read: %v", err)
	}
	if got := body1(t, l, lists, Query{Kind: KVKeys, Name: "a/"}); got != `["a/1","a/2"]` {
		t.Errorf("listing with the right to list: %s", got)
	}
	if _, err := ask(t, l, lists, Query{Kind: KVKeys, Name: ""}); api.KindOf(err) != api.Forbidden {
		t.Errorf("listing more than the right: %v", err)
	}
}

func TestWritesAreRefused(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{})
	furnish(t, l)
	reg := func(node, addr, id, svc string, checks ...*api.Check) command.Command {
		r := api.Registration{Node: node, Address: addr, Checks: checks}
		if svc != "" {
			r.Service = &api.Service{ID: id, Service: svc}
		}
		return &command.Register{Registration: r}
	}
	dereg := func(d api.Deregistration) command.Command { return &command.Deregister{Deregistration: d} }
	kv := func(v command.Verb, key string) command.Command {
		return &command.KV{Verb: v, Pair: api.KVPair{Key: key}}
	}
	for _, c := range []struct {
		rules string
		cmd   command.Command
		lacks string // "" is allowed
	}{
		{`key "a" { policy = "write" }`, kv(command.Set, "a"), ""},
		{`key "a" { policy = "read" }`, kv(command.Set, "a"), `'key:write' on "a"`},
		{`key "a" { policy = "write" }`, kv(command.DeleteTree, "a"), `'key:write' on everything that begins with "a"`},
		{`key_prefix "zz" { policy = "write" }`, kv(command.DeleteTree, "zz"), ""},
		// A node as it is costs nothing, so that a service's token can register it.
		{`service "new" { policy = "write" }`, reg("n1", "10.0.0.1", "new", "new"), ""},
		{`service "new" { policy = "write" }`, reg("n1", "10.0.0.2", "new", "new"), `'node:write' on "n1"`},
		{`service "new" { policy = "write" }`, reg("n9", "10.0.0.1", "new", "new"), `'node:write' on "n9"`},
		// Taking over a node's id renames that node.
		{`node "n9" { policy = "write" }`, &command.Register{Registration: api.Registration{Node: "n9", ID: "33333333-3333-3333-3333-333333333333", Address: "10.0.0.1"}}, `'node:write' on "n3"`},
		{`node "n9" { policy = "write" }`, reg("n9", "10.0.0.1", "new", "new"), `'service:write' on "new"`},
		// An id that was another service's is that one's too.
		{`service "new" { policy = "write" }`, reg("n1", "10.0.0.1", "db1", "new"), `'service:write' on "db"`},
		{`service "new" { policy = "write" }`, reg("n1", "10.0.0.1", "new", "new", &api.Check{CheckID: "x", ServiceID: "new"}), ""},
		{`service "new" { policy = "write" }`, reg("n1", "10.0.0.1", "new", "new", &api.Check{CheckID: "x"}), `'node:write' on "n1"`},
		{`service "new" { policy = "write" }`, reg("n1", "10.0.0.1", "", "", &api.Check{CheckID: "x", ServiceID: "db1"}), `'service:write' on "db"`},
		{`service "web" { policy = "write" }`, reg("n1", "10.0.0.1", "", "", &api.Check{CheckID: "c-db", ServiceID: "web1"}), `'service:write' on "db"`},
		{`node "n1" { policy = "write" }`, dereg(api.Deregistration{Node: "n1", CheckID: "c-node"}), ""},
		{`service "db" { policy = "write" }`, dereg(api.Deregistration{Node: "n1", CheckID: "c-db"}), ""},
		{`service "web" { policy = "write" }`, dereg(api.Deregistration{Node: "n1", ServiceID: "db1"}), `'service:write' on "db"`},
		{`service "db" { policy = "write" }`, dereg(api.Deregistration{Node: "n1", ServiceID: "db1"}), ""},
		{`service_prefix "" { policy = "write" }`, dereg(api.Deregistration{Node: "n2"}), `'node:write' on "n2"`},
		{`node "n2" { policy = "write" }`, dereg(api.Deregistration{Node: "n2"}), ""},
		{`acl = "read"`, &command.ACLDelete{Roles: []string{"x"}}, `'acl:write'`},
		{`acl = "write" operator = "write"`, &command.Reap{Index: 1}, "only servers themselves"},
	} {
		err := commit(t, l, grant(t, l, c.rules), c.cmd)
		if c.lacks == "" && err != nil {
			t.Errorf("%s: %T %+v: %v", c.rules, c.cmd, c.cmd, err)
		}
		if c.lacks != "" && (api.KindOf(err) != api.Forbidden || !strings.Contains(err.Error(), c.lacks) || !strings.HasPrefix(err.Error(), "Permission denied")) {
			t.Errorf("%s: %T %+v: %v, want 403 with %s", c.rules, c.cmd, c.cmd, err, c.lacks)
		}
	}
}

func TestTokenLife(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{})
	tok := api.Token{Description: "d", ExpirationTTL: api.Duration(time.Hour)}
	NewToken(&tok)
	set := func(mode command.Mode, change func(*api.Token)) error {
		next := tok
		if mode != command.Create {
			next.ExpirationTTL = 0
		}
		change(&next)
		return commit(t, l, root, &command.ACLSet{Mode: mode, Token: &api.SealedToken{Token: next}})
	}
	same := func(*api.Token) {}
	if err := set(command.Create, same); err != nil {
		t.Fatal(err)
	}
	st := l.cfg.Store.State()
	row := st.TokenByAccessor(tok.AccessorID)
	if row.SecretID != "" || strings.Contains(row.SecretHash, tok.SecretID) || strings.Contains(string(row.Sealed), tok.SecretID) {
		t.Errorf("the row shows the secret: %+v", row)
	}
	read := func(as string) *api.Token {
		a, err := ask(t, l, as, Query{Kind: ACLToken, Name: tok.AccessorID})
		if err != nil {
			t.Fatalf("read as %s: %v", as, err)
		}
		return a.Value.(*api.Token)
	}
	got := read(root)
	if got.SecretID != tok.SecretID || got.ExpirationTime == nil || got.CreateTime.IsZero() {
		t.Errorf("read back: %+v", got)
	}
	if d := cmp.Diff(read(tok.SecretID), got); d != "" {
		t.Errorf("one's own token: got (-) want (+):\n%s", d)
	}
	if got := read(grant(t, l, `acl = "read"`)); got.SecretID != hiddenSecret {
		t.Errorf("a reader of ACLs sees the secret %q", got.SecretID)
	}
	for want, err := range map[string]error{
		"AccessorID is already in use":      set(command.Create, func(n *api.Token) { n.SecretID = uuid.NewString() }),
		"SecretID is already in use":        set(command.Create, func(n *api.Token) { n.AccessorID = uuid.NewString() }),
		"SecretID is not a valid UUID":      set(command.Create, func(n *api.Token) { n.AccessorID, n.SecretID = uuid.NewString(), "x" }),
		"Changing a tokens SecretID":        set(command.Update, func(n *api.Token) { n.SecretID = uuid.NewString() }),
		"cannot toggle local mode":          set(command.Update, func(n *api.Token) { n.Local = true }),
		"Cannot change AuthMethod":          set(command.Update, func(n *api.Token) { n.AuthMethod = "m" }),
		"Cannot change expiration":          set(command.Update, func(n *api.Token) { n.ExpirationTTL = 1 }),
		"cannot be less than 1m0s":          set(command.Create, func(n *api.Token) { n.AccessorID, n.SecretID, n.ExpirationTTL = uuid.NewString(), uuid.NewString(), 1 }),
		"UUID must be 36 characters":        set(command.Create, func(n *api.Token) { n.AccessorID = "x" }),
		"Cannot find token":                 set(command.Update, func(n *api.Token) { n.AccessorID = uuid.NewString() }),
		"Rules cannot be specified":         set(command.Update, func(n *api.Token) { n.Rules = "x" }),
		"missing the service name field on": set(command.Update, func(n *api.Token) { n.ServiceIdentities = []api.ServiceIdentity{{}} }),
		"cannot specify a list of datacenters": set(command.Create, func(n *api.Token) {
			n.AccessorID, n.SecretID, n.Local, n.ServiceIdentities = uuid.NewString(), uuid.NewString(), true, []api.ServiceIdentity{{ServiceName: "db", Datacenters: []string{"dc1"}}}
		}),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
	if err := set(command.Update, func(n *api.Token) { n.SecretID, n.Description = "", "e" }); err != nil {
		t.Errorf("update: %v", err)
	}
	if got := read(root); got.Description != "e" || got.SecretID != tok.SecretID || got.ExpirationTime == nil {
		t.Errorf("after the update: %+v", got)
	}
	mustCommit(t, l, &command.ACLDelete{Tokens: []string{tok.AccessorID}})
	if _, err := ask(t, l, tok.SecretID, Query{Kind: Nodes}); api.KindOf(err) != api.Forbidden || !strings.Contains(err.Error(), "ACL not found") {
		t.Errorf("with a token that is gone: %v", err)
	}
}

func TestPolicyRules(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{})
	set := func(p api.Policy) error {
		return commit(t, l, root, &command.ACLSet{Mode: command.Upsert, Policy: &p})
	}
	id := uuid.NewString()
	for want, err := range map[string]error{
		"no Name is set":          set(api.Policy{ID: id}),
		"invalid Name":            set(api.Policy{ID: id, Name: "a b"}),
		"Failed to parse ACL":     set(api.Policy{ID: id, Name: "a", Rules: "key {"}),
		"Changing the Rules for":  set(api.Policy{ID: acl.ManagementID, Name: acl.ManagementName}),
		"Changing the builtin":    set(api.Policy{ID: acl.ReadOnlyID, Name: acl.ReadOnlyName}),
		"on the anonymous token":  commit(t, l, root, &command.ACLDelete{Tokens: []string{acl.AnonymousID}}),
		"global-management pol":   commit(t, l, root, &command.ACLDelete{Policies: []string{acl.ManagementID}}),
		"global-read-only policy": commit(t, l, root, &command.ACLDelete{Policies: []string{acl.ReadOnlyID}}),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
}

// Roles, identities, datacenters of policies: what a token is given in the end.
func TestGrants(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{})
	role := &api.Role{ID: uuid.NewString(), Name: "r", ServiceIdentities: []api.ServiceIdentity{{ServiceName: "web"}, {ServiceName: "far", Datacenters: []string{"dc2"}}}}
	mustCommit(t, l, &command.ACLSet{Role: role})
	here := &api.Policy{ID: uuid.NewString(), Name: "here", Rules: `key "a" { policy = "write" }`, Datacenters: []string{"dc1"}}
	there := &api.Policy{ID: uuid.NewString(), Name: "there", Rules: `key "b" { policy = "write" }`, Datacenters: []string{"dc2"}}
	mustCommit(t, l, &command.ACLSet{Policy: here})
	mustCommit(t, l, &command.ACLSet{Policy: there})
	tok := api.Token{
		Policies: []api.Link{{Name: "here"}, {Name: "there"}}, Roles: []api.Link{{Name: "r"}},
		NodeIdentities: []api.NodeIdentity{{NodeName: "n1", Datacenter: "dc1"}, {NodeName: "n2", Datacenter: "dc2"}},
	}
	NewToken(&tok)
	mustCommit(t, l, &command.ACLSet{Token: &api.SealedToken{Token: tok}})
	h, err := l.holder(tok.SecretID)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		res  acl.Resource
		name string
		want bool
	}{
		{acl.Key, "a", true}, {acl.Key, "b", false}, {acl.Service, "web", true}, {acl.Service, "far", false},
		{acl.Service, "web-sidecar-proxy", true}, {acl.Node, "n1", true}, {acl.Node, "n2", false}, {acl.ACL, "", false},
	} {
		if got := h.Allowed(c.res, c.name, acl.Write); got != c.want {
			t.Errorf("%s %q write = %t, want %t", c.res, c.name, got, c.want)
		}
	}
	res := ask2[*Resolution](t, l, tok.SecretID, Query{Kind: ACLResolve})
	if got := res.Holder(); got.Accessor != tok.AccessorID || !got.Allowed(acl.Key, "a", acl.Write) || got.Allowed(acl.Key, "b", acl.Read) || got.View() != h.View() {
		t.Errorf("the resolution says otherwise than the holder: %+v", res)
	}
	full := ask2[*ExpandedToken](t, l, root, Query{Kind: ACLTokenFull, Name: tok.AccessorID})
	if len(full.ExpandedRoles) != 1 || len(full.ExpandedPolicies) != 1 || full.ExpandedPolicies[0].Name != "here" {
		t.Errorf("expanded: %+v", full)
	}
	mustCommit(t, l, &command.ACLDelete{Policies: []string{here.ID}})
	if h, err = l.holder(tok.SecretID); err != nil || h.Allowed(acl.Key, "a", acl.Read) {
		t.Errorf("a policy that is gone still gives: %v", err)
	}
}

func ask2[T any](t *testing.T, l *Local, token string, q Query) T {
	t.Helper()
	a, err := ask(t, l, token, q)
	if err != nil {
		t.Fatalf("%s: %v", q.Kind, err)
	}
	v, err := Into[T](a)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A request that comes before a new leader has set ACLs up waits for that.
func TestReadsWaitForACLs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := store.New()
		m := &machine{newRaft(s), fsm.New(s, slog.New(slog.DiscardHandler))}
		l := NewLocal(Config{Datacenter: "dc1", Store: s, Raft: m, HoldTimeout: 7 * time.Second, ACLs: ACLs{Enabled: true, DefaultAllow: true}})
		answered := make(chan error, 1)
		go func() {
			_, err := ask(t, l, "", Query{Kind: Nodes})
			answered <- err
		}()
		time.Sleep(3 * time.Second)
		select {
		case err := <-answered:
			t.Fatalf("answered before ACLs are set up: %v", err)
		default:
		}
		c, err := leader.SetUpACLs(s.State(), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Apply(t.Context(), command.Item{Command: c}); err != nil {
			t.Fatal(err)
		}
		if err := <-answered; err != nil {
			t.Errorf("after ACLs are set up: %v", err)
		}
	})
}

func TestBootstrap(t *testing.T) {
	t.Parallel()
	s := store.New()
	m := &machine{newRaft(s), fsm.New(s, slog.New(slog.DiscardHandler))}
	var reset uint64
	l := NewLocal(Config{Datacenter: "dc1", Store: s, Raft: m, HoldTimeout: time.Millisecond, ACLs: ACLs{Enabled: true, ResetIndex: func() uint64 { return reset }}})
	boot := func() (api.Token, error) {
		tok := api.Token{}
		NewToken(&tok)
		return tok, commit(t, l, "", &command.ACLBootstrap{Token: api.SealedToken{Token: tok}})
	}
	if _, err := ask(t, l, "", Query{Kind: Nodes}); api.KindOf(err) != api.Unavailable {
		t.Errorf("before ACLs are set up: %v, want it to wait as for a leader", err)
	}
	c, err := leader.SetUpACLs(s.State(), "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Apply(t.Context(), command.Item{Command: c}); err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, l, "root", Query{Kind: ACLTokens}); err == nil || err.Error() != "ACL system must be bootstrapped before making any requests that require authorization: ACL not found" {
		t.Errorf("a token before the bootstrap: %v", err)
	}
	tok, err := boot()
	if err != nil {
		t.Fatal(err)
	}
	if list := ask2[[]*api.Token](t, l, tok.SecretID, Query{Kind: ACLTokens}); len(list) != 2 {
		t.Errorf("tokens after the bootstrap: %v, want two", list)
	}
	_, err = boot()
	if api.KindOf(err) != api.Forbidden || !strings.Contains(err.Error(), "(reset index: 2)") {
		t.Errorf("a second bootstrap: %v", err)
	}
	reset = 2
	if _, err := boot(); err != nil {
		t.Errorf("a bootstrap with the reset index: %v", err)
	}
}

// With ACLs off nothing is refused but what is about them.
func TestOff(t *testing.T) {
	t.Parallel()
	l, _, _ := setup()
	put(t, l, "a", "1")
	if _, err := ask(t, l, "nonsense", Query{Kind: KVGet, Name: "a"}); err != nil {
		t.Errorf("a read with ACLs off: %v", err)
	}
	if _, err := ask(t, l, "", Query{Kind: ACLTokens}); api.KindOf(err) != api.Unauthorized {
		t.Errorf("tokens with ACLs off: %v, want 401", err)
	}
	if err := commit(t, l, "", &command.ACLSet{Policy: &api.Policy{}}); api.KindOf(err) != api.Unauthorized {
		t.Errorf("a policy with ACLs off: %v, want 401", err)
	}
}

// Tokens of the old API carry their rules, in which every name is a prefix.
func TestLegacyTokens(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{})
	furnish(t, l)
	tok := api.Token{AccessorID: uuid.NewString(), SecretID: "old", Legacy: true, Description: "l", Rules: `key "a" { policy = "read" }`}
	mustCommit(t, l, &command.ACLSet{Token: &api.SealedToken{Token: tok}})
	if got := body1(t, l, "old", Query{Kind: KVKeys}); got != `["a/1","a/2"]` {
		t.Errorf("a legacy rule is one for a prefix: %s", got)
	}
	info := ask2[[]*LegacyToken](t, l, "", Query{Kind: ACLLegacyInfo, Name: "old"})
	if len(info) != 1 || info[0].ID != "old" || info[0].Type != "client" || info[0].Rules != tok.Rules {
		t.Errorf("info: %+v", info)
	}
	if list := ask2[[]*LegacyToken](t, l, root, Query{Kind: ACLLegacyList}); len(list) != 2 {
		t.Errorf("list: %+v, want the token and the management token", list)
	}
	bad := tok
	bad.AccessorID, bad.SecretID, bad.Rules = uuid.NewString(), "x", "key {"
	if err := commit(t, l, root, &command.ACLSet{Token: &api.SealedToken{Token: bad}}); err == nil || !strings.Contains(err.Error(), "Failed to parse") {
		t.Errorf("rules that do not parse: %v", err)
	}
}

// Stored tokens of queries are for managers; a query is carried out as its own token's owner.
func TestPreparedQueriesACL(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{})
	furnish(t, l)
	web := grant(t, l, `service "web" { policy = "read" } node "n1" { policy = "read" }`)
	reader := grant(t, l, `query "find" { policy = "read" }`)
	id := "11111111-1111-1111-1111-111111111111"
	mustCommit(t, l, &command.Query{Verb: command.UpdateQuery, Query: api.PreparedQuery{ID: id, Name: "find", Token: web, Service: api.ServiceQuery{Service: "web"}}})
	mustCommit(t, l, &command.Query{Verb: command.CreateQuery, Query: api.PreparedQuery{ID: uuid.NewString(), Name: "plain", Service: api.ServiceQuery{Service: "web"}}})
	for token, want := range map[string]int{"": 1, reader: 1, root: 1} {
		res := ask2[*api.QueryResult](t, l, token, Query{Kind: QueryExecute, Name: "find"})
		if len(res.Nodes) != want {
			t.Errorf("find gives %d instances, want %d: what its own token sees", len(res.Nodes), want)
		}
	}
	for token, want := range map[string]int{"": 0, reader: 0, web: 1, root: 2} {
		if res := ask2[*api.QueryResult](t, l, token, Query{Kind: QueryExecute, Name: "plain"}); len(res.Nodes) != want {
			t.Errorf("plain gives %d instances, want %d: what the asker sees", len(res.Nodes), want)
		}
	}
	if list := ask2[[]*api.PreparedQuery](t, l, root, Query{Kind: QueryList}); len(list) != 2 || list[0].Token != web && list[1].Token != web {
		t.Errorf("list as management: %+v", list)
	}
	if list := ask2[[]*api.PreparedQuery](t, l, reader, Query{Kind: QueryList}); len(list) != 1 || list[0].Token != api.HiddenToken {
		t.Errorf("list as a reader of one: %+v", list)
	}
	if list := ask2[[]*api.PreparedQuery](t, l, reader, Query{Kind: QueryGet, Name: id}); len(list) != 1 || list[0].Token != api.HiddenToken {
		t.Errorf("get as its reader: %+v", list)
	}
	for _, kind := range []Kind{QueryGet, QueryExplain} {
		if _, err := ask(t, l, web, Query{Kind: kind, Name: map[Kind]string{QueryGet: id, QueryExplain: "find"}[kind]}); api.KindOf(err) != api.Forbidden || !strings.Contains(err.Error(), `'query:read' on "find"`) {
			t.Errorf("%s without the right: %v", kind, err)
		}
	}
	if row, _ := l.cfg.Store.State().Query(id); strings.Contains(row.Token, web) || row.Token == "" {
		t.Errorf("the state shows the query's token: %q", row.Token)
	}
	renames := grant(t, l, `query "other" { policy = "write" }`)
	err := commit(t, l, renames, &command.Query{Verb: command.UpdateQuery, Query: api.PreparedQuery{ID: id, Name: "other", Service: api.ServiceQuery{Service: "web"}}})
	if api.KindOf(err) != api.Forbidden || !strings.Contains(err.Error(), `'query:write' on "find"`) {
		t.Errorf("taking over a query of another name: %v", err)
	}
}

func TestTransactionsACL(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{})
	furnish(t, l)
	some := grant(t, l, `key "a/1" { policy = "write" } key "a/2" { policy = "read" } service "web" { policy = "write" } node "n1" { policy = "read" }`)
	txn := func(ops ...api.TxnOp) *api.TxnAnswer {
		res, err := l.Write(t.Context(), &Write{Token: some, Command: &command.Txn{Ops: ops}})
		if err != nil {
			t.Fatal(err)
		}
		return res.Txn
	}
	before := l.cfg.Store.State().Index()
	got := txn(
		api.TxnOp{KV: &api.TxnKV{Verb: api.TxnSet, Key: "a/1"}},
		api.TxnOp{KV: &api.TxnKV{Verb: api.TxnSet, Key: "a/2"}},
		api.TxnOp{KV: &api.TxnKV{Verb: api.TxnGet, Key: "b/1"}},
		api.TxnOp{KV: &api.TxnKV{Verb: api.TxnDeleteTree, Key: "a/"}},
		api.TxnOp{Node: &api.TxnNode{Verb: api.TxnDelete, Node: api.Node{Node: "n1"}}},
		api.TxnOp{Service: &api.TxnService{Verb: api.TxnSet, Node: "n1", Service: api.Service{ID: "db1", Service: "web"}}},
		api.TxnOp{Check: &api.TxnCheck{Verb: api.TxnDelete, Check: api.Check{Node: "n1", CheckID: "c-node"}}},
		api.TxnOp{Check: &api.TxnCheck{Verb: api.TxnSet, Check: api.Check{Node: "n1", CheckID: "c-db", ServiceID: "web1"}}},
		api.TxnOp{Session: &api.TxnSession{Verb: api.TxnDelete, Session: api.Session{ID: held}}},
	)
	lacks := map[int]string{
		1: `'key:write' on "a/2"`, 2: `'key:read' on "b/1"`, 3: `'key:write' on everything that begins with "a/"`, 4: `'node:write' on "n1"`,
		5: `'service:write' on "db"`, 6: `'node:write' on "n1"`, 7: `'service:write' on "db"`, 8: `'session:write' on "n1"`,
	}
	if len(got.Errors) != len(lacks) {
		t.Errorf("%d operations refused, want %d: %+v", len(got.Errors), len(lacks), got.Errors)
	}
	for _, e := range got.Errors {
		if !strings.Contains(e.What, lacks[e.OpIndex]) || lacks[e.OpIndex] == "" {
			t.Errorf("operation %d: %s, want it to lack %q", e.OpIndex, e.What, lacks[e.OpIndex])
		}
	}
	if after := l.cfg.Store.State().Index(); after != before {
		t.Errorf("what was refused moved the index from %d to %d", before, after)
	}
	got = txn(append(everyRead, api.TxnOp{KV: &api.TxnKV{Verb: api.TxnSet, Key: "a/1"}})...)
	if len(got.Errors) != 0 || len(got.Results) != 7 {
		t.Errorf("all of it may be done: %+v", got)
	}
	got = txn(api.TxnOp{Check: &api.TxnCheck{Verb: api.TxnGet, Check: api.Check{Node: "n1", CheckID: "c-db"}}}, api.TxnOp{KV: &api.TxnKV{Verb: api.TxnGetTree, Key: "a"}})
	if len(got.Errors) != 0 || len(got.Results) != 2 {
		t.Errorf("what may not be seen shall be left out: %+v", got)
	}
}

func TestSessionsACL(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{})
	furnish(t, l)
	reads, writes := grant(t, l, `session "n1" { policy = "read" }`), grant(t, l, `session "n1" { policy = "write" }`)
	for token, want := range map[string]int{"": 0, reads: 1, root: 1} {
		for _, kind := range []Kind{SessionList, SessionInfo} {
			if got := ask2[[]*api.Session](t, l, token, Query{Kind: kind, Name: held}); len(got) != want {
				t.Errorf("%s: %d sessions, want %d", kind, len(got), want)
			}
		}
	}
	if _, err := ask(t, l, reads, Query{Kind: SessionRenew, Name: held}); api.KindOf(err) != api.Forbidden {
		t.Errorf("renewing with the right to read: %v", err)
	}
	if _, err := ask(t, l, writes, Query{Kind: SessionRenew, Name: held}); err != nil {
		t.Errorf("renewing: %v", err)
	}
	if err := commit(t, l, writes, &command.CreateSession{Session: api.Session{Node: "n2"}}); api.KindOf(err) != api.Forbidden {
		t.Errorf("a session on another node: %v", err)
	}
	if err := commit(t, l, writes, &command.EndSession{ID: held}); err != nil {
		t.Errorf("ending: %v", err)
	}
}

// lets is a Login that lets everybody in who says so.
type lets struct{ bound []Binding }

func (lets) Valid(*api.AuthMethod) error                       { return nil }
func (lets) ValidRule(*api.AuthMethod, *api.BindingRule) error { return nil }
func (l lets) Enter(_ context.Context, _ *api.AuthMethod, rules []*api.BindingRule, bearer string) ([]Binding, error) {
	if bearer != "please" || len(rules) != 1 {
		return nil, api.Errorf(api.Forbidden, "Permission denied: no")
	}
	return l.bound, nil
}

func TestLogin(t *testing.T) {
	t.Parallel()
	l := guarded(t, ACLs{Login: lets{[]Binding{{api.BindService, "web"}, {api.BindNode, "n1"}, {api.BindRole, "r"}, {api.BindRole, "gone"}, {api.BindPolicy, "builtin/global-read-only"}}}})
	mustCommit(t, l, &command.ACLSet{Role: &api.Role{ID: uuid.NewString(), Name: "r"}})
	mustCommit(t, l, &command.ACLSet{Method: &api.AuthMethod{Name: "m", Type: "jwt", MaxTokenTTL: api.Duration(time.Hour)}})
	rule := &api.BindingRule{ID: uuid.NewString(), AuthMethod: "m", BindType: api.BindService, BindName: "web"}
	mustCommit(t, l, &command.ACLSet{Rule: rule})
	enter := func(method, bearer string) (api.Token, error) {
		tok := api.Token{}
		NewToken(&tok)
		return tok, commit(t, l, "", &command.ACLLogin{Method: method, BearerToken: bearer, Meta: map[string]string{"pod": "p"}, AccessorID: tok.AccessorID, SecretID: tok.SecretID})
	}
	tok, err := enter("M", "please")
	if err != nil {
		t.Fatal(err)
	}
	self := ask2[*api.Token](t, l, tok.SecretID, Query{Kind: ACLTokenSelf})
	if !self.Local || self.AuthMethod != "m" || self.ExpirationTime == nil || len(self.ServiceIdentities) != 1 || len(self.NodeIdentities) != 1 ||
		len(self.Roles) != 1 || len(self.Policies) != 1 || self.Description != `token created via login: {"pod":"p"}` {
		t.Errorf("the token of a login: %+v", self)
	}
	for want, in := range map[string][2]string{"Permission denied": {"m", "no"}, "ACL not found": {"other", "please"}} {
		if _, err := enter(in[0], in[1]); api.KindOf(err) != api.Forbidden || !strings.Contains(err.Error(), want) {
			t.Errorf("login %v: %v, want 403 %s", in, err, want)
		}
	}
	for name, bad := range map[string]command.Command{
		"no BindType is set":   &command.ACLSet{Rule: &api.BindingRule{ID: uuid.NewString(), AuthMethod: "m"}},
		"unknown BindType":     &command.ACLSet{Rule: &api.BindingRule{ID: uuid.NewString(), AuthMethod: "m", BindType: "x"}},
		"no BindName is set":   &command.ACLSet{Rule: &api.BindingRule{ID: uuid.NewString(), AuthMethod: "m", BindType: api.BindRole}},
		"cannot find auth met": &command.ACLSet{Rule: &api.BindingRule{ID: uuid.NewString(), AuthMethod: "zz"}},
		"MaxTokenTTL 1s":       &command.ACLSet{Method: &api.AuthMethod{Name: "n", MaxTokenTTL: api.Duration(time.Second)}},
		"TokenLocality should": &command.ACLSet{Method: &api.AuthMethod{Name: "n", TokenLocality: "x"}},
		"invalid Name":         &command.ACLSet{Method: &api.AuthMethod{Name: "n n"}},
	} {
		if err := commit(t, l, root, bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("got %v, want it to say %q", err, name)
		}
	}
	if err := commit(t, l, root, &command.ACLLogout{}); api.KindOf(err) != api.Forbidden {
		t.Errorf("logging out a token that is of no login: %v", err)
	}
	if err := commit(t, l, tok.SecretID, &command.ACLLogout{}); err != nil {
		t.Errorf("logout: %v", err)
	}
	if _, err := ask(t, l, tok.SecretID, Query{Kind: ACLTokenSelf}); api.KindOf(err) != api.Forbidden {
		t.Errorf("after the logout: %v", err)
	}
	l.cfg.ACLs.Login = lets{}
	if _, err := enter("m", "please"); api.KindOf(err) != api.Forbidden || !strings.Contains(err.Error(), "gives this login anything") {
		t.Errorf("a login that is bound to nothing: %v", err)
	}
}

// A token is nobody's from the moment it expires, whether or not it has been removed.
func TestTokenExpires(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := guarded(t, ACLs{})
		tok := api.Token{ExpirationTTL: api.Duration(time.Minute)}
		NewToken(&tok)
		mustCommit(t, l, &command.ACLSet{Mode: command.Create, Token: &api.SealedToken{Token: tok}})
		time.Sleep(time.Minute - time.Nanosecond)
		if _, err := ask(t, l, tok.SecretID, Query{Kind: ACLTokenSelf}); err != nil {
			t.Errorf("just before it expires: %v", err)
		}
		time.Sleep(time.Nanosecond)
		if _, err := ask(t, l, tok.SecretID, Query{Kind: ACLTokenSelf}); api.KindOf(err) != api.Forbidden || !strings.Contains(err.Error(), "ACL not found") {
			t.Errorf("once it is expired: %v", err)
		}
		if _, err := ask(t, l, root, Query{Kind: ACLToken, Name: tok.AccessorID}); api.KindOf(err) != api.Forbidden {
			t.Errorf("reading one that is expired: %v", err)
		}
		if got := l.cfg.Store.State().ExpiredTokens(time.Now(), 9); len(got) != 1 || got[0] != tok.AccessorID {
			t.Errorf("to be removed: %v", got)
		}
	})
}

// A blocking read is judged again when it wakes: a token that lost its rights sees nothing.
func TestBlockedReadIsJudgedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := guarded(t, ACLs{})
		furnish(t, l)
		p := &api.Policy{ID: uuid.NewString(), Name: "p", Rules: `key "a/1" { policy = "read" }`}
		mustCommit(t, l, &command.ACLSet{Mode: command.Create, Policy: p})
		tok := api.Token{Policies: []api.Link{{ID: p.ID}}}
		NewToken(&tok)
		mustCommit(t, l, &command.ACLSet{Mode: command.Create, Token: &api.SealedToken{Token: tok}})
		a, err := ask(t, l, tok.SecretID, Query{Kind: KVGet, Name: "a/1"})
		if err != nil {
			t.Fatal(err)
		}
		got := make(chan error, 1)
		go func() {
			_, err := l.Read(t.Context(), &Query{Kind: KVGet, Name: "a/1", QueryOptions: api.QueryOptions{Token: tok.SecretID, MinIndex: a.Meta.Index}})
			got <- err
		}()
		synctest.Wait()
		next := *p
		next.Rules = `key "a/1" { policy = "deny" }`
		mustCommit(t, l, &command.ACLSet{Mode: command.Update, Policy: &next})
		mustCommit(t, l, &command.KV{Verb: command.Set, Pair: api.KVPair{Key: "a/1", Value: []byte("new")}})
		if err := <-got; api.KindOf(err) != api.Forbidden {
			t.Errorf("the woken read: %v, want it refused", err)
		}
	})
}

func BenchmarkHolder(b *testing.B) {
	l := guarded(b, ACLs{})
	secret := grant(b, l, `key_prefix "a/" { policy = "write" } service_prefix "" { policy = "read" }`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := l.holder(secret); err != nil {
			b.Fatal(err)
		}
	}
}
