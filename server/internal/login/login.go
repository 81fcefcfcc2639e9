// Package login is what auth methods do: it checks a method's configuration, verifies what
// a client presents, and says what binding rules give to whoever that is. There is one
// type of method: jwt, with keys given in the configuration, fetched from a JWKS URL, or found
// by OIDC discovery. Methods of type kubernetes can be kept, so that configurations that
// have them apply as a whole, but nobody logs in over one.
//
// It knows no tokens and no state. The leader's endpoint calls it.
package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/hashicorp/go-bexpr"
	"github.com/hashicorp/go-bexpr/grammar"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// The types of auth methods.
const (
	typeJWT        = "jwt"
	typeKubernetes = "kubernetes"
)

// Methods carries logins out. Its methods may be called concurrently.
type Methods struct{ keys keyrings }

var _ endpoint.Login = (*Methods)(nil)

// New makes a Methods; it fetches nothing before somebody logs in.
func New() *Methods { return &Methods{keys: keyrings{sets: map[string]*keyring{}}} }

// identity is who somebody is, by the names of the method's claim mappings.
type identity struct {
	value map[string]string
	list  map[string][]string
}

// row is an identity as selectors see it.
func (i *identity) row() map[string]any { return map[string]any{"value": i.value, "list": i.list} }

// Valid checks a method's type and configuration.
func (*Methods) Valid(m *api.AuthMethod) error {
	switch m.Type {
	case typeJWT:
		_, err := parse(m)
		return err
	case typeKubernetes:
		return validKubernetes(m)
	}
	return api.Errorf(api.Internal, "Invalid Auth Method: Type should be one of: [jwt kubernetes]")
}

// validKubernetes sees that a configuration is one; more is not asked of what nobody uses.
func validKubernetes(m *api.AuthMethod) error {
	var c struct{ Host, CACert, ServiceAccountJWT string }
	if err := json.Unmarshal(m.Config, &c); err != nil {
		return api.Errorf(api.Internal, "Invalid Auth Method: error decoding config: %v", err)
	}
	for key, v := range map[string]string{"Host": c.Host, "CACert": c.CACert, "ServiceAccountJWT": c.ServiceAccountJWT} {
		if v == "" {
			return api.Errorf(api.Internal, "Invalid Auth Method: Config.%s is required", key)
		}
	}
	return nil
}

// nobody has the names that an identity of m can have, all empty.
func nobody(m *api.AuthMethod) (*identity, error) {
	who := &identity{value: map[string]string{}, list: map[string][]string{}}
	if m.Type == typeKubernetes {
		for _, k := range []string{"serviceaccount.namespace", "serviceaccount.name", "serviceaccount.uid"} {
			who.value[k] = ""
		}
		return who, nil
	}
	c, err := parse(m)
	if err != nil {
		return nil, err
	}
	for _, name := range c.ClaimMappings {
		who.value[name] = ""
	}
	for _, name := range c.ListClaimMappings {
		who.list[name] = nil
	}
	return who, nil
}

// ValidRule checks that a rule speaks of names that logins over m have.
func (*Methods) ValidRule(m *api.AuthMethod, r *api.BindingRule) error {
	who, err := nobody(m)
	if err != nil {
		return err
	}
	if m.Type != typeKubernetes { // whose selectors lead through a struct that is not here
		err := known(r.Selector, who)
		if err == nil {
			_, err = selects(r, who)
		}
		if err != nil {
			return api.Errorf(api.Internal, "invalid Binding Rule: Selector is invalid: %v", err)
		}
	}
	if _, err := fill(r.BindName, who); err != nil {
		return api.Errorf(api.Internal, "Invalid Binding Rule: invalid BindName: %v", err)
	}
	return nil
}

// Enter verifies what a client presents, and gives what the rules bind it to.
func (l *Methods) Enter(ctx context.Context, m *api.AuthMethod, rules []*api.BindingRule, bearer string) ([]endpoint.Binding, error) {
	if m.Type != typeJWT {
		return nil, api.Errorf(api.Forbidden, "Permission denied: auth method %q is of type %s, over which Rollcall lets nobody in: "+
			"use type jwt with the cluster's issuer as OIDCDiscoveryURL", m.Name, m.Type)
	}
	c, err := parse(m)
	if err != nil {
		return nil, err
	}
	who, err := l.verify(ctx, c, bearer)
	if err != nil {
		return nil, api.Errorf(api.Forbidden, "Permission denied: auth method %q: %v", m.Name, err)
	}
	var out []endpoint.Binding
	for _, r := range rules {
		ok, err := selects(r, who)
		if err != nil {
			return nil, fmt.Errorf("selector of binding rule %s: %w", r.ID, err)
		}
		if !ok {
			continue
		}
		name, err := fill(r.BindName, who)
		if err != nil {
			return nil, fmt.Errorf("name of binding rule %s: %w", r.ID, err)
		}
		if r.BindType == api.BindService || r.BindType == api.BindNode {
			name = strings.ToLower(name)
		}
		out = append(out, endpoint.Binding{Type: r.BindType, Name: name})
	}
	return out, nil
}

// known refuses a selector that speaks of names which nobody has.
func known(text string, who *identity) error {
	if text == "" {
		return nil
	}
	tree, err := grammar.Parse("", []byte(text))
	if err != nil {
		return err
	}
	return knownIn(tree.(grammar.Expression), who)
}

func knownIn(e grammar.Expression, who *identity) error {
	switch e := e.(type) {
	case *grammar.UnaryExpression:
		return knownIn(e.Operand, who)
	case *grammar.BinaryExpression:
		return errors.Join(knownIn(e.Left, who), knownIn(e.Right, who))
	case *grammar.MatchExpression:
		path := e.Selector.Path
		if len(path) == 2 {
			_, value := who.value[path[1]]
			_, list := who.list[path[1]]
			if path[0] == "value" && value || path[0] == "list" && list {
				return nil
			}
		}
		return fmt.Errorf("%s is not known: claim mappings of the auth method give names, used like value.name and list.name", strings.Join(path, "."))
	}
	return errors.New("any and all have no meaning in a selector")
}

// selects reports whether a rule is for who; an empty selector is for everybody.
func selects(r *api.BindingRule, who *identity) (bool, error) {
	if r.Selector == "" {
		return true, nil
	}
	e, err := bexpr.CreateEvaluator(r.Selector)
	if err != nil {
		return false, err
	}
	return e.Evaluate(who.row())
}

var part = regexp.MustCompile(`\$\{([^}]*)\}?`)

// fill puts values in the place of the parts of a name like ${value.x}.
func fill(name string, who *identity) (string, error) {
	var wrong error
	out := part.ReplaceAllStringFunc(name, func(p string) string {
		inner, closed := strings.CutSuffix(strings.TrimPrefix(p, "${"), "}")
		key, ok := strings.CutPrefix(strings.TrimSpace(inner), "value.")
		if !ok {
			key = strings.TrimSpace(inner) // kubernetes names stand alone
		}
		v, known := who.value[key]
		if !known || !closed {
			wrong = fmt.Errorf("%s is not known: claim mappings of the auth method give names, used like ${value.name}", p)
		}
		return v
	})
	return out, wrong
}
