package cli_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall/rollcall/internal/buildinfo"
	"github.com/rollcall/rollcall/server/internal/cli"
)

// fakeAgent answers what the commands ask, from a few keys and members.
type fakeAgent struct {
	mu   sync.Mutex
	keys map[string]string
	got  []string // requests that write
}

func (f *fakeAgent) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("X-Consul-Index", "7")
	w.Header().Set("X-Consul-LastContact", "0")
	w.Header().Set("X-Consul-KnownLeader", "true")
	body, _ := io.ReadAll(r.Body)
	if r.Method != http.MethodGet {
		f.got = append(f.got, r.Method+" "+r.URL.String())
	}
	reply := func(v any) { json.NewEncoder(w).Encode(v) }
	key := strings.TrimPrefix(r.URL.Path, "/v1/kv/")
	pair := func(k string) map[string]any {
		return map[string]any{"Key": k, "Value": base64.StdEncoding.EncodeToString([]byte(f.keys[k])), "Flags": 42, "CreateIndex": 5, "ModifyIndex": 7, "LockIndex": 0}
	}
	switch {
	case r.URL.Path == "/v1/agent/members":
		reply([]any{
			map[string]any{"Name": "s1", "Addr": "10.0.0.1", "Port": 8301, "Status": 1, "Tags": map[string]string{"role": "consul", "build": "1.2.3:abc", "dc": "dc1", "vsn": "2"}},
			map[string]any{"Name": "client-one", "Addr": "10.0.0.2", "Port": 8301, "Status": 4, "Tags": map[string]string{"role": "node", "build": "1.2.3:abc", "dc": "dc1", "vsn": "2"}},
		})
	case r.URL.Path == "/v1/operator/raft/configuration":
		reply(map[string]any{"Index": 3, "Servers": []any{map[string]any{"ID": "id1", "Node": "s1", "Address": "10.0.0.1:8300", "Leader": true, "Voter": true, "ProtocolVersion": "3"}}})
	case r.URL.Path == "/v1/agent/self":
		reply(map[string]any{"Stats": map[string]any{"raft": map[string]string{"term": "2", "state": "Leader"}, "agent": map[string]string{"checks": "0"}}})
	case r.URL.Path == "/v1/catalog/services":
		reply(map[string][]string{"web": {"b", "a"}, "consul": {}})
	case r.URL.Path == "/v1/catalog/nodes":
		reply([]any{map[string]any{"Node": "s1", "ID": "0123456789ab", "Address": "10.0.0.1", "Datacenter": "dc1"}})
	case strings.HasPrefix(r.URL.Path, "/v1/agent/force-leave/"):
		http.Error(w, "agent: No node found with name 'x'", http.StatusInternalServerError)
	case strings.HasPrefix(r.URL.Path, "/v1/kv/") && r.Method == http.MethodPut:
		ok := !r.URL.Query().Has("cas") || r.URL.Query().Get("cas") == "7"
		if ok {
			f.keys[key] = string(body)
		}
		reply(ok)
	case strings.HasPrefix(r.URL.Path, "/v1/kv/") && r.Method == http.MethodDelete:
		reply(true)
	case strings.HasPrefix(r.URL.Path, "/v1/kv/") && r.URL.Query().Has("recurse"):
		var out []any
		for _, k := range []string{"a", "b/c"} {
			if strings.HasPrefix(k, key) {
				out = append(out, pair(k))
			}
		}
		if out == nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		reply(out)
	case strings.HasPrefix(r.URL.Path, "/v1/kv/") && r.URL.Query().Has("keys"):
		reply([]string{"a", "b/"})
	case strings.HasPrefix(r.URL.Path, "/v1/kv/"):
		if _, ok := f.keys[key]; !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		reply([]any{pair(key)})
	default:
		reply(true)
	}
}

// run carries out a command line.
func run(t *testing.T, stdin string, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = cli.Run(t.Context(), cli.Deps{Stdin: strings.NewReader(stdin), Stdout: &o, Stderr: &e}, append([]string{"consul"}, args...))
	return o.String(), e.String(), code
}

