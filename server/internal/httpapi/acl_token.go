package httpapi

import (
	"context"
	"net/http"
	"strings"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/acl"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

func aclTokens(ctx context.Context, r *request) (*reply, error) {
	return r.aclRead(ctx, &endpoint.Query{Kind: endpoint.ACLTokens, Args: r.aclArgs("policy", "role", "authmethod", "servicename")})
}

func aclTokenSelf(ctx context.Context, r *request) (*reply, error) {
	return r.aclRead(ctx, &endpoint.Query{Kind: endpoint.ACLTokenSelf})
}

func aclToken(ctx context.Context, r *request) (*reply, error) {
	id, err := r.name("token ID")
	if err != nil {
		return nil, err
	}
	full, err := r.query.flag("expanded")
	if err != nil {
		return nil, err
	}
	if !full {
		return r.aclRead(ctx, &endpoint.Query{Kind: endpoint.ACLToken, Name: id})
	}
	rep, err := r.aclRead(ctx, &endpoint.Query{Kind: endpoint.ACLTokenFull, Name: id})
	if err != nil {
		return nil, err
	}
	t, err := endpoint.Into[*endpoint.ExpandedToken](rep.answer)
	if err != nil || t == nil {
		return rep, err
	}
	here := *t
	here.AgentACLDefaultPolicy, here.AgentACLDownPolicy, here.ResolvedByAgent = r.server.cfg.ACL.DefaultPolicy, r.server.cfg.ACL.DownPolicy, r.server.cfg.Node
	h := http.Header{}
	setMeta(h, rep.answer, indexMeta)
	return &reply{value: &here, header: h}, nil
}

func aclSetToken(mode command.Mode) handler {
	return func(ctx context.Context, r *request) (*reply, error) {
		var in api.Token
		if err := r.aclBody("Token", &in); err != nil {
			return nil, err
		}
		if mode == command.Update {
			if in.AccessorID != "" && in.AccessorID != r.tail {
				return nil, api.Errorf(api.Invalid, "Bad request: Token Accessor ID in URL and payload do not match")
			}
			in.AccessorID = r.tail
		} else {
			endpoint.NewToken(&in)
		}
		return r.setToken(ctx, mode, in)
	}
}

func (r *request) setToken(ctx context.Context, mode command.Mode, t api.Token) (*reply, error) {
	c := &command.ACLSet{Mode: mode, Token: &api.SealedToken{Token: t}}
	return r.aclWritten(ctx, c, endpoint.Query{Kind: endpoint.ACLToken, Name: t.AccessorID}, &t)
}

func aclUpdateToken(ctx context.Context, r *request) (*reply, error) {
	if _, err := r.name("token ID"); err != nil {
		return nil, err
	}
	if id, ok := strings.CutSuffix(r.tail, "/clone"); ok {
		return aclCloneToken(ctx, r, id)
	}
	return aclSetToken(command.Update)(ctx, r)
}

// aclCloneToken makes a token with the rights of another one.
func aclCloneToken(ctx context.Context, r *request, id string) (*reply, error) {
	var in struct{ Description string }
	if r.ContentLength != 0 {
		if err := r.aclBody("Token", &in); err != nil {
			return nil, err
		}
	}
	a, err := r.aclFresh(ctx, endpoint.Query{Kind: endpoint.ACLToken, Name: id}, r.opts.Token)
	if err != nil {
		return nil, err
	}
	from, err := endpoint.Into[*api.Token](a)
	if err != nil {
		return nil, err
	}
	if from.AuthMethod != "" {
		return nil, api.Errorf(api.Internal, "Cannot clone a token created from an auth method")
	}
	next := api.Token{
		Description: from.Description, Policies: from.Policies, Roles: from.Roles, ServiceIdentities: from.ServiceIdentities,
		NodeIdentities: from.NodeIdentities, Local: from.Local, ExpirationTime: from.ExpirationTime, Rules: from.Rules, Legacy: from.Legacy,
	}
	if in.Description != "" {
		next.Description = in.Description
	}
	endpoint.NewToken(&next)
	return r.setToken(ctx, command.Create, next)
}

func aclDeleteToken(ctx context.Context, r *request) (*reply, error) {
	id, err := r.name("token ID")
	if err != nil {
		return nil, err
	}
	if err := r.aclWrite(ctx, &command.ACLDelete{Tokens: []string{id}}); err != nil {
		return nil, err
	}
	return &reply{value: true}, nil
}

func aclBootstrap(ctx context.Context, r *request) (*reply, error) {
	var in struct{ BootstrapSecret string }
	if r.ContentLength != 0 {
		if err := r.aclBody("Token", &in); err != nil {
			return nil, err
		}
	}
	t := api.Token{SecretID: in.BootstrapSecret}
	endpoint.NewToken(&t)
	return r.entered(ctx, &command.ACLBootstrap{Token: api.SealedToken{Token: t}}, endpoint.Query{Kind: endpoint.ACLTokenSelf}.Written(), t.SecretID)
}

// entered commits what makes a token, and answers with it, as its bearer reads it by q.
func (r *request) entered(ctx context.Context, c command.Command, q endpoint.Query, secret string) (*reply, error) {
	if err := r.aclWrite(ctx, c); err != nil {
		return nil, err
	}
	a, err := r.aclFresh(ctx, q, secret)
	if err != nil {
		return nil, err
	}
	return &reply{answer: a, meta: noMeta}, nil
}

func aclLogin(ctx context.Context, r *request) (*reply, error) {
	var in struct {
		AuthMethod, BearerToken string
		Meta                    map[string]string
	}
	if err := r.aclBody("Login", &in); err != nil {
		return nil, err
	}
	t := api.Token{}
	endpoint.NewToken(&t)
	return r.entered(ctx, &command.ACLLogin{
		Method: in.AuthMethod, BearerToken: in.BearerToken, Meta: in.Meta, AccessorID: t.AccessorID, SecretID: t.SecretID,
	}, endpoint.Query{Kind: endpoint.ACLTokenSelf}, t.SecretID)
}

// brought reports whether the request has a token of its own.
func (r *request) brought() bool { return r.opts.Token != "" && !r.byDefault }

func aclLogout(ctx context.Context, r *request) (*reply, error) {
	if !r.brought() {
		return nil, api.ErrACLNotFound
	}
	return nil, r.aclWrite(ctx, &command.ACLLogout{})
}

// legacyToken is the body of the old API's writes.
type legacyToken struct{ ID, Name, Type, Rules string }

// anonymousSecret is how the old API calls the anonymous token.
const anonymousSecret = "anonymous"

// bySecret finds a token by its secret, nil if there is none.
func (r *request) bySecret(ctx context.Context, secret string) (*api.Token, error) {
	a, err := r.aclFresh(ctx, endpoint.Query{Kind: endpoint.ACLTokenSelf}, secret)
	if api.KindOf(err) == api.Forbidden {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return endpoint.Into[*api.Token](a)
}

// aclLegacySet writes a token as the API of before 1.4 has it: with rules of its own, by its
// secret. One that is not there is made, also by an update.
func aclLegacySet(ctx context.Context, r *request) (*reply, error) {
	in := legacyToken{Type: "client"}
	if err := r.aclBody("ACL", &in); err != nil {
		return nil, err
	}
	if strings.HasSuffix(r.URL.Path, "/update") && in.ID == "" {
		return nil, api.Errorf(api.Invalid, "ACL ID must be set")
	}
	return r.legacySet(ctx, in)
}

func (r *request) legacySet(ctx context.Context, in legacyToken) (*reply, error) {
	t := api.Token{SecretID: in.ID, Description: in.Name}
	switch in.Type {
	case "", "client":
		t.Legacy, t.Rules = true, in.Rules
	case "management":
		t.Policies = []api.Link{{ID: acl.ManagementID}}
	default:
		return nil, api.Errorf(api.Internal, "Invalid ACL Type")
	}
	switch in.ID {
	case "":
	case anonymousSecret:
		t.AccessorID = acl.AnonymousID
	default:
		cur, err := r.bySecret(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		if cur != nil {
			t.AccessorID, t.Local = cur.AccessorID, cur.Local
		}
	}
	endpoint.NewToken(&t)
	if err := r.aclWrite(ctx, &command.ACLSet{Mode: command.Upsert, Token: &api.SealedToken{Token: t}}); err != nil {
		return nil, err
	}
	return &reply{value: map[string]string{"ID": t.SecretID}}, nil
}

func aclLegacyDestroy(ctx context.Context, r *request) (*reply, error) {
	secret, err := r.name("ACL")
	if err != nil {
		return nil, err
	}
	if secret == anonymousSecret {
		return nil, api.Errorf(api.Forbidden, "Permission denied: Cannot delete anonymous token")
	}
	cur, err := r.bySecret(ctx, secret)
	if err != nil {
		return nil, err
	}
	c := &command.ACLDelete{} // also where there is none: who may not delete is told so
	if cur != nil {
		c.Tokens = []string{cur.AccessorID}
	}
	if err := r.aclWrite(ctx, c); err != nil {
		return nil, err
	}
	return &reply{value: true}, nil
}

func aclLegacyClone(ctx context.Context, r *request) (*reply, error) {
	secret, err := r.name("ACL")
	if err != nil {
		return nil, err
	}
	a, err := r.aclFresh(ctx, endpoint.Query{Kind: endpoint.ACLLegacyInfo, Name: secret}, r.opts.Token)
	if err != nil {
		return nil, err
	}
	list, err := endpoint.Into[[]*endpoint.LegacyToken](a)
	if err != nil {
		return nil, err
	}
	if len(list) == 0 {
		return nil, api.Errorf(api.Forbidden, "Permission denied: there is no ACL with this ID to clone")
	}
	return r.legacySet(ctx, legacyToken{Name: list[0].Name, Type: list[0].Type, Rules: list[0].Rules})
}
