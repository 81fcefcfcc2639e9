package event

import (
	"fmt"
	"log/slog"
	"testing"

	"github.com/rollcall/rollcall/internal/api"
)

func log() *Log {
	return New(Config{
		Node: "web7", Log: slog.New(slog.DiscardHandler),
		Services: func() map[string]*api.Service {
			return map[string]*api.Service{"1": {ID: "1", Service: "nginx", Tags: []string{"blue", "v12"}}, "2": {ID: "2", Service: "redis"}}
		},
	})
}

func TestCheck(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]api.UserEvent{
		"":             {Name: "e", NodeFilter: "^web", ServiceFilter: "nginx", TagFilter: "v.*"},
		"Missing name": {},
		"Cannot provide tag filter without service filter":                                       {Name: "e", TagFilter: "t"},
		"Invalid node filter: error parsing regexp: missing closing ): `((`":                     {Name: "e", NodeFilter: "(("},
		"Invalid service filter: error parsing regexp: missing closing ): `(`":                   {Name: "e", ServiceFilter: "("},
		"Invalid tag filter: error parsing regexp: missing argument to repetition operator: `*`": {Name: "e", ServiceFilter: "a", TagFilter: "*"},
	} {
		got := ""
		if err := Check(&e); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%+v: %q, want %q", e, got, want)
		}
	}
}

func TestWhoTakesIt(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		e    api.UserEvent
		want bool
	}{
		"everybody":        {api.UserEvent{}, true},
		"this node":        {api.UserEvent{NodeFilter: "^web[0-9]$"}, true},
		"another node":     {api.UserEvent{NodeFilter: "^db"}, false},
		"a service":        {api.UserEvent{ServiceFilter: "ngin"}, true},
		"another service":  {api.UserEvent{ServiceFilter: "mysql"}, false},
		"a tag":            {api.UserEvent{ServiceFilter: "nginx", TagFilter: "^v1"}, true},
		"another's tag":    {api.UserEvent{ServiceFilter: "redis", TagFilter: "blue"}, false},
		"service and node": {api.UserEvent{NodeFilter: "db", ServiceFilter: "nginx"}, false},
		"a faulty filter":  {api.UserEvent{NodeFilter: "(("}, false},
		"too new":          {api.UserEvent{Version: Version + 1}, false},
	} {
		l := log()
		l.Take(&c.e)
		if events, _, _ := l.List(""); (len(events) == 1) != c.want {
			t.Errorf("%s: taken %v, want %v", name, len(events) == 1, c.want)
		}
	}
}

// The last 256 are kept, the oldest first; each closes the channel that was given before it.
func TestRing(t *testing.T) {
	t.Parallel()
	l := log()
	if events, index, _ := l.List(""); len(events) != 0 || events == nil || index != 1 {
		t.Errorf("at first: %v, index %d", events, index)
	}
	for i := range kept + 10 {
		_, _, changed := l.List("")
		l.Take(&api.UserEvent{ID: fmt.Sprintf("00000000-0000-0000-0000-%012x", i+2), Name: fmt.Sprintf("e%d", i%2)})
		select {
		case <-changed:
		default:
			t.Fatalf("event %d woke nobody", i)
		}
	}
	all, index, _ := l.List("")
	if len(all) != kept || all[0].ID != "00000000-0000-0000-0000-00000000000c" || index != kept+11 {
		t.Errorf("%d kept, the first %s, index %d", len(all), all[0].ID, index)
	}
	some, index, _ := l.List("e0")
	if len(some) != kept/2 || index != kept+10 {
		t.Errorf("%d of a name, index %d", len(some), index)
	}
}

// The index is what the stock client makes of an id.
func TestIndex(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]uint64{
		"85cd19f4-6cba-6fc6-e510-6e52a6bd1de1": 6979866555731898919, // seen from Consul 1.8.7
		"00000000-0000-0000-0000-000000000000": 1, "nope": 1,
	} {
		if got := Index(id); got != want {
			t.Errorf("%s is %d, want %d", id, got, want)
		}
	}
}

func TestSpecial(t *testing.T) {
	t.Parallel()
	l := log()
	var got []string
	l.cfg.Special = map[string]func(*api.UserEvent){"_rexec": func(e *api.UserEvent) { got = append(got, string(e.Payload)) }}
	l.Take(&api.UserEvent{Name: "_rexec", Payload: []byte("x")})
	l.Take(&api.UserEvent{Name: "_rexec", Payload: []byte("y"), NodeFilter: "db"})
	if events, _, _ := l.List(""); len(got) != 1 || got[0] != "x" || len(events) != 0 {
		t.Errorf("handed on %q, listed %d", got, len(events))
	}
}
