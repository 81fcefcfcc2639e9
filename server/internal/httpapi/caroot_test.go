package httpapi

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"testing"
	"time"
)

// TestRootCertificate: there is one where connect is enabled, it is what it says, and it
// stays the same.
func TestRootCertificate(t *testing.T) {
	h := newHouse(func(c *Config) { c.TrustDomain = "id.consul" })
	var first string
	for _, path := range []string{"/v1/connect/ca/roots", "/v1/agent/connect/ca/roots"} {
		resp := h.do(t, http.MethodGet, path, "")
		if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Consul-Index") != "1" {
			t.Fatalf("GET %s: %d, index %q, want 200 and 1", path, resp.StatusCode, resp.Header.Get("X-Consul-Index"))
		}
		var list caRoots
		if err := json.NewDecoder(resp.Body).Decode(&list); err != nil {
			t.Fatal(err)
		}
		if len(list.Roots) != 1 || list.Roots[0].ID != list.ActiveRootID || list.TrustDomain != "id.consul" {
			t.Fatalf("GET %s: %+v", path, list)
		}
		block, _ := pem.Decode([]byte(list.Roots[0].RootCert))
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if err := cert.CheckSignatureFrom(cert); err != nil {
			t.Errorf("not its own root: %v", err)
		}
		if cert.Subject.CommonName != rootName || time.Until(cert.NotAfter) < 24*time.Hour || !cert.NotAfter.Equal(list.Roots[0].NotAfter) {
			t.Errorf("name %q, ends %s, said to end %s", cert.Subject.CommonName, cert.NotAfter, list.Roots[0].NotAfter)
		}
		if first == "" {
			first = list.ActiveRootID
		}
		if list.ActiveRootID != first {
			t.Errorf("GET %s: another root %s, want %s", path, list.ActiveRootID, first)
		}
	}
}
