package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	consul "github.com/hashicorp/consul/api"
)

const rootToken = "11111111-2222-3333-4444-555555555555"

// One datacenter keeps the ACLs; a second copies all of them, a third all but the tokens.
func TestACLReplication(t *testing.T) {
	t.Parallel()
	conf := func(more string) string {
		file := filepath.Join(t.TempDir(), "acl.hcl")
		write(t, file, `primary_datacenter = "dc1"
acl { enabled = true, default_policy = "deny", token_ttl = "1s", `+more+` tokens { agent = "`+rootToken+`", default = "`+rootToken+`", replication = "`+rootToken+`", initial_management = "`+rootToken+`" } }`)
		return "-config-file=" + file
	}
	one := startAgent(t, "one", options{}, "-server", "-bootstrap-expect=1", conf(""))
	two := startAgent(t, "two", options{}, "-server", "-bootstrap-expect=1", "-datacenter=dc2", "-retry-join-wan="+one.wan, conf("enable_token_replication = true,"))
	three := startAgent(t, "three", options{}, "-server", "-bootstrap-expect=1", "-datacenter=dc3", "-retry-join-wan="+one.wan, conf(""))
	for _, a := range []*agent{one, two, three} {
		a.awaitLeader() // which needs the token to be known there
	}
	r := &replicated{t: t, one: one, two: two, three: three}
	r.inPrimary()
	r.inSecondary()
	r.login()
	r.status()
	r.withoutPrimary()
}

type replicated struct {
	t               *testing.T
	one, two, three *agent
	token           *consul.ACLToken // global, reads keys below a/
}

// may waits until a token may read a key there, or may not.
func (r *replicated) may(a *agent, secret, key string, want int) {
	r.t.Helper()
	eventually(r.t, 20*time.Second, fmt.Sprintf("%s of %s by a token", key, a.name), func() error {
		code, body, err := get(a.url + "/v1/kv/" + key + "?token=" + secret)
		if err != nil || code != want {
			return fmt.Errorf("%d %q, %v; want %d", code, body, err, want)
		}
		return nil
	})
}

