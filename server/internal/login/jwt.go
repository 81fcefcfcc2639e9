package login

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/rollcall/rollcall/internal/api"
)

// config is what an auth method of type jwt is told, by Consul's names.
type config struct {
	JWTValidationPubKeys []string // PEM
	JWKSURL              string
	JWKSCACert           string // PEM
	OIDCDiscoveryURL     string
	OIDCDiscoveryCACert  string // PEM

	JWTSupportedAlgs  []string // default RS256
	BoundIssuer       string
	BoundAudiences    []string          // one of them must be in the token
	ClaimMappings     map[string]string // claim, or JSON pointer to one, to name
	ListClaimMappings map[string]string
	ExpirationLeeway  api.Duration // how long a token without an end holds; default 150s, below 0 is none
	NotBeforeLeeway   api.Duration // how long before its end a token without a begin holds; the same
	ClockSkewLeeway   api.Duration // how far clocks may differ; default 60s, below 0 is none

	keys []crypto.PublicKey
	algs []jose.SignatureAlgorithm
}

// algorithms are those that may be asked for: none of them is symmetric.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.ES256, jose.ES384, jose.ES512, jose.PS256, jose.PS384, jose.PS512, jose.EdDSA,
}

func invalid(format string, args ...any) error {
	return api.Errorf(api.Internal, "Invalid Auth Method: "+format, args...)
}

// parse reads a method's configuration.
func parse(m *api.AuthMethod) (*config, error) {
	c := &config{}
	if len(m.Config) > 0 {
		d := json.NewDecoder(bytes.NewReader(m.Config))
		d.DisallowUnknownFields()
		if err := d.Decode(c); err != nil {
			return nil, invalid("error decoding config: %v", err)
		}
	}
	given := 0
	for _, yes := range []bool{len(c.JWTValidationPubKeys) > 0, c.JWKSURL != "", c.OIDCDiscoveryURL != ""} {
		if yes {
			given++
		}
	}
	if given != 1 {
		return nil, invalid("exactly one of 'JWTValidationPubKeys', 'JWKSURL', or 'OIDCDiscoveryURL' must be set for type %q", m.Type)
	}
	for i, text := range c.JWTValidationPubKeys {
		key, err := publicKey(text)
		if err != nil {
			return nil, invalid("error parsing public key JWTValidationPubKeys[%d]: %v", i, err)
		}
		c.keys = append(c.keys, key)
	}
	if len(c.JWTSupportedAlgs) == 0 {
		c.algs = []jose.SignatureAlgorithm{jose.RS256}
	}
	for _, a := range c.JWTSupportedAlgs {
		if !slices.Contains(algorithms, jose.SignatureAlgorithm(a)) {
			return nil, invalid("unsupported signing algorithm %q in JWTSupportedAlgs", a)
		}
		c.algs = append(c.algs, jose.SignatureAlgorithm(a))
	}
	for _, ca := range []string{c.JWKSCACert, c.OIDCDiscoveryCACert} {
		if ca != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(ca)) {
			return nil, invalid("a CA certificate is not PEM")
		}
	}
	seen := map[string]bool{}
	for _, mappings := range []map[string]string{c.ClaimMappings, c.ListClaimMappings} {
		for claim, name := range mappings {
			if name == "" || strings.ContainsAny(name, "${}. ") || seen[name] {
				return nil, invalid("the claim %q is mapped to %q: give each claim a name of its own, of letters, digits, - and _", claim, name)
			}
			seen[name] = true
		}
	}
	c.ExpirationLeeway = leeway(c.ExpirationLeeway, 150*time.Second)
	c.NotBeforeLeeway = leeway(c.NotBeforeLeeway, 150*time.Second)
	c.ClockSkewLeeway = leeway(c.ClockSkewLeeway, 60*time.Second)
	return c, nil
}

func leeway(d api.Duration, otherwise time.Duration) api.Duration {
	switch {
	case d == 0:
		return api.Duration(otherwise)
	case d < 0:
		return 0
	}
	return d
}

// publicKey reads a key, or the key of a certificate, from PEM.
func publicKey(text string) (crypto.PublicKey, error) {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil, errors.New("data does not contain any valid RSA, ECDSA, or ED25519 public keys")
	}
	var key any
	var err error
	switch block.Type {
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = cert.PublicKey
		}
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	default:
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	}
	switch key.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
		return key, nil
	}
	return nil, errors.Join(errors.New("data does not contain any valid RSA, ECDSA, or ED25519 public keys"), err)
}

