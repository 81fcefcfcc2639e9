package login

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func pemOf(t *testing.T, k crypto.PublicKey) string {
	t.Helper()
	b, err := x509.MarshalPKIXPublicKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: b}))
}

func sign(t *testing.T, k *ecdsa.PrivateKey, claims map[string]any) string {
	t.Helper()
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: k}, nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := jwt.Signed(s).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// method is a jwt method with further configuration.
func method(t *testing.T, more map[string]any) *api.AuthMethod {
	t.Helper()
	c := map[string]any{
		"JWTSupportedAlgs": []string{"ES256"}, "BoundIssuer": "corp", "BoundAudiences": []string{"rollcall"},
		"ClaimMappings": map[string]string{"sub": "name", "/org/unit": "unit"}, "ListClaimMappings": map[string]string{"groups": "groups"},
	}
	for k, v := range more {
		c[k] = v
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return &api.AuthMethod{Name: "m", Type: "jwt", Config: b}
}

func claims(change func(map[string]any)) map[string]any {
	c := map[string]any{
		"iss": "corp", "aud": "rollcall", "sub": "Joe", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(),
		"groups": []string{"dev", "ops"}, "org": map[string]any{"unit": 7},
	}
	if change != nil {
		change(c)
	}
	return c
}

var rules = []*api.BindingRule{
	{ID: "1", BindType: api.BindService, BindName: "web-${ value.name }"},
	{ID: "2", BindType: api.BindRole, BindName: "unit-${value.unit}", Selector: `value.unit == "7" and "ops" in list.groups`},
	{ID: "3", BindType: api.BindPolicy, BindName: "boss", Selector: `value.name == "Ann"`},
}

func TestEnter(t *testing.T) {
	t.Parallel()
	key, other := newKey(t), newKey(t)
	m := method(t, map[string]any{"JWTValidationPubKeys": []string{pemOf(t, other.Public()), pemOf(t, key.Public())}})
	l := New()
	if err := l.Valid(m); err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		if err := l.ValidRule(m, r); err != nil {
			t.Errorf("rule %s: %v", r.ID, err)
		}
	}
	got, err := l.Enter(t.Context(), m, rules, sign(t, key, claims(nil)))
	if err != nil {
		t.Fatal(err)
	}
	want := []endpoint.Binding{{Type: api.BindService, Name: "web-joe"}, {Type: api.BindRole, Name: "unit-7"}}
	if d := cmp.Diff(got, want); d != "" {
		t.Errorf("bound: got (-) want (+):\n%s", d)
	}
	ago := func(d time.Duration) int64 { return time.Now().Add(-d).Unix() }
	for want, token := range map[string]string{
		"no JWT signed with":       "abc",
		"none of JWTValidation":    sign(t, newKey(t), claims(nil)),
		"another issuer":           sign(t, key, claims(func(c map[string]any) { c["iss"] = "x" })),
		"none of BoundAudiences":   sign(t, key, claims(func(c map[string]any) { c["aud"] = []string{"x", "y"} })),
		"is expired":               sign(t, key, claims(func(c map[string]any) { c["exp"] = ago(2 * time.Minute) })),
		"does not hold yet":        sign(t, key, claims(func(c map[string]any) { c["nbf"] = ago(-2 * time.Minute) })),
		"neither when it was":      sign(t, key, claims(func(c map[string]any) { delete(c, "exp"); delete(c, "iat") })),
		"is no string, number or":  sign(t, key, claims(func(c map[string]any) { c["org"] = map[string]any{"unit": []string{"a"}} })),
		"holds what is no string,": sign(t, key, claims(func(c map[string]any) { c["groups"] = []any{map[string]any{}} })),
	} {
		if _, err := l.Enter(t.Context(), m, rules, token); api.KindOf(err) != api.Forbidden || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), token) {
			t.Errorf("got %v, want 403 that says %q and not the token", err, want)
		}
	}
	for name, change := range map[string]func(map[string]any){
		"clocks that differ":  func(c map[string]any) { c["exp"] = ago(30 * time.Second) },
		"no end, just issued": func(c map[string]any) { delete(c, "exp") },
		"only an end":         func(c map[string]any) { delete(c, "iat"); c["exp"] = ago(-time.Minute) },
		"one of audiences":    func(c map[string]any) { c["aud"] = []string{"x", "rollcall"} },
	} {
		if _, err := l.Enter(t.Context(), m, rules, sign(t, key, claims(change))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := l.Enter(t.Context(), m, rules, sign(t, key, claims(func(c map[string]any) { delete(c, "exp"); c["iat"] = ago(time.Hour) }))); err == nil {
		t.Error("a token without an end, issued long ago, is let in")
	}
}

// A token signed with the public key as a shared secret is no signed token.
func TestNoSymmetricKeys(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	m := method(t, map[string]any{"JWTValidationPubKeys": []string{pemOf(t, key.Public())}})
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.HS256, Key: []byte(pemOf(t, key.Public()))}, nil)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := jwt.Signed(s).Claims(claims(nil)).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New().Enter(t.Context(), m, rules, forged); api.KindOf(err) != api.Forbidden {
		t.Errorf("a forged token: %v", err)
	}
	if err := New().Valid(method(t, map[string]any{"JWTSupportedAlgs": []string{"HS256"}, "JWKSURL": "http://127.0.0.1"})); err == nil {
		t.Error("HS256 may be asked for")
	}
}

