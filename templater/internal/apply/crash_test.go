package apply

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// ways are the modes of writing.
var ways = map[string]func(*Group){
	"rename":   func(*Group) {},
	"link":     func(g *Group) { g.Links = true },
	"in-place": func(g *Group) { g.InPlace = true },
}

// killed runs f until the point is reached for the nth time, and reports whether it was.
// A killed process runs no deferred function that matters: discard is kept from working.
func killed(t *testing.T, point string, f func()) (was bool) {
	t.Helper()
	type stop struct{}
	crash = func(at string) {
		if at == point {
			crash = nil
			panic(stop{})
		}
	}
	defer func() {
		crash = nil
		if p := recover(); p == (stop{}) {
			was = true
		} else if p != nil {
			panic(p)
		}
	}()
	f()
	return false
}

// dead is a transaction whose process has died: what it would clean up stays.
func (g *Group) dieAt(t *testing.T, point string, files []File) bool {
	return killed(t, point, func() {
		unlock, err := g.lock(files)
		if err != nil {
			t.Fatal(err)
		}
		defer unlock() // the kernel does it
		tx := g.begin(files)
		if _, err := tx.stage(); err != nil {
			t.Fatal(err)
		}
		if err := tx.prepare(); err != nil {
			t.Fatal(err)
		}
		if err := tx.swap(); err != nil {
			t.Fatal(err)
		}
		at("before commit")
		if err := g.setMark(files, true); err != nil {
			t.Fatal(err)
		}
		if err := tx.commit(); err != nil {
			t.Fatal(err)
		}
	})
}

// points lists every place at which a change of a set to another can be cut off.
func points(t *testing.T, set func(*Group), from, to func(dir string) []File) []string {
	dir := t.TempDir()
	g := group(t, &reloads{}, nil)
	set(g)
	if _, err := g.Apply(t.Context(), from(dir)); err != nil {
		t.Fatal(err)
	}
	var out []string
	crash = func(at string) { out = append(out, at) }
	defer func() { crash = nil }()
	if _, err := g.Apply(t.Context(), to(dir)); err != nil {
		t.Fatal(err)
	}
	return out
}

// state says which set the disk holds, "mixed" if none whole.
func state(dir string, sets map[string][]File) string {
	for name, files := range sets {
		whole := true
		for _, f := range files {
			b, err := os.ReadFile(f.Dest)
			if f.Remove {
				whole = whole && (os.IsNotExist(err) || err == nil && len(b) == 0)
			} else {
				whole = whole && err == nil && string(b) == string(f.Content)
			}
		}
		if whole {
			return name
		}
	}
	return "mixed"
}

// Killed at any point, the next process finds, or makes, one whole set; with links the
// disk holds one at every moment.
func TestKilledAtEveryStep(t *testing.T) { // not parallel: the crash hook is the package's
	file := func(dir, name, text string) File {
		return File{Dest: filepath.Join(dir, name), Content: []byte(text)}
	}
	old := func(dir string) []File {
		return []File{file(dir, "a.conf", "old a"), file(dir, "b.conf", "old b"), {Dest: filepath.Join(dir, "c.conf"), Remove: true}}
	}
	next := func(dir string) []File { // one changes, one goes, one comes
		return []File{file(dir, "a.conf", "new a"), {Dest: filepath.Join(dir, "b.conf"), Remove: true}, file(dir, "c.conf", "new c")}
	}
	for way, set := range ways {
		steps := points(t, set, old, next)
		if len(steps) < 4 || !slices.Contains(steps, "swapped") {
			t.Fatalf("%s: only the steps %q", way, steps)
		}
		for i, point := range steps {
			t.Run(way+"/"+point, func(t *testing.T) {
				dir := t.TempDir()
				sets := map[string][]File{"old": old(dir), "new": next(dir)}
				r := &reloads{}
				g := group(t, r, nil)
				set(g)
				if _, err := g.Apply(t.Context(), old(dir)); err != nil {
					t.Fatal(err)
				}
				if !g.dieAt(t, point, next(dir)) {
					t.Fatalf("step %d was not reached", i)
				}
				if got := state(dir, sets); got == "mixed" && way == "link" {
					t.Error("a mixed set right after the kill")
				}
				again := group(t, r, nil)
				set(again)
				if _, err := again.Recover(next(dir)); err != nil {
					t.Fatal(err)
				}
				got := state(dir, sets)
				if got == "mixed" {
					t.Fatal("a mixed set after the recovery")
				}
				if point == "committed" && got != "new" {
					t.Errorf("after the commit: the %s set", got)
				}
				if _, applied := again.Current(old(dir)); point == "prepared" && !applied && way != "link" {
					t.Error("what is live was never touched, and does not count as applied any more")
				}
				// whatever stands there, what runs is known, or reloaded
				if _, applied := again.Current(next(dir)); applied && point != "committed" && point != "before commit" {
					t.Error("the new set counts as applied, and was never reloaded")
				}
				if _, err := again.Apply(t.Context(), next(dir)); err != nil {
					t.Fatal(err)
				}
				if got := state(dir, sets); got != "new" {
					t.Errorf("in the end the %s set", got)
				}
				leftOver(t, dir)
			})
		}
	}
}

