package config

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"

	consul "github.com/hashicorp/consul/api"
)

// Schemes of catalogs that gliderlabs/registrator knows and we do not.
var foreign = map[string]string{
	"consulkv": "keys in Consul's store", "consulkv-unix": "keys in Consul's store", "etcd": "etcd", "skydns2": "SkyDNS", "zookeeper": "ZooKeeper",
}

// Catalog reads the address of the catalog, and what the environment says of how to reach
// it: the variables of Consul's own tools, and those of gliderlabs's consul-tls.
func Catalog(uri string) (*consul.Config, error) {
	scheme, _, ok := strings.Cut(uri, ":")
	if what, known := foreign[scheme]; ok && known {
		return nil, fmt.Errorf("%s: registering in %s is not supported; use consul://host:8500, a Rollcall or Consul agent", uri, what)
	}
	u, err := url.Parse(uri)
	if err != nil || !ok {
		return nil, fmt.Errorf("%q is no address of a catalog; use consul://host:8500", uri)
	}
	cfg := consul.DefaultConfig() // reads CONSUL_HTTP_*
	if u.Host != "" {
		cfg.Address = u.Host
	}
	set := func(into *string, values ...string) {
		for _, v := range values {
			if v != "" {
				*into = v
				return
			}
		}
	}
	q := u.Query()
	known := []string{"token_file", "ca", "cert", "key", "server_name", "insecure"}
	for k := range q {
		if !slices.Contains(known, k) {
			return nil, fmt.Errorf("%s: there is no parameter %q; there are %s", uri, k, strings.Join(known, ", "))
		}
	}
	switch scheme {
	case "consul", "consuls", "consul-tls":
		if rest := strings.Trim(u.Opaque+u.Path, "/"); u.Host == "" && rest != "" {
			return nil, fmt.Errorf("%s: the host comes after two slashes; use %s://%s", uri, scheme, rest)
		}
	}
	switch scheme {
	case "consul":
	case "consuls":
		cfg.Scheme = "https"
	case "consul-tls":
		cfg.Scheme = "https"
		set(&cfg.TLSConfig.CAFile, os.Getenv("CONSUL_CACERT"), cfg.TLSConfig.CAFile)
		set(&cfg.TLSConfig.CertFile, os.Getenv("CONSUL_CLIENT_CERT"), cfg.TLSConfig.CertFile)
		set(&cfg.TLSConfig.KeyFile, os.Getenv("CONSUL_CLIENT_KEY"), cfg.TLSConfig.KeyFile)
	case "consul-unix":
		path := u.Host + u.Path
		if path == "" {
			path = u.Opaque
		}
		if path == "" {
			return nil, fmt.Errorf("%s: the path of the socket is missing; use consul-unix:///path/to/http.sock", uri)
		}
		cfg.Address = "unix://" + path
	default:
		return nil, fmt.Errorf("%s: there is no catalog %q; use consul://host:8500", uri, scheme)
	}
	set(&cfg.TokenFile, q.Get("token_file"))
	set(&cfg.TLSConfig.CAFile, q.Get("ca"))
	set(&cfg.TLSConfig.CertFile, q.Get("cert"))
	set(&cfg.TLSConfig.KeyFile, q.Get("key"))
	set(&cfg.TLSConfig.Address, q.Get("server_name"))
	if v := q.Get("insecure"); v == "true" || v == "1" {
		cfg.TLSConfig.InsecureSkipVerify = true
	}
	if (cfg.TLSConfig.CertFile == "") != (cfg.TLSConfig.KeyFile == "") {
		return nil, errors.New("a client certificate and its key are given together: cert= and key=, or CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY")
	}
	cfg.Transport.MaxIdleConnsPerHost = 32 // as many writes as may be under way, and readings
	return cfg, nil
}
