package apply

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// reloads counts, and fails as often as it is told.
type reloads struct{ n, fail int }

func (r *reloads) Reload(context.Context, string) error {
	r.n++
	if r.fail > 0 {
		r.fail--
		return errors.New("no")
	}
	return nil
}

type checks struct{ err error }

func (c checks) Check(_ context.Context, staged map[string]string) error {
	for dest, path := range staged {
		if _, err := os.Stat(path); path != "" && err != nil {
			return fmt.Errorf("%s is not staged: %w", dest, err)
		}
	}
	return c.err
}

func group(t testing.TB, r *reloads, check error) *Group {
	return &Group{Name: "g", Reloader: r, Checker: checks{check}, Log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

// pair is a set of two files in dir.
func pair(dir, content string) []File {
	return []File{{Dest: filepath.Join(dir, "a.conf"), Content: []byte(content + " a")}, {Dest: filepath.Join(dir, "b.conf"), Content: []byte(content + " b")}}
}

// wantLive fails unless both files hold a content and nothing is left beside them but
// marks.
func wantLive(t *testing.T, dir, content string) {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		b, err := os.ReadFile(filepath.Join(dir, name+".conf"))
		if want := content + " " + name; err != nil || string(b) != want {
			t.Errorf("%s.conf: %q, %v; want %q", name, b, err, want)
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if n := e.Name(); n != "a.conf" && n != "b.conf" && n != ".templater-g" {
			t.Errorf("%s is left behind", n)
		}
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := &reloads{}
	g := group(t, r, nil)
	if onDisk, applied := g.Current(pair(dir, "one")); onDisk || applied {
		t.Error("nothing is there yet")
	}
	if _, err := g.Apply(t.Context(), pair(dir, "one")); err != nil {
		t.Fatal(err)
	}
	wantLive(t, dir, "one")
	if onDisk, applied := g.Current(pair(dir, "one")); !onDisk || !applied || r.n != 1 {
		t.Errorf("after the apply: on disk %t, applied %t, %d reloads", onDisk, applied, r.n)
	}
	refusing := group(t, r, errors.New("bad syntax"))
	if _, err := refusing.Apply(t.Context(), pair(dir, "two")); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "bad syntax") {
		t.Errorf("a refused set: %v", err)
	}
	wantLive(t, dir, "one")
	r.fail = 1
	if _, err := g.Apply(t.Context(), pair(dir, "three")); err == nil || errors.Is(err, ErrRefused) {
		t.Errorf("a failed reload: %v", err)
	}
	wantLive(t, dir, "one")
	if r.n != 3 {
		t.Errorf("%d reloads, want 3: one for the set before, the one that failed, and one back", r.n)
	}
}

// A reload that was missed is made good.
func TestContentEqualNotApplied(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, f := range pair(dir, "one") {
		if err := os.WriteFile(f.Dest, f.Content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	r := &reloads{}
	g := group(t, r, nil)
	if onDisk, applied := g.Current(pair(dir, "one")); !onDisk || applied {
		t.Errorf("on disk %t, applied %t; want it there and not applied", onDisk, applied)
	}
	if _, err := g.Touch(t.Context(), pair(dir, "one")); err != nil || r.n != 1 {
		t.Errorf("touch: %v, %d reloads", err, r.n)
	}
	if _, applied := g.Current(pair(dir, "one")); !applied {
		t.Error("not applied after the touch")
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	dest := filepath.Join(dir, "sub", "file")
	g := group(t, &reloads{}, nil)
	file := func(f File) []File { f.Dest, f.CreateDirs = dest, true; return []File{f} }
	mode := func() os.FileMode {
		info, err := os.Stat(dest)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	if _, err := g.Apply(t.Context(), file(File{Content: []byte("1")})); err != nil || mode() != 0o644 {
		t.Errorf("a new file: mode %o, %v", mode(), err)
	}
	if _, err := g.Apply(t.Context(), file(File{Content: []byte("2"), Perms: 0o600, Backup: true})); err != nil || mode() != 0o600 {
		t.Errorf("with perms: mode %o, %v", mode(), err)
	}
	if onDisk, _ := g.Current(file(File{Content: []byte("2"), Perms: 0o640})); onDisk {
		t.Error("a file of another mode is what is wanted")
	}
	if onDisk, _ := g.Current(file(File{Content: []byte("2"), User: strconv.Itoa(os.Getuid() + 1)})); onDisk {
		t.Error("another one's file is what is wanted")
	}
	if onDisk, applied := g.Current(file(File{Content: []byte("2"), Perms: 0o600, Backup: true})); !onDisk || !applied {
		t.Errorf("the very file: on disk %t, applied %t", onDisk, applied)
	}
	if b, err := os.ReadFile(dest + ".bak"); err != nil || string(b) != "1" {
		t.Errorf("backup: %q, %v", b, err)
	}
	if _, err := g.Apply(t.Context(), file(File{Content: []byte("3")})); err != nil || mode() != 0o600 {
		t.Errorf("without perms the mode stays: %o, %v", mode(), err)
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	if err := ShellCommand("exit 3; true", 0).Reload(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("a failing command: %v", err)
	}
	if err := ShellCommand("echo broken >&2; false", 0).Reload(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "broken") {
		t.Errorf("its words: %v", err)
	}
	if err := ShellCommand("sleep 60 & wait", 50_000_000).Reload(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "no end after 50ms") {
		t.Errorf("a command without end: %v", err)
	}
	if err := ShellCommand("true", 0).Reload(t.Context(), ""); err != nil {
		t.Errorf("true: %v", err)
	}
	for name, c := range map[string]struct {
		script string
		gentle time.Duration
		want   string // in what it says at its end
	}{
		"heeds the signal": {"trap 'echo bye; exit 0' TERM; while :; do sleep 0.02; done", time.Minute, "bye"},
		"does not":         {"trap 'echo heard' TERM; while :; do sleep 0.02; done", 200 * time.Millisecond, "heard"},
	} {
		slow := ShellCommand(c.script, 500*time.Millisecond)
		slow.KillSignal, slow.KillTimeout = syscall.SIGTERM, c.gentle
		if err := slow.Reload(t.Context(), ""); err == nil || !strings.Contains(err.Error(), "no end after") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("one that %s: %v", name, err)
		}
	}
}

// A command that wants a tree finds the staged files in their places among what is there.
func TestCheckInTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, d := range []string{"conf", "elsewhere"} {
		if err := os.Mkdir(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }
	for name, text := range map[string]string{"conf/main": "old main", "conf/rules": "rules", "conf/gone": "x", "elsewhere/y": "y"} {
		if err := os.WriteFile(at(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	files := []File{
		{Dest: at("conf/main"), Content: []byte("new main")}, {Dest: at("conf/gone"), Remove: true},
		{Dest: at("conf/new/deep"), Content: []byte("deep"), CreateDirs: true},
	}
	for name, c := range map[string]struct{ cwd, command, want string }{
		"beside the first": {"", "test \"$(cat main rules new/deep)\" = 'new mainrulesdeep' && ! test -e gone", ""},
		"a folder":         {at("elsewhere"), "test \"$(cat y ../conf/main)\" = 'ynew main' && test \"$(cat $TEMPLATER_TREE" + at("conf/main") + ")\" = 'new main'", ""},
		"its words":        {"", "echo $PWD/main is bad; exit 1", at("conf/main") + " is bad"},
		"no such folder":   {at("nowhere"), "true ;", at("nowhere")},
		"live is live":     {"", "test \"$(cat " + at("conf/main") + ")\" = 'old main'", ""},
	} {
		check := ShellCommand(c.command, 0)
		check.Tree, check.Dir = true, c.cwd
		g := group(t, &reloads{}, nil)
		g.Checker = check
		err := g.Check(t.Context(), files)
		if (err == nil) != (c.want == "") || err != nil && (!strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "templater-tree")) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// What nginx checks is the configuration as it would be: staged files in the place of
// live ones, new files among those that a pattern takes in, relative names found.
func TestCandidate(t *testing.T) {
	t.Parallel()
	dir, out := t.TempDir(), t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(p), 0o755)
		if err := os.WriteFile(p, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return p
	}
	conf := write("nginx.conf", "events {}\nhttp { # include nothing;\n  include mime.types; include "+dir+"/conf.d/*.conf; }\n")
	write("mime.types", "types {}\n")
	write("conf.d/live.conf", "live;")
	old := write("conf.d/app.conf", "old;")
	staged := map[string]string{old: write("conf.d/.app.conf.new", "new;"), filepath.Join(dir, "conf.d", "fresh.conf"): write("conf.d/.fresh.conf.new", "fresh;")}
	c := &copier{dir: out, base: dir, staged: staged, taken: map[string]bool{}}
	main, err := c.candidate(conf)
	if err != nil {
		t.Fatal(err)
	}
	got := expand(t, main)
	for _, want := range []string{"types {}", "live;", "new;", "fresh;", "# include nothing;"} {
		if !strings.Contains(got, want) {
			t.Errorf("the candidate lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "old;") {
		t.Errorf("the candidate has the old file:\n%s", got)
	}
	if _, err := os.Stat(filepath.Join(out, "mime.types")); err != nil {
		t.Errorf("a relative name is not found beside the candidate: %v", err)
	}
}

// expand follows quoted include lines.
func expand(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for line := range strings.Lines(string(b)) {
		out.WriteString(line)
		for rest := line; ; {
			_, after, ok := strings.Cut(rest, `include "`)
			if !ok {
				break
			}
			name, tail, _ := strings.Cut(after, `"`)
			out.WriteString(expand(t, name))
			rest = tail
		}
	}
	return out.String()
}