// leftOver fails for what is neither a file of the set nor the store.
func leftOver(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if n := e.Name(); strings.HasPrefix(n, ".") && n != ".templater-g" {
			t.Errorf("%s is left behind", n)
		}
	}
	store, err := os.ReadDir(filepath.Join(dir, ".templater-g"))
	if err != nil {
		t.Fatal(err)
	}
	sets := 0
	for _, e := range store {
		if strings.HasPrefix(e.Name(), "set-") {
			sets++
		}
	}
	if sets > 1 {
		t.Errorf("%d sets of files are kept, want at most the live one", sets)
	}
}

// A refused set leaves the very files that are there, and no way back to them.
func TestRefusedInEveryWay(t *testing.T) {
	t.Parallel()
	for way, set := range ways {
		dir := t.TempDir()
		g := group(t, &reloads{}, nil)
		set(g)
		if _, err := g.Apply(t.Context(), pair(dir, "one")); err != nil {
			t.Fatal(err)
		}
		stat := func() os.FileInfo {
			info, err := os.Lstat(filepath.Join(dir, "a.conf"))
			if err != nil {
				t.Fatal(err)
			}
			return info
		}
		before := stat()
		g.Checker = checks{errors.New("no")}
		for range 2 {
			if _, err := g.Apply(t.Context(), append(pair(dir, "two"), File{Dest: filepath.Join(dir, "c.conf")})); !errors.Is(err, ErrRefused) {
				t.Fatalf("%s: %v, want a refusal", way, err)
			}
		}
		if after := stat(); !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
			t.Errorf("%s: the live file was replaced or written to", way)
		}
		wantLive(t, dir, "one")
		leftOver(t, dir)
		if _, err := os.Lstat(g.journalPath(pair(dir, ""))); !os.IsNotExist(err) {
			t.Errorf("%s: a journal is left (%v)", way, err)
		}
		if _, applied := g.Current(pair(dir, "one")); !applied {
			t.Errorf("%s: the live set does not count as applied any more", way)
		}
	}
}

// A failed reload brings the files before back, whatever the way of writing.
func TestRollBackOfEveryWay(t *testing.T) {
	t.Parallel()
	for way, set := range ways {
		dir, r := t.TempDir(), &reloads{}
		g := group(t, r, nil)
		set(g)
		if _, err := g.Apply(t.Context(), pair(dir, "one")); err != nil {
			t.Fatal(err)
		}
		r.fail = 1
		if _, err := g.Apply(t.Context(), pair(dir, "two")); err == nil {
			t.Errorf("%s: a failed reload was no error", way)
		}
		wantLive(t, dir, "one")
		if _, applied := g.Current(pair(dir, "one")); !applied {
			t.Errorf("%s: what was reloaded again does not count as applied", way)
		}
		r.fail = 2
		if _, err := g.Apply(t.Context(), pair(dir, "two")); err == nil {
			t.Errorf("%s: two failed reloads were no error", way)
		}
		if _, applied := g.Current(pair(dir, "one")); applied {
			t.Errorf("%s: what could not be reloaded counts as applied", way)
		}
		g.Keep, r.fail = true, 1
		if _, err := g.Apply(t.Context(), pair(dir, "three")); err == nil {
			t.Errorf("%s: a failed reload was no error though the files are kept", way)
		}
		wantLive(t, dir, "three")
	}
}

// In place the file stays the same one.
func TestInPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := group(t, &reloads{}, nil)
	g.InPlace = true
	if _, err := g.Apply(t.Context(), pair(dir, "one")); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(dir, "a.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Apply(t.Context(), pair(dir, "two")); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(filepath.Join(dir, "a.conf")); err != nil || !os.SameFile(before, after) {
		t.Errorf("another file stands there now (%v)", err)
	}
	wantLive(t, dir, "two")
}