// What is written in the primary holds everywhere.
func (r *replicated) inPrimary() {
	acls := r.one.client().ACL()
	p, _, err := acls.PolicyCreate(&consul.ACLPolicy{Name: "reader", Rules: `key_prefix "a/" { policy = "read" }`}, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	if r.token, _, err = acls.TokenCreate(&consul.ACLToken{Policies: []*consul.ACLLink{{ID: p.ID}}}, nil); err != nil {
		r.t.Fatal(err)
	}
	for _, a := range []*agent{r.one, r.two, r.three} {
		r.may(a, r.token.SecretID, "a/x", http.StatusNotFound)
		r.may(a, r.token.SecretID, "b/x", http.StatusForbidden)
	}
	p.Rules = `key_prefix "b/" { policy = "read" }`
	if _, _, err := acls.PolicyUpdate(p, nil); err != nil {
		r.t.Fatal(err)
	}
	for _, a := range []*agent{r.two, r.three} {
		r.may(a, r.token.SecretID, "a/x", http.StatusForbidden)
		r.may(a, r.token.SecretID, "b/x", http.StatusNotFound)
	}
}

// What is written elsewhere is written in the primary, but for local tokens.
func (r *replicated) inSecondary() {
	t := r.t
	for _, a := range []*agent{r.two, r.three} {
		name := "by-" + a.name
		p, _, err := a.client().ACL().PolicyCreate(&consul.ACLPolicy{Name: name, Rules: `key_prefix "` + name + `/" { policy = "write" }`}, nil)
		if err != nil || len(p.Hash) == 0 {
			t.Fatalf("%+v, %v", p, err)
		}
		role, _, err := a.client().ACL().RoleCreate(&consul.ACLRole{Name: name, Policies: []*consul.ACLRolePolicyLink{{ID: p.ID}}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		tok, _, err := a.client().ACL().TokenCreate(&consul.ACLToken{Roles: []*consul.ACLLink{{ID: role.ID}}}, nil)
		if err != nil || tok.SecretID == "" {
			t.Fatalf("%+v, %v", tok, err)
		}
		for _, b := range []*agent{r.one, r.two, r.three} {
			r.may(b, tok.SecretID, name+"/x", http.StatusNotFound)
		}
		if _, err := a.client().ACL().TokenDelete(tok.AccessorID, nil); err != nil {
			t.Fatal(err)
		}
		for _, b := range []*agent{r.one, r.two, r.three} {
			r.may(b, tok.SecretID, name+"/x", http.StatusForbidden)
		}
	}
	tok, _, err := r.two.client().ACL().TokenCreate(&consul.ACLToken{Local: true, ServiceIdentities: []*consul.ACLServiceIdentity{{ServiceName: "web"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if code, body, err := get(r.two.url + "/v1/acl/token/self?token=" + tok.SecretID); err != nil || code != 200 {
		t.Errorf("a local token at home: %d %s, %v", code, body, err)
	}
	if code, _, err := get(r.one.url + "/v1/acl/token/self?token=" + tok.SecretID); err != nil || code != 403 {
		t.Errorf("a local token elsewhere: %d, %v", code, err)
	}
	list, _, err := r.three.client().ACL().TokenList(nil)
	if err != nil || len(list) < 3 {
		t.Errorf("the third datacenter lists the primary's tokens: %d, %v", len(list), err)
	}
	if _, _, err := r.three.client().ACL().Login(&consul.ACLLoginParams{AuthMethod: "m", BearerToken: "b"}, nil); err == nil || !strings.Contains(err.Error(), "Token replication is required") {
		t.Errorf("a login where tokens are not kept: %v", err)
	}
}

// A datacenter that has the tokens has logins of its own, whose tokens hold there alone.
func (r *replicated) login() {
	t := r.t
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	bearer, err := jwt.Signed(signer).Claims(map[string]any{"sub": "ci", "iat": time.Now().Unix(), "exp": time.Now().Add(time.Hour).Unix()}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	acls := r.two.client().ACL()
	method := &consul.ACLAuthMethod{Name: "ci", Type: "jwt", TokenLocality: "global", Config: map[string]any{
		"JWTValidationPubKeys": []string{string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}, "JWTSupportedAlgs": []string{"ES256"},
		"ClaimMappings": map[string]string{"sub": "who"},
	}}
	if _, _, err := acls.AuthMethodCreate(method, nil); err == nil || !strings.Contains(err.Error(), "can only be used in the primary datacenter") {
		t.Errorf("global tokens by logins of a secondary: %v", err)
	}
	method.TokenLocality = "local"
	if _, _, err := acls.AuthMethodCreate(method, nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := acls.BindingRuleCreate(&consul.ACLBindingRule{AuthMethod: "ci", BindType: "service", BindName: "web-${value.who}"}, nil); err != nil {
		t.Fatal(err)
	}
	tok, _, err := acls.Login(&consul.ACLLoginParams{AuthMethod: "ci", BearerToken: bearer}, nil)
	if err != nil || !tok.Local || len(tok.ServiceIdentities) != 1 || tok.ServiceIdentities[0].ServiceName != "web-ci" {
		t.Fatalf("login: %+v, %v", tok, err)
	}
	for a, want := range map[*agent]int{r.two: 200, r.one: 403} {
		if code, body, err := get(a.url + "/v1/acl/token/self?token=" + tok.SecretID); err != nil || code != want {
			t.Errorf("its token in %s: %d %s, %v; want %d", a.name, code, body, err, want)
		}
	}
	if _, err := r.two.as(tok.SecretID).ACL().Logout(nil); err != nil {
		t.Error(err)
	}
	r.may(r.two, tok.SecretID, "a/x", http.StatusForbidden)
}

func (r *replicated) status() {
	for a, want := range map[*agent]string{r.one: "", r.two: "tokens", r.three: "policies"} {
		got, _, err := a.client().ACL().Replication(nil)
		if err != nil || got.Enabled != (want != "") || got.ReplicationType != want {
			r.t.Errorf("%s: %+v, %v; want type %q", a.name, got, err, want)
			continue
		}
		if want != "" && (!got.Running || got.SourceDatacenter != "dc1" || got.ReplicatedIndex == 0 || got.LastSuccess.IsZero()) {
			r.t.Errorf("%s: %+v", a.name, got)
		}
	}
}

// A datacenter that has the tokens goes on without the primary; one that has not, with
// those it has asked for.
func (r *replicated) withoutPrimary() {
	r.may(r.three, r.token.SecretID, "b/x", http.StatusNotFound)
	r.one.kill()
	r.may(r.two, r.token.SecretID, "b/x", http.StatusNotFound)
	r.may(r.three, r.token.SecretID, "b/x", http.StatusNotFound)
	eventually(r.t, 20*time.Second, "the status tells", func() error {
		var got struct{ LastErrorMessage string }
		if err := r.two.json("/v1/acl/replication", &got); err != nil || !strings.Contains(got.LastErrorMessage, `no server of "dc1" answers`) {
			return fmt.Errorf("%+v, %v", got, err)
		}
		return nil
	})
	if _, _, err := r.two.client().ACL().PolicyCreate(&consul.ACLPolicy{Name: "late"}, nil); err == nil || !strings.Contains(err.Error(), `no server of "dc1" answers`) {
		r.t.Errorf("a policy without the primary: %v", err)
	}
	r.one.run()
	eventually(r.t, 30*time.Second, "and can be written again", func() error {
		code, body, err := r.two.get("/v1/acl/policies?dc=dc1")
		if err != nil || code != 200 {
			return fmt.Errorf("%d %s, %v", code, body, err)
		}
		return nil
	})
}
