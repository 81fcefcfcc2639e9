package logfile

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestRotate(t *testing.T) {
	t.Parallel()
	for keep, want := range map[int]int{0: 5, 2: 3, -1: 1} {
		dir := t.TempDir()
		l, err := Open(dir+"/", 10, time.Hour, keep)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			if _, err := fmt.Fprintf(l, "line %d..\n", i); err != nil {
				t.Fatal(err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(dir, "*.log"))
		if err != nil || len(files) != want {
			t.Errorf("keep %d: %d files, %v; want %d", keep, len(files), err, want)
		}
		if b, err := os.ReadFile(filepath.Join(dir, "templater.log")); err != nil || string(b) != "line 4..\n" {
			t.Errorf("keep %d: the log holds %q, %v", keep, b, err)
		}
	}
}

func TestAppendAndRefuse(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sub", "x.log")
	for range 2 {
		l, err := Open(path, 0, 0, 0)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(l, "a")
		l.Close()
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "aa" {
		t.Errorf("got %q, %v", b, err)
	}
	if _, err := Open(filepath.Join(path, "below"), 0, 0, 0); err == nil {
		t.Error("a folder that is a file was opened")
	}
}
