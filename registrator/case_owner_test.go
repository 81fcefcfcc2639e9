package main

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	consul "github.com/hashicorp/consul/api"
)

// What somebody registered by hand, and what belongs to another owner, survives -cleanup.
func TestCase18OthersSurvive(t *testing.T) {
	t.Parallel()
	ss := both(t, "-cleanup", "-resync=1s")
	want := []string{"by-hand", "h:theirs:80", "other:gone:80"}
	for _, s := range ss {
		for _, r := range []*consul.AgentServiceRegistration{
			{ID: "by-hand", Name: "hand", Port: 1},
			{ID: "h:theirs:80", Name: "theirs", Port: 2, Meta: map[string]string{"registrator-owner": "engine-2"}},
			{ID: "other:gone:80", Name: "host", Port: 3}, // gliderlabs's, of another host
			{ID: "h:gone:80", Name: "left", Port: 4},     // gliderlabs's, of this one: what cleanup is for
		} {
			if err := s.Agent().ServiceRegister(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	ss.eventually(soon, "only what was left behind is gone", func(s *site) error {
		all, err := s.all()
		for _, id := range want {
			if err == nil && all[id] == nil {
				t.Fatalf("%s: %s is gone", s.name, id)
			}
		}
		if err == nil && len(all) != len(want) {
			err = fmt.Errorf("%d services", len(all))
		}
		return err
	})
	id := start(t, "plain", "-e", "SERVICE_NAME=probe")
	ss.has(soon, "it goes on", "probe", published(t, id))
	for _, s := range ss {
		all, err := s.all()
		for _, id := range want {
			if err != nil || all[id] == nil {
				t.Errorf("%s: %s is gone (%v)", s.name, id, err)
			}
		}
	}
}

// What gliderlabs/registrator left is taken over under the same ids, without a gap, and
// what it forgot is removed where that is wanted.
func TestCase19Adoption(t *testing.T) {
	t.Parallel()
	engine(t)
	a, b := start(t, "plain", "-e", "SERVICE_NAME=web", "-e", "SERVICE_TAGS=x,y"), start(t, "plain", "-e", "SERVICE_NAME=web")
	seen := own(t)
	for _, bin := range binaries() {
		t.Run(bin.name, func(t *testing.T) {
			if bin.err != nil {
				t.Skip(bin.err)
			}
			s := &site{catalog: startCatalog(t, bin.path, false), name: bin.name}
			old := func(id, at string) {
				host, port, _ := strings.Cut(at, ":")
				n, err := strconv.Atoi(port)
				if err != nil {
					t.Fatal(err)
				}
				r := &consul.AgentServiceRegistration{ID: id, Name: "web", Address: host, Port: n, Tags: []string{"y", "x"}}
				if err := s.Agent().ServiceRegister(r); err != nil {
					t.Fatal(err)
				}
			}
			ids := map[string]string{}
			for _, c := range []string{a, b} {
				id := "h:" + dockerCmd(t, "inspect", "-f", "{{slice .Name 1}}", c) + ":8080"
				ids[id] = published(t, c)
				old(id, published(t, c))
			}
			old("h:long-gone:8080", "127.0.0.1:9")
			end := watch(t, "in service all the time", 20*time.Millisecond, func() error { return s.keeps("web", published(t, a), published(t, b)) })
			args := []string{"-host=h", "-owner=me", "-filter=label:test=" + seen, "-listen=off", "-cleanup", "-resync=1s", "consul://" + s.addr}
			reg := launch(t, func() *exec.Cmd { return command(t, args...) })
			eventually(t, soon, "taken over, and what was forgotten is gone", func() error {
				all, err := s.all()
				if err != nil {
					return err
				}
				for id, at := range ids {
					r := all[id]
					if r == nil || r.Meta["registrator-owner"] != "me" || fmt.Sprintf("%s:%d", r.Address, r.Port) != at {
						return fmt.Errorf("%s: %+v", id, r)
					}
				}
				if len(all) != len(ids) {
					return fmt.Errorf("%d services, want %d", len(all), len(ids))
				}
				return nil
			})
			end()
			reg.lives()
		})
	}
}
