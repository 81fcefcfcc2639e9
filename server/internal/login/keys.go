package login

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	keysAge   = 5 * time.Minute  // how old fetched keys may be
	keysPause = 10 * time.Second // between two fetches because a key was not among them
	fetchTime = 10 * time.Second
	fetchMost = 1 << 20 // bytes
)

// keyrings remembers fetched keys, by where they come from.
type keyrings struct {
	mu   sync.Mutex
	sets map[string]*keyring // guarded by mu
}

// keyring is what was fetched from one place. Those who need it at once wait for one fetch.
type keyring struct {
	mu   sync.Mutex
	keys []jose.JSONWebKey // guarded by mu
	at   time.Time         // guarded by mu
}

// signed gives the claims of a token that one of the method's keys signed.
func (l *Methods) signed(ctx context.Context, c *config, tok *jwt.JSONWebToken) ([]byte, error) {
	var raw json.RawMessage
	for _, key := range c.keys {
		if tok.Claims(key, &raw) == nil {
			return raw, nil
		}
	}
	if len(c.keys) > 0 {
		return nil, errors.New("the token is signed with none of JWTValidationPubKeys")
	}
	for _, again := range []bool{false, true} {
		keys, err := l.keys.of(ctx, c, again)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if tok.Claims(key.Key, &raw) == nil {
				return raw, nil
			}
		}
	}
	return nil, errors.New("the token is signed with none of the keys that the issuer publishes")
}

// of gives the keys of a place; again wants them newer than the last time.
func (k *keyrings) of(ctx context.Context, c *config, again bool) ([]jose.JSONWebKey, error) {
	id := c.JWKSURL + "\n" + c.JWKSCACert + "\n" + c.OIDCDiscoveryURL + "\n" + c.OIDCDiscoveryCACert
	k.mu.Lock()
	set := k.sets[id]
	if set == nil {
		set = &keyring{}
		k.sets[id] = set
	}
	k.mu.Unlock()
	set.mu.Lock()
	defer set.mu.Unlock()
	age := time.Since(set.at)
	if !set.at.IsZero() && (age < keysPause || !again && age < keysAge) {
		return set.keys, nil
	}
	keys, err := fetchKeys(ctx, c)
	if err != nil {
		return nil, err
	}
	set.keys, set.at = keys, time.Now()
	return keys, nil
}

func fetchKeys(ctx context.Context, c *config) ([]jose.JSONWebKey, error) {
	url, ca := c.JWKSURL, c.JWKSCACert
	if c.OIDCDiscoveryURL != "" {
		ca = c.OIDCDiscoveryCACert
		var found struct {
			Issuer string `json:"issuer"`
			JWKS   string `json:"jwks_uri"`
		}
		at := strings.TrimSuffix(c.OIDCDiscoveryURL, "/") + "/.well-known/openid-configuration"
		if err := fetch(ctx, at, ca, &found); err != nil {
			return nil, err
		}
		if found.Issuer != c.OIDCDiscoveryURL {
			return nil, fmt.Errorf("%s names the issuer %q, want the one of OIDCDiscoveryURL", at, found.Issuer)
		}
		url = found.JWKS
	}
	var set jose.JSONWebKeySet
	if err := fetch(ctx, url, ca, &set); err != nil {
		return nil, err
	}
	var out []jose.JSONWebKey
	for _, k := range set.Keys {
		if k.IsPublic() && k.Use != "enc" {
			out = append(out, k)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s publishes no key to verify with", url)
	}
	return out, nil
}

// fetch reads JSON, with ca (PEM) as the only authority where it is given.
func fetch(ctx context.Context, url, ca string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, fetchTime)
	defer cancel()
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}
	if ca != "" {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(ca)) // parse has seen that it is PEM
		transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("fetch keys: %w", err)
	}
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		return fmt.Errorf("fetch keys: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("fetch keys: %s answers %s", url, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, fetchMost))
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		return fmt.Errorf("fetch keys: %s: %w", url, err)
	}
	return nil
}
