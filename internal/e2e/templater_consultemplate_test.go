package e2e

import (
	"encoding/json"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// What consul-template 0.42.1 rendered of these templates, beside a Consul 1.8.7 with
// this catalog, ours renders to the byte, beside either catalog. The output in
// testdata/consul-template was recorded from it.
func TestConsulTemplateOutput(t *testing.T) {
	t.Parallel()
	var cases []struct{ Template, Output string }
	if err := json.Unmarshal([]byte(read(t, "testdata/consul-template/rendered.json")), &cases); err != nil || len(cases) < 150 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	for kind, start := range catalogs {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			fillCatalog(t, c)
			dir := t.TempDir()
			var list []map[string]any
			for i, one := range cases {
				list = append(list, map[string]any{"contents": one.Template, "destination": filepath.Join(dir, fmt.Sprint(i))})
			}
			b, err := json.Marshal(map[string]any{"template": list})
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(dir, "config.json")
			write(t, file, string(b))
			env := []string{"CONSUL_HTTP_ADDR=" + c.http, "TPL_X=yes", "TPL_EMPTY="}
			if _, errs, code := outcome(t, env, bins(t, "templater"), "-once", "-config="+file); code != 0 {
				t.Fatalf("exit %d: %s", code, errs)
			}
			for i, one := range cases {
				if got := read(t, filepath.Join(dir, fmt.Sprint(i))); got != one.Output {
					t.Errorf("%s\ngot  %q\nwant %q", one.Template, got, one.Output)
				}
			}
		})
	}
}

var original = flag.String("consul-template", "", "path of consul-template itself: run it instead, and take what it makes for what is wanted")

// Configurations as consul-template's users have them give what consul-template 0.42.1
// gave beside a Consul 1.8.7: the same files to the byte, with the same modes, the same
// on stdout, the same exit code. Each is a text of parts, "-- name --" above each; those
// below want/ were recorded from it: go test ./internal/e2e -run
// TestConsulTemplateConfigurations -consul-template PATH. DIR is the test's folder, ADDR
// the catalog.
func TestConsulTemplateConfigurations(t *testing.T) {
	t.Parallel()
	texts, err := filepath.Glob("testdata/consul-template/configurations/*.txt")
	if err != nil || len(texts) < 20 {
		t.Fatalf("%d configurations, %v", len(texts), err)
	}
	for kind, start := range catalogs {
		if *original != "" && kind != "consul" {
			continue
		}
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			fillCatalog(t, c)
			for _, path := range texts {
				t.Run(strings.TrimSuffix(filepath.Base(path), ".txt"), func(t *testing.T) { runConfiguration(t, c, path) })
			}
		})
	}
}

// fillCatalog writes what the recorded answers were made of.
func fillCatalog(t *testing.T, c *agent) {
	t.Helper()
	for line := range strings.Lines(read(t, "testdata/consul-template/catalog.txt")) {
		path, text, _ := strings.Cut(line, "\t")
		var body string
		if err := json.Unmarshal([]byte(text), &body); err != nil {
			t.Fatal(err)
		}
		if err := c.put(path, body); err != nil {
			t.Fatal(err)
		}
	}
}

// parts splits a text at its "-- name --" lines; the first is without a name.
func parts(text string) (names []string, of map[string]string) {
	names, of = []string{""}, map[string]string{}
	for line := range strings.Lines(text) {
		name, ok := strings.CutPrefix(line, "-- ")
		if name, ended := strings.CutSuffix(name, " --\n"); ok && ended {
			names = append(names, name)
			continue
		}
		of[names[len(names)-1]] += line
	}
	return names, of
}

func runConfiguration(t *testing.T, c *agent, path string) {
	dir := t.TempDir()
	here, there := strings.NewReplacer("DIR", dir, "ADDR", c.http), strings.NewReplacer(dir, "DIR", c.http, "ADDR")
	names, text := parts(read(t, path))
	put := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), here.Replace(text))
	}
	kept := ""
	for _, name := range names {
		if strings.HasPrefix(name, "want/") {
			continue
		}
		if name != "" {
			kept += "-- " + name + " --\n"
			if name != "args" {
				put(name, text[name])
			}
		}
		kept += text[name]
	}
	put("out/.keep", "")
	program := bins(t, "templater")
	if *original != "" {
		program = *original
	}
	args := append([]string{"-once"}, strings.Split(strings.TrimSpace(here.Replace(text["args"])), "\n")...)
	stdout, errs, code := outcome(t, []string{"TPL_X=yes"}, program, args...)

	got := map[string]string{"want/exit": fmt.Sprintln(code), "want/stdout": there.Replace(stdout), "want/modes": ""}
	out := filepath.Join(dir, "out")
	err := filepath.WalkDir(out, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == out {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if d.IsDir() && strings.HasPrefix(d.Name(), ".templater-") { // what ours remembers by
			return filepath.SkipDir
		}
		if d.IsDir() || d.Name() == ".keep" {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		got["want/modes"] += fmt.Sprintf("%o %s\n", info.Mode().Perm(), name)
		got["want/"+name] = there.Replace(read(t, path))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if *original != "" {
		for _, name := range slices.Sorted(maps.Keys(got)) {
			kept += "-- " + name + " --\n" + got[name]
			if !strings.HasSuffix(kept, "\n") {
				kept += "\n"
			}
		}
		write(t, path, kept)
		return
	}
	for _, name := range slices.Sorted(maps.Keys(got)) {
		want, ok := text[name]
		if got := got[name]; got != want && got+"\n" != want || !ok && got != "" {
			t.Errorf("%s\ngot  %q\nwant %q", name, got, want)
		}
	}
	for name := range text {
		if _, ok := got[name]; !ok && strings.HasPrefix(name, "want/") {
			t.Errorf("%s is missing", name)
		}
	}
	if t.Failed() {
		t.Log(errs)
	}
}