// Nothing is reloaded for what means the same.
func TestSameMeaning(t *testing.T) {
	t.Parallel()
	dir, r := t.TempDir(), &reloads{}
	g := group(t, r, nil)
	g.Same = func(a, b []byte) bool { return strings.TrimSpace(string(a)) == strings.TrimSpace(string(b)) }
	file := func(text string) []File {
		return []File{{Dest: filepath.Join(dir, "a.conf"), Content: []byte(text)}}
	}
	for i, c := range []struct {
		text    string
		reloads int
	}{{"x", 1}, {"x\n", 1}, {"x\n\n", 1}, {"y", 2}} {
		if _, err := g.Apply(t.Context(), file(c.text)); err != nil {
			t.Fatal(err)
		}
		if b, err := os.ReadFile(file("")[0].Dest); err != nil || string(b) != c.text {
			t.Errorf("%d: on disk %q, %v", i, b, err)
		}
		if _, applied := g.Current(file(c.text)); !applied || r.n != c.reloads {
			t.Errorf("%d: applied %t, %d reloads, want %d", i, applied, r.n, c.reloads)
		}
	}
	// what was changed by another hand is not what was applied
	if err := os.WriteFile(file("")[0].Dest, []byte("z"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := g.Apply(t.Context(), file("z ")); err != nil || r.n != 3 {
		t.Errorf("after a change by hand: %v, %d reloads, want 3", err, r.n)
	}
}

// Generations come back, files that were not in them go, and a pin says so.
func TestHistory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := group(t, &reloads{}, nil)
	g.History = 2
	for i := range 5 {
		files := pair(dir, fmt.Sprint(i))
		if i == 4 {
			files = append(files, File{Dest: filepath.Join(dir, "c.conf"), Content: []byte("4 c")})
		}
		if _, err := g.Apply(t.Context(), files); err != nil {
			t.Fatal(err)
		}
	}
	files := pair(dir, "")
	if n := len(g.Generations(files)); n != 3 {
		t.Errorf("%d generations, want the present one and 2 before", n)
	}
	if _, err := g.Back(files, 3); err == nil || !strings.Contains(err.Error(), "2 generations") {
		t.Errorf("too far back: %v", err)
	}
	past, err := g.Back(files, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.Apply(t.Context(), past.Files); err != nil {
		t.Fatal(err)
	}
	wantLive(t, dir, "3")
	if g.Pinned(files) != "" {
		t.Error("pinned by itself")
	}
	if err := g.Pin(files, past.Generation); err != nil || g.Pinned(files) != past.Generation {
		t.Errorf("pin: %q, %v", g.Pinned(files), err)
	}
	if err := g.Pin(files, ""); err != nil || g.Pinned(files) != "" {
		t.Errorf("no pin: %q, %v", g.Pinned(files), err)
	}
}

// during calls a function in the midst of a reload.
type during func()

func (d during) Reload(context.Context, string) error { d(); return nil }

// What goes back while a change is being made goes back from that change.
func TestBackDuringAChange(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := group(t, &reloads{}, nil)
	g.History = 2
	if _, err := g.Apply(t.Context(), pair(dir, "one")); err != nil {
		t.Fatal(err)
	}
	type answer struct {
		past Past
		err  error
	}
	got := make(chan answer, 1)
	g.Reloader = during(func() {
		go func() {
			other := group(t, &reloads{}, nil)
			past, err := other.Back(pair(dir, ""), 1)
			got <- answer{past, err}
		}()
		select {
		case a := <-got:
			t.Errorf("it did not wait: %q, %v", a.past.Generation, a.err)
			got <- a
		case <-time.After(100 * time.Millisecond):
		}
	})
	if _, err := g.Apply(t.Context(), pair(dir, "two")); err != nil {
		t.Fatal(err)
	}
	if a := <-got; a.err != nil || a.past.Generation != Generation(pair(dir, "one")) {
		t.Errorf("one back: %q, %v; want the first", a.past.Generation, a.err)
	}
}

// Two processes do not change one set at a time.
func TestLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := group(t, &reloads{}, nil)
	unlock, err := g.lock(pair(dir, ""))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := group(t, &reloads{}, nil).Apply(t.Context(), pair(dir, "x")); err == nil || !strings.Contains(err.Error(), "another templater") {
		t.Errorf("while it is locked: %v", err)
	}
	unlock()
	if _, err := g.Apply(t.Context(), pair(dir, "x")); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
