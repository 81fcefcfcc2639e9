package gossip

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/serf/serf"

	"github.com/rollcall/rollcall/internal/api"
)

// inbox keeps the events that a pool gives.
type inbox struct {
	mu  sync.Mutex
	got []*api.UserEvent // guarded by mu
}

func (b *inbox) take(e *api.UserEvent) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.got = append(b.got, e)
}

func (b *inbox) count() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.got)
}

// An event reaches everybody, who fired it too, as it was.
func TestEventsTravel(t *testing.T) {
	bubble(t, func(t *testing.T, l *lan) {
		var boxes [2]inbox
		a, stopA := l.on(t, "10.0.0.1", "a", func(c *Config) { c.Event = boxes[0].take })
		defer stopA()
		b, stopB := l.on(t, "10.0.0.2", "b", func(c *Config) { c.Event = boxes[1].take })
		defer stopB()
		join(t, b, at("10.0.0.1"))
		until(t, a, "b is there", is(a, "b", api.StatusAlive))
		e := api.UserEvent{
			ID: "f1575ee8-92f1-4ba1-9eb9-2f4fcc3d7da0", Name: "deploy", Payload: []byte{0, 1, 255}, NodeFilter: "n", ServiceFilter: "s", TagFilter: "t", Version: 1,
		}
		if err := b.Fire(&e); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second) // in the bubble: long enough for gossip, and for what comes twice
		for i := range boxes {
			if n := boxes[i].count(); n != 1 {
				t.Fatalf("%d got it %d times", i, n)
			}
			got := *boxes[i].got[0]
			want := e
			want.LTime = got.LTime
			if d := cmp.Diff(want, got); d != "" || got.LTime == 0 {
				t.Errorf("%d: time %d; sent (-) got (+):\n%s", i, got.LTime, d)
			}
		}
		e.Payload = bytes.Repeat([]byte("x"), 600)
		if err := b.Fire(&e); err == nil || !strings.Contains(err.Error(), `fire event "deploy" with a payload of 600 bytes`) {
			t.Errorf("too long: %v", err)
		}
	})
}

func key(b byte) (raw []byte, text string) {
	raw = bytes.Repeat([]byte{b}, 16)
	return raw, base64.StdEncoding.EncodeToString(raw)
}

// The way from one key to another: install, use, remove; and what a restart finds.
func TestKeyRotation(t *testing.T) {
	bubble(t, func(t *testing.T, l *lan) {
		old, oldText := key(1)
		_, newText := key(2)
		file := filepath.Join(t.TempDir(), "serf", "local.keyring")
		a, stopA := l.on(t, "10.0.0.1", "a", func(c *Config) { c.Key, c.Keyring = old, file })
		defer func() { stopA() }()
		b, stopB := l.on(t, "10.0.0.2", "b", func(c *Config) { c.Key = old })
		defer stopB()
		join(t, b, at("10.0.0.1"))
		until(t, a, "b is there", is(a, "b", api.StatusAlive))
		list := func(want *api.KeyringAnswer) {
			t.Helper()
			got, err := b.Keys(ListKeys, "", 0)
			if err != nil {
				t.Fatal(err)
			}
			want.Datacenter, want.NumNodes, want.Messages = "dc1", 2, map[string]string{}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("want (-) got (+):\n%s", d)
			}
		}
		do := func(op KeyOp, text string) {
			t.Helper()
			if _, err := a.Keys(op, text, 1); err != nil {
				t.Fatal(err)
			}
		}
		list(&api.KeyringAnswer{Keys: map[string]int{oldText: 2}, PrimaryKeys: map[string]int{oldText: 2}})
		if _, err := a.Keys(UseKey, newText, 0); err == nil {
			t.Error("a key that is not installed can be used")
		}
		do(InstallKey, newText)
		list(&api.KeyringAnswer{Keys: map[string]int{oldText: 2, newText: 2}, PrimaryKeys: map[string]int{oldText: 2}})
		do(UseKey, newText)
		if _, err := a.Keys(RemoveKey, newText, 0); err == nil {
			t.Error("the key in use can be removed")
		}
		do(RemoveKey, oldText)
		list(&api.KeyringAnswer{Keys: map[string]int{newText: 2}, PrimaryKeys: map[string]int{newText: 2}})
		var kept []string
		if text, err := os.ReadFile(file); err != nil || json.Unmarshal(text, &kept) != nil || len(kept) != 1 || kept[0] != newText {
			t.Errorf("the file has %v, %v", kept, err)
		}
		stopA()
		until(t, b, "a is gone", is(b, "a", api.StatusFailed))
		a, stopA = l.on(t, "10.0.0.1", "a", func(c *Config) { c.Key, c.Keyring = old, file })
		join(t, a, at("10.0.0.2"))
		until(t, b, "a is back with the new key", is(b, "a", api.StatusAlive))
	})
}

func TestKeysRefused(t *testing.T) {
	bubble(t, func(t *testing.T, l *lan) {
		clear, stop := l.on(t, "10.0.0.1", "a", nil)
		defer stop()
		raw, text := key(1)
		secret, stop2 := l.on(t, "10.0.0.2", "b", func(c *Config) { c.Key = raw })
		defer stop2()
		for want, f := range map[string]func() error{
			"encryption not enabled":    func() error { _, err := clear.Keys(InstallKey, text, 0); return err },
			"not base64":                func() error { _, err := secret.Keys(InstallKey, "!", 0); return err },
			"must be 16, 24 or 32":      func() error { _, err := secret.Keys(UseKey, "AAAA", 0); return err },
			"unknown keyring operation": func() error { _, err := secret.Keys("melt", text, 0); return err },
		} {
			if err := f(); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
			}
		}
	})
}

// A keyring file that cannot be read ends the start, and the error tells no key.
func TestKeyringFileFaults(t *testing.T) {
	t.Parallel()
	raw, text := key(7)
	for want, content := range map[string]string{
		"not a JSON list": "{", "no keys": "[]", "key 2 is not the base64": `["` + text + `","AAAA"]`, "not the base64 of 16": `["` + text[:10] + `"]`,
	} {
		file := filepath.Join(t.TempDir(), "local.keyring")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := (&Config{Key: raw, Keyring: file}).keyring()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), text[:10]) {
			t.Errorf("%s: %v, want %q", content, err, want)
		}
	}
}

// Whoever has the key of the gossip can send anything.
func FuzzEvent(f *testing.F) {
	var b []byte
	if err := codec.NewEncoderBytes(&b, eventHandle).Encode(wireEvent{ID: "i", Payload: []byte("p"), Node: "n", Version: 1}); err != nil {
		f.Fatal(err)
	}
	f.Add("rollcall:event:deploy", b)
	f.Add("rollcall:event:", []byte{0xc1})
	f.Fuzz(func(t *testing.T, name string, payload []byte) {
		e, ok := fired(serf.UserEvent{Name: name, Payload: payload})
		if ok != (e != nil) || ok && !strings.HasPrefix(name, eventPrefix) {
			t.Errorf("%q: %v, %v", name, e, ok)
		}
	})
}