func TestCommands(t *testing.T) {
	agent := &fakeAgent{keys: map[string]string{"a": "1", "b/c": "2"}}
	srv := httptest.NewServer(agent)
	defer srv.Close()
	t.Setenv("CONSUL_HTTP_ADDR", srv.URL)
	dir := t.TempDir()
	file := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	value, bad, good := file("value", "from a file"), file("bad.json", `{"servr": true}`), file("good.hcl", "server = true\n")
	for line, want := range map[string]struct {
		out, err string
		code     int
	}{
		"members":                              {"Node        Address        Status  Type    Build  Protocol  DC   Segment\nclient-one  10.0.0.2:8301  failed  client  1.2.3  2         dc1  <default>\ns1          10.0.0.1:8301  alive   server  1.2.3  2         dc1  <all>\n", "", 0},
		"members -status=alive -detailed":      {"Node  Address        Status  Tags\ns1    10.0.0.1:8301  alive   build=1.2.3:abc,dc=dc1,role=consul,vsn=2\n", "", 0},
		"members -status=none":                 {"", "", 2},
		"operator raft list-peers":             {"Node  ID   Address        State   Voter  RaftProtocol\ns1    id1  10.0.0.1:8300  leader  true   3\n", "", 0},
		"info":                                 {"agent:\n\tchecks = 0\nraft:\n\tstate = Leader\n\tterm = 2\n", "", 0},
		"kv get a":                             {"1\n", "", 0},
		"kv get --base64 a":                    {"MQ==\n", "", 0},
		"kv get -detailed a":                   {"CreateIndex      5\nFlags            42\nKey              a\nLockIndex        0\nModifyIndex      7\nSession          -\nValue            1\n", "", 0},
		"kv get -recurse b":                    {"b/c:2\n", "", 0},
		"kv get -recurse none":                 {"", "", 0},
		"kv get -keys b":                       {"a\nb/\n", "", 0},
		"kv get none":                          {"", "Error! No key exists at: none\n", 1},
		"kv put x y":                           {"Success! Data written to: x\n", "", 0},
		"kv put x @" + value:                   {"Success! Data written to: x\n", "", 0},
		"kv put x @/nowhere":                   {"", "no such file", 1},
		"kv put -cas -modify-index=3 a z":      {"", "Error! Did not write to a: CAS failed\n", 1},
		"kv put -cas -modify-index=7 q z":      {"Success! Data written to: q\n", "", 0},
		"kv put":                               {"", "name a key and a value", 1},
		"kv delete -recurse b":                 {"Success! Deleted keys with prefix: b\n", "", 0},
		"kv delete a":                          {"Success! Deleted key: a\n", "", 0},
		"kv get b/c":                           {"2\n", "", 0},
		"catalog services -tags":               {"consul\nweb     a,b\n", "", 0},
		"catalog nodes":                        {"Node  ID        Address   DC\ns1    01234567  10.0.0.1  dc1\n", "", 0},
		"force-leave x":                        {"", "No node found", 1},
		"reload":                               {"Configuration reload triggered\n", "", 0},
		"join 10.0.0.3":                        {"Successfully joined cluster by contacting 1 nodes.\n", "", 0},
		"join":                                 {"", "name at least one address", 1},
		"maint -enable -reason=x":              {"Node maintenance is now enabled\n", "", 0},
		"validate " + good:                     {"Configuration is valid!\n", "", 0},
		"validate " + bad:                      {"", "servr (did you mean server?)", 1},
		"services register -name=web -port=80": {"Registered service: web\n", "", 0},
		"services deregister -id=web":          {"Deregistered service: web\n", "", 0},
		"membres":                              {"", "membres", 127},
		"kv gte":                               {"", "gte", 1},
		"members -statsu=x":                    {"", "unknown flag -statsu (did you mean -status?)", 1},
		"version":                              {"Consul v" + buildinfo.Compat, "", 0},
		"agent -sevrer":                        {"", "-sevrer (did you mean -server?)", 1},
	} {
		out, errs, code := run(t, "", strings.Fields(line)...)
		okOut := out == want.out || strings.HasPrefix(line, "version") && strings.HasPrefix(out, want.out)
		if !okOut || !strings.Contains(errs, want.err) || want.err == "" && errs != "" || code != want.code {
			t.Errorf("%s:\n got %q, %q, exit %d\nwant %q, %q, exit %d", line, out, errs, code, want.out, want.err, want.code)
		}
		if n := strings.Count(errs, "\n"); n > 1 {
			t.Errorf("%s: %d lines of error:\n%s", line, n, errs)
		}
	}
	out, _, code := run(t, "typed in", "kv", "put", "typed", "-")
	if code != 0 || agent.keys["typed"] != "typed in" {
		t.Errorf("kv put from standard input: %q, exit %d, value %q", out, code, agent.keys["typed"])
	}
	out, _, code = run(t, "", "version", "-format=json")
	var v struct{ Version string }
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Version != buildinfo.Compat || code != 0 {
		t.Errorf("version as JSON: %q, %v", out, err)
	}
	out, _, code = run(t, "", "keygen")
	if key, err := base64.StdEncoding.DecodeString(strings.TrimSpace(out)); err != nil || len(key) != 32 || code != 0 {
		t.Errorf("keygen: %q, %v", out, err)
	}
}

// What was exported can be imported.
func TestExportImport(t *testing.T) {
	agent := &fakeAgent{keys: map[string]string{"a": "1", "b/c": "2"}}
	srv := httptest.NewServer(agent)
	defer srv.Close()
	t.Setenv("CONSUL_HTTP_ADDR", srv.URL)
	out, errs, code := run(t, "", "kv", "export")
	if code != 0 || !strings.HasPrefix(out, "[\n\t{\n\t\t\"key\": \"a\",\n") {
		t.Fatalf("export: %q, %q", out, errs)
	}
	out, errs, code = run(t, out, "kv", "import", "-prefix=copy/", "-")
	if code != 0 || out != "Imported: copy/a\nImported: copy/b/c\n" || agent.keys["copy/b/c"] != "2" {
		t.Errorf("import: %q, %q, %v", out, errs, agent.keys)
	}
}

// Nobody there: one line with the address and the way out.
func TestNobodyThere(t *testing.T) {
	_, errs, code := run(t, "", "members", "-http-addr=127.0.0.1:1")
	if code != 1 || !strings.Contains(errs, "127.0.0.1:1") || !strings.Contains(errs, "CONSUL_HTTP_ADDR") || strings.Count(errs, "\n") != 1 {
		t.Errorf("exit %d: %q", code, errs)
	}
}

// -h teaches, wherever it stands.
func TestHelp(t *testing.T) {
	for line, want := range map[string]string{"-h": "members", "kv -h": "export", "kv put -h": "@FILE", "agent -h": "-bootstrap-expect", "members --help": "-status"} {
		out, errs, code := run(t, "", strings.Fields(line)...)
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit %d, %q does not teach %q; %s", line, code, out, want, errs)
		}
	}
}