// verify checks a token's signature, times, issuer and audience, and says whose it is.
func (l *Methods) verify(ctx context.Context, c *config, bearer string) (*identity, error) {
	tok, err := jwt.ParseSigned(bearer, c.algs)
	if err != nil {
		return nil, fmt.Errorf("the bearer token is no JWT signed with one of %v", c.algs)
	}
	raw, err := l.signed(ctx, c, tok)
	if err != nil {
		return nil, err
	}
	var std jwt.Claims
	if err := json.Unmarshal(raw, &std); err != nil {
		return nil, fmt.Errorf("the token's claims are not readable: %w", err)
	}
	if err := c.timely(&std, time.Now()); err != nil {
		return nil, err
	}
	switch {
	case c.BoundIssuer != "" && std.Issuer != c.BoundIssuer:
		return nil, errors.New("the token is of another issuer than BoundIssuer")
	case len(c.BoundAudiences) == 0 && len(std.Audience) > 0:
		return nil, errors.New("the token is for an audience, but BoundAudiences names none")
	case len(c.BoundAudiences) > 0 && !slices.ContainsFunc(c.BoundAudiences, std.Audience.Contains):
		return nil, errors.New("the token is for none of BoundAudiences")
	}
	var claims map[string]any
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&claims); err != nil {
		return nil, fmt.Errorf("the token's claims are not readable: %w", err)
	}
	return c.identify(claims)
}

// timely checks when a token holds. What it leaves out of begin and end is put a leeway away
// from what it says.
func (c *config) timely(std *jwt.Claims, now time.Time) error {
	begin, end := date(std.NotBefore), date(std.Expiry)
	issued := date(std.IssuedAt)
	if begin.IsZero() && end.IsZero() && issued.IsZero() {
		return errors.New("the token says neither when it was issued nor when it begins or ends")
	}
	if begin.IsZero() {
		if begin = issued; begin.IsZero() {
			begin = end.Add(-time.Duration(c.NotBeforeLeeway))
		}
	}
	if end.IsZero() {
		latest := begin
		if issued.After(latest) {
			latest = issued
		}
		end = latest.Add(time.Duration(c.ExpirationLeeway))
	}
	skew := time.Duration(c.ClockSkewLeeway)
	switch {
	case now.Add(skew).Before(begin) || now.Add(skew).Before(issued):
		return errors.New("the token does not hold yet")
	case now.Add(-skew).After(end):
		return errors.New("the token is expired")
	}
	return nil
}

func date(d *jwt.NumericDate) time.Time {
	if d == nil || *d == 0 {
		return time.Time{}
	}
	return d.Time()
}

// identify takes the mapped claims out of all.
func (c *config) identify(claims map[string]any) (*identity, error) {
	who := &identity{value: map[string]string{}, list: map[string][]string{}}
	for claim, name := range c.ClaimMappings {
		v, ok := claimAt(claims, claim)
		who.value[name] = ""
		if !ok {
			continue
		}
		text, ok := scalar(v)
		if !ok {
			return nil, fmt.Errorf("the claim %q is no string, number or boolean", claim)
		}
		who.value[name] = text
	}
	for claim, name := range c.ListClaimMappings {
		v, ok := claimAt(claims, claim)
		who.list[name] = []string{}
		if !ok {
			continue
		}
		list, isList := v.([]any)
		if !isList {
			list = []any{v}
		}
		for _, e := range list {
			text, ok := scalar(e)
			if !ok {
				return nil, fmt.Errorf("the claim %q holds what is no string, number or boolean", claim)
			}
			who.list[name] = append(who.list[name], text)
		}
	}
	return who, nil
}

// claimAt finds a claim by its name, or by a JSON pointer (RFC 6901).
func claimAt(claims map[string]any, name string) (any, bool) {
	if !strings.HasPrefix(name, "/") {
		v, ok := claims[name]
		return v, ok
	}
	var at any = claims
	for _, step := range strings.Split(name[1:], "/") {
		m, ok := at.(map[string]any)
		if !ok {
			return nil, false
		}
		if at, ok = m[strings.NewReplacer("~1", "/", "~0", "~").Replace(step)]; !ok {
			return nil, false
		}
	}
	return at, true
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return fmt.Sprint(v), true
	}
	return "", false
}
