package view

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestDiff(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ before, after, want string }{
		"equal":      {"a\nb\n", "a\nb\n", ""},
		"one line":   {"a\nb\nc\n", "a\nx\nc\n", "--- f\n+++ f\n@@ -1,3 +1,3 @@\n a\n-b\n+x\n c\n"},
		"added":      {"a\n", "a\nb\n", "--- f\n+++ f\n@@ -1 +1,2 @@\n a\n+b\n"},
		"no newline": {"a", "b", "--- f\n+++ f\n@@ -1 +1 @@\n-a\n\\ No newline at end of file\n+b\n\\ No newline at end of file\n"},
	} {
		if got := Diff("f", []byte(c.before), []byte(c.after)); got != c.want {
			t.Errorf("%s: got\n%s\nwant\n%s", name, got, c.want)
		}
	}
	if got := Diff("f", nil, []byte("a\n")); got != "--- /dev/null\n+++ f\n@@ -0,0 +1 @@\n+a\n" {
		t.Errorf("a new file:\n%s", got)
	}
	if got := Diff("f", []byte("a\n"), nil); got != "--- f\n+++ /dev/null\n@@ -1 +0,0 @@\n-a\n" {
		t.Errorf("a file that goes:\n%s", got)
	}
}

// What patch makes of the one file with the diff is the other.
func TestPatch(t *testing.T) {
	patch, err := exec.LookPath("patch")
	if err != nil {
		t.Skip("no patch on this machine to apply the diff")
	}
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		text := func(name string) string {
			return strings.Join(rapid.SliceOfN(rapid.SampledFrom([]string{"a\n", "b\n", "c\n", "d\n"}), 1, 40).Draw(t, name), "")
		}
		before, after := text("before"), text("after")
		d := Diff("f", []byte(before), []byte(after))
		if d == "" {
			if before != after {
				t.Fatalf("no diff of %q and %q", before, after)
			}
			return
		}
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, []byte(before), 0o644); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(patch, "-s", "-u", path)
		cmd.Stdin = strings.NewReader(d)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("patch: %v\n%s\n%s", err, out, d)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != after {
			t.Fatalf("patched to %q, %v; want %q\n%s", got, err, after, d)
		}
	})
}

// Large files that differ little are compared quickly, and those that differ much too.
func BenchmarkDiff(b *testing.B) {
	var before, after strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&before, "server 10.0.%d.%d:80;\n", i/256, i%256)
		if i%1000 != 0 {
			fmt.Fprintf(&after, "server 10.0.%d.%d:80;\n", i/256, i%256)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		Diff("f", []byte(before.String()), []byte(after.String()))
	}
}