func TestFetchedKeys(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	var fetched atomic.Int32
	mux := http.NewServeMux()
	web := httptest.NewServer(mux)
	defer web.Close()
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		fetched.Add(1)
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Use: "sig"}}})
	})
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": web.URL, "jwks_uri": web.URL + "/keys"})
	})
	for name, more := range map[string]map[string]any{
		"jwks": {"JWKSURL": web.URL + "/keys"}, "discovery": {"OIDCDiscoveryURL": web.URL},
	} {
		before := fetched.Load()
		l, m := New(), method(t, more)
		for range 3 {
			if got, err := l.Enter(t.Context(), m, rules, sign(t, key, claims(nil))); err != nil || len(got) != 2 {
				t.Errorf("%s: %v, %v", name, got, err)
			}
		}
		if _, err := l.Enter(t.Context(), m, rules, sign(t, newKey(t), claims(nil))); api.KindOf(err) != api.Forbidden {
			t.Errorf("%s: a key that is not published: %v", name, err)
		}
		if n := fetched.Load() - before; n != 1 {
			t.Errorf("%s: keys fetched %d times, want once", name, n)
		}
	}
	for name, more := range map[string]map[string]any{
		"nothing there": {"JWKSURL": web.URL + "/nope"}, "another issuer": {"OIDCDiscoveryURL": web.URL + "/"},
	} {
		if _, err := New().Enter(t.Context(), method(t, more), rules, sign(t, key, claims(nil))); api.KindOf(err) != api.Forbidden {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestInvalid(t *testing.T) {
	t.Parallel()
	l := New()
	for want, m := range map[string]*api.AuthMethod{
		"exactly one of":               {Type: "jwt"},
		"error decoding config":        {Type: "jwt", Config: []byte(`{"Foo":1}`)},
		"JWTValidationPubKeys[0]":      {Type: "jwt", Config: []byte(`{"JWTValidationPubKeys":["x"]}`)},
		"CA certificate is not PEM":    {Type: "jwt", Config: []byte(`{"JWKSURL":"http://127.0.0.1","JWKSCACert":"x"}`)},
		"a name of its own":            {Type: "jwt", Config: []byte(`{"JWKSURL":"http://127.0.0.1","ClaimMappings":{"a":"x","b":"x"}}`)},
		"one of: [jwt kubernetes]":     {Type: "ldap"},
		"is required":                  {Type: "kubernetes", Config: []byte(`{"Host":"h","CACert":"c"}`)},
		"unsupported signing algorit":  {Type: "jwt", Config: []byte(`{"JWKSURL":"http://127.0.0.1","JWTSupportedAlgs":["none"]}`)},
		"error decoding config: unexp": {Type: "kubernetes", Config: []byte(`{`)},
	} {
		if err := l.Valid(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
	m := method(t, map[string]any{"JWKSURL": "http://127.0.0.1"})
	for want, r := range map[string]*api.BindingRule{
		"Selector is invalid":  {BindName: "a", Selector: "foo =="},
		"Selector is invalid:": {BindName: "a", Selector: `value.nope == "x"`},
		"${value.nope} is not": {BindName: "a-${value.nope}"},
		"${value.name is not":  {BindName: "a-${value.name"},
	} {
		if err := l.ValidRule(m, r); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want it to say %q", r, err, want)
		}
	}
	k8s := &api.AuthMethod{Name: "k", Type: "kubernetes", Config: []byte(`{"Host":"h","CACert":"c","ServiceAccountJWT":"j"}`)}
	if err := l.Valid(k8s); err != nil {
		t.Errorf("kubernetes is kept: %v", err)
	}
	if err := l.ValidRule(k8s, &api.BindingRule{BindName: "${serviceaccount.name}", Selector: "serviceaccount.namespace==default"}); err != nil {
		t.Errorf("a rule of kubernetes is kept: %v", err)
	}
	if _, err := l.Enter(t.Context(), k8s, nil, "x"); api.KindOf(err) != api.Forbidden || !strings.Contains(err.Error(), "use type jwt") {
		t.Errorf("a login over kubernetes: %v", err)
	}
}
