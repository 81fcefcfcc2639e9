package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"
)

// One stream follows many services, over HTTP/2 in the clear as well: what they are, each
// change of theirs and of no other, and it outlives the server's restart behind a client
// agent.
func TestManyServicesOverOneConnection(t *testing.T) {
	t.Parallel()
	server := startServer(t)
	client := startAgent(t, "client-host", options{}, "-retry-join="+server.lan)
	client.awaitLeader()
	register := func(name string, port int) {
		t.Helper()
		if err := server.put("/v1/catalog/register", fmt.Sprintf(`{"Node":"n","Address":"10.0.0.1","Service":{"Service":%q,"Port":%d}}`, name, port)); err != nil {
			t.Fatal(err)
		}
	}
	register("web", 80)

	old := &http.Client{}
	two := &http.Client{Transport: &http.Transport{Protocols: new(http.Protocols)}}
	two.Transport.(*http.Transport).Protocols.SetUnencryptedHTTP2(true)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	type line struct {
		Service, Error string
		Index          uint64
		Instances      []struct{ Service struct{ Port int } }
	}
	var streams []func() line
	for major, c := range map[int]*http.Client{1: old, 2: two} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, client.url+"/v1/health/watch?service=web&service=db&service=web", nil)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if r.StatusCode != http.StatusOK || r.ProtoMajor != major {
			t.Fatalf("%s %s, want HTTP/%d", r.Proto, r.Status, major)
		}
		lines := bufio.NewScanner(r.Body)
		streams = append(streams, func() line {
			t.Helper()
			for lines.Scan() {
				var l line
				if len(lines.Bytes()) == 0 {
					continue
				}
				if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
					t.Fatalf("%v: %s", err, lines.Bytes())
				}
				return l
			}
			t.Fatalf("the stream ended: %v", lines.Err())
			return line{}
		})
	}
	want := func(next func() line, service string, ports ...int) {
		t.Helper()
		l := next()
		var got []int
		for _, i := range l.Instances {
			got = append(got, i.Service.Port)
		}
		if l.Service != service || l.Error != "" || l.Index == 0 || fmt.Sprint(got) != fmt.Sprint(ports) {
			t.Errorf("got %+v, want %s with ports %v", l, service, ports)
		}
	}
	for _, next := range streams {
		want(next, "db")
		want(next, "web", 80)
	}
	register("other", 1)
	register("web", 81)
	for _, next := range streams {
		want(next, "web", 81)
	}
	register("db", 5432)
	for _, next := range streams {
		want(next, "db", 5432)
	}

	server.kill()
	server.run()
	client.awaitLeader()
	register("web", 82)
	for _, next := range streams {
		for { // faults while nobody leads, then what is there
			if l := next(); l.Service == "web" && len(l.Instances) == 1 && l.Instances[0].Service.Port == 82 {
				break
			}
		}
	}
	for _, bad := range []string{"", "?service=", "?service=web&filter=x%20in", "?service=web&passing=perhaps"} {
		if code, body, err := client.get("/v1/health/watch" + bad); err != nil || code != http.StatusBadRequest {
			t.Errorf("%q: %d %s, %v; want 400", bad, code, body, err)
		}
	}
}
