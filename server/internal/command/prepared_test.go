package command

import (
	"encoding/hex"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rollcall/rollcall/internal/api"
)

// The bytes of these entries are a promise to every log on disk too.
func TestGoldenQuery(t *testing.T) {
	t.Parallel()
	cmds := []Command{
		&Query{Verb: UpdateQuery, Query: api.PreparedQuery{
			ID: "id", Name: "geo-", Session: "s", Token: "t", Template: api.QueryTemplate{Type: api.TemplatePrefixMatch, Regexp: "^x", RemoveEmptyTags: true},
			Service: api.ServiceQuery{
				Service: "web", Failover: api.QueryFailover{NearestN: 2, Datacenters: []string{"dc2"}}, OnlyPassing: true, IgnoreCheckIDs: []string{"c"},
				Near: "_agent", Tags: []string{"!a"}, NodeMeta: map[string]string{"k": "v"}, ServiceMeta: map[string]string{"m": "w"},
			},
			DNS: api.QueryDNS{TTL: "5s"},
		}},
		&Places{Entries: []*api.CoordinateEntry{{Node: "n1", Coord: &api.Coordinate{Vec: []float64{0.5, 0, 0, 0, 0, 0, 0, -1}, Error: 1.5, Adjustment: 0.25, Height: 1e-5}}}},
		&Autopilot{CAS: true, Config: api.AutopilotConfig{CleanupDeadServers: true, LastContactThreshold: 200_000_000, MaxTrailingLogs: 250, MinQuorum: 3, ModifyIndex: 9}},
	}
	entry := append([]byte{}, Prefix...)
	for _, c := range cmds {
		var err error
		if entry, err = Append(entry, c); err != nil {
			t.Fatal(err)
		}
	}
	const path = "testdata/query.hex"
	got := hex.Dump(entry)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("entry: want (-) got (+):\n%s", d)
	}
	back, err := Decode(entry)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(cmds, back); d != "" {
		t.Errorf("decoded: want (-) got (+):\n%s", d)
	}
	for i, want := range [][]string{{"query/id"}, {"place/n1"}, {"autopilot"}} {
		if d := cmp.Diff(want, cmds[i].Keys()); d != "" {
			t.Errorf("keys: want (-) got (+):\n%s", d)
		}
	}
}
