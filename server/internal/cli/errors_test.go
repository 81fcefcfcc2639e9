package cli_test

import (
	"crypto/tls"
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An error is one line that names the address tried and the way out.
func TestErrors(t *testing.T) {
	quiet := log.New(io.Discard, "", 0)
	refusing := func(code int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, body, code) }))
		t.Cleanup(s.Close)
		return s.URL
	}
	plain := refusing(200, "")
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	t.Cleanup(secure.Close)
	strict := httptest.NewUnstartedServer(http.NotFoundHandler())
	strict.Config.ErrorLog = quiet
	strict.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	strict.StartTLS()
	t.Cleanup(strict.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0") // another program's port
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { other.Close() })
	go func() {
		for {
			c, err := other.Accept()
			if err != nil {
				return
			}
			c.Write([]byte("SSH-2.0-x\r\n"))
			c.Close()
		}
	}()
	host := func(url string) string { return url[strings.LastIndex(url, "/")+1:] }
	t.Setenv("CONSUL_HTTP_TOKEN", "")
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		args []string
		want []string
	}{
		"nobody there":         {[]string{"-http-addr=127.0.0.1:1"}, []string{"127.0.0.1:1", "CONSUL_HTTP_ADDR"}},
		"no socket":            {[]string{"-http-addr=unix:///nowhere/socket"}, []string{"-http-addr"}},
		"HTTP to HTTPS":        {[]string{"-http-addr=" + host(secure.URL)}, []string{"HTTPS server", "https://"}},
		"HTTPS to HTTP":        {[]string{"-http-addr=https://" + host(plain)}, []string{host(plain), "http://"}},
		"unknown authority":    {[]string{"-http-addr=" + secure.URL}, []string{host(secure.URL), "-ca-file"}},
		"another name":         {[]string{"-http-addr=" + secure.URL, "-ca-file=" + ca, "-tls-server-name=other"}, []string{host(secure.URL), "-tls-server-name"}},
		"a client certificate": {[]string{"-http-addr=" + strict.URL, "-ca-file=" + ca}, []string{host(strict.URL), "-client-cert"}},
		"not HTTP":             {[]string{"-http-addr=" + other.Addr().String()}, []string{other.Addr().String(), "8500"}},
		"no leader":            {[]string{"-http-addr=" + refusing(500, "No cluster leader")}, []string{"no leader", "list-peers -stale"}},
		"another datacenter":   {[]string{"-http-addr=" + refusing(500, "No path to datacenter")}, []string{"No path", "catalog datacenters"}},
		"a right missing":      {[]string{"-http-addr=" + refusing(403, "Permission denied")}, []string{"Permission denied", "no token was given"}},
		"of a token":           {[]string{"-http-addr=" + refusing(403, "Permission denied"), "-token=x"}, []string{"the token is -token's"}},
		"of a file":            {[]string{"-http-addr=" + refusing(403, "ACL not found"), "-token-file=" + file}, []string{"no such token", file}},
		"of both":              {[]string{"-http-addr=" + refusing(403, "ACL not found"), "-token=y", "-token-file=" + file}, []string{file}},
	} {
		_, errs, code := run(t, "", append([]string{"kv", "get"}, append(c.args, "key")...)...)
		if code != 1 || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit %d, %q, want one line", name, code, errs)
		}
		for _, want := range c.want {
			if !strings.Contains(errs, want) {
				t.Errorf("%s: %q does not say %q", name, errs, want)
			}
		}
	}
	t.Setenv("CONSUL_HTTP_TOKEN", "x")
	if _, errs, _ := run(t, "", "watch", "-type=nodes", "-http-addr="+refusing(403, "Permission denied")); !strings.Contains(errs, "CONSUL_HTTP_TOKEN's") {
		t.Errorf("a watch that is refused: %q", errs)
	}
	if _, errs, _ := run(t, "", "kv", "get", "-http-addr="+refusing(403, "Permission denied"), "key"); !strings.Contains(errs, "CONSUL_HTTP_TOKEN's") {
		t.Errorf("a token of the environment: %q", errs)
	}
}

// What says where the agent is, and who asks, holds for every command, also for those
// that do not ask through the API's client alone.
func TestReachesTheAgent(t *testing.T) {
	asked := make(chan string, 100)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, _ := r.BasicAuth()
		asked <- strings.Join([]string{r.URL.EscapedPath(), r.Header.Get("X-Consul-Token"), user, password}, " ")
		io.WriteString(w, "[]")
	}))
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("CONSUL_HTTP_ADDR", s.URL+"/behind/")
	t.Setenv("CONSUL_HTTP_AUTH", "me:word")
	t.Setenv("CONSUL_HTTP_TOKEN_FILE", file)
	for path, args := range map[string][]string{
		"/v1/agent/members":   {"members"},
		"/v1/kv/a":            {"kv", "export", "a"},
		"/v1/catalog/nodes":   {"watch", "-type=nodes"},
		"/v1/kv/b%3Fc":        {"watch", "-type=key", "-key=b?c"},
		"/v1/health/checks/x": {"watch", "-type=checks", "-service=x"},
	} {
		run(t, "", args...)
		got := ""
		select {
		case got = <-asked:
		default:
		}
		if want := "/behind" + path + " secret me word"; got != want {
			t.Errorf("%v asks %q, want %q", args, got, want)
		}
	}
	t.Setenv("CONSUL_HTTP_TOKEN_FILE", file+"-none")
	if _, errs, code := run(t, "", "watch", "-type=nodes"); code != 1 || !strings.Contains(errs, file+"-none") {
		t.Errorf("a token file that is not there: exit %d, %q", code, errs)
	}
}

// A handler that fails ends a watch on the command line.
func TestWatchHandlerFails(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("index") != "" {
			<-r.Context().Done()
		}
		w.Header().Set("X-Consul-Index", "5")
		w.Write([]byte("[]"))
	}))
	t.Cleanup(s.Close)
	out, errs, code := run(t, "", "watch", "-type=nodes", "-http-addr="+s.URL, "cat; exit 3")
	if code != 1 || out != "[]\n" || !strings.Contains(errs, "Error executing handler: exit status 3") {
		t.Errorf("%d, %q, %q; want 1, the answer, and why it ended", code, out, errs)
	}
}
