package logging

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func level(l slog.Level) *slog.LevelVar {
	v := new(slog.LevelVar)
	v.Set(l)
	return v
}

func open(t *testing.T, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestText(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := open(t, Config{Level: level(slog.LevelInfo), Stream: &out}).Logger()
	log.Info("plain")
	log.With("room", "gossip").Warn("member failed", "node", "web 1", "n", 3, "err", errors.New("a \"b\""), slog.Group("g", "k", "v"))
	log.WithGroup("g").With("a", 1).Error("two\nlines", "took", time.Second, "empty", "")
	log.Debug("not taken")
	stamp := regexp.MustCompile(`(?m)^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|[+-]\d\d:\d\d) `)
	if n := len(stamp.FindAllString(out.String(), -1)); n != 3 {
		t.Errorf("%d lines with a time, want 3:\n%s", n, out.String())
	}
	got := stamp.ReplaceAllString(out.String(), "")
	want := `[INFO]  agent: plain
[WARN]  agent.gossip: member failed: node="web 1" n=3 err="a \"b\"" g.k=v
[ERROR] agent: two lines: g.a=1 g.took=1s g.empty=""
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestJSON(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	log := open(t, Config{Level: level(slog.LevelDebug), JSON: true, Stream: &out}).Logger()
	log.With("room", "raft").Debug("elected", "term", 7, "level", "x")
	var got map[string]any
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	at, _ := got["@timestamp"].(string)
	if _, err := time.Parse(time.RFC3339Nano, at); err != nil {
		t.Errorf("@timestamp: %v", err)
	}
	if got["@level"] != "debug" || got["@message"] != "elected" || got["@module"] != "agent.raft" || got["term"] != 7.0 || got["level"] != "x" {
		t.Errorf("got %v", got)
	}
}

// A level that changes holds for the next line; a follower has a level of its own.
func TestLevels(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		v := level(slog.LevelWarn)
		l := open(t, Config{Level: v, Stream: &out})
		log := l.Logger()
		ctx, stop := context.WithCancel(t.Context())
		var got strings.Builder
		ended := make(chan error, 1)
		go func() {
			ended <- l.Follow(ctx, slog.LevelDebug, false, func(line []byte) error { got.Write(line); return nil })
		}()
		synctest.Wait()
		log.Debug("for the follower")
		log.Warn("for both")
		synctest.Wait()
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if text := got.String(); !strings.Contains(text, "[DEBUG] agent: for the follower\n") || !strings.Contains(text, "for both") {
			t.Errorf("followed\n%s", text)
		}
		if log.Enabled(t.Context(), slog.LevelInfo) {
			t.Error("formats for a follower that left")
		}
		v.Set(slog.LevelDebug)
		log.Debug("now taken")
		if text := out.String(); strings.Contains(text, "for the follower") || !strings.Contains(text, "for both") || !strings.Contains(text, "now taken") {
			t.Errorf("the stream has\n%s", text)
		}
	})
}

// A follower that does not take its lines holds nobody up, and is told what it missed.
func TestSlowFollower(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Level: level(slog.LevelError), Stream: &bytes.Buffer{}})
		ctx, stop := context.WithCancel(t.Context())
		release := make(chan struct{})
		var lines []string
		done := make(chan error, 1)
		go func() {
			done <- l.Follow(ctx, slog.LevelInfo, false, func(line []byte) error {
				<-release
				lines = append(lines, string(line))
				return nil
			})
		}()
		synctest.Wait()
		log := l.Logger()
		log.Info("first")
		synctest.Wait() // it is being written
		for range followed + 9 {
			log.Info("more")
		}
		close(release)
		synctest.Wait()
		stop()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if len(lines) != 1+followed+1 || !strings.Contains(lines[1], "9 lines were not sent") {
			t.Errorf("%d lines, the second %q", len(lines), lines[1])
		}
	})
}

func TestFollowEndsWithItsWriter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := open(t, Config{Level: level(slog.LevelInfo), Stream: &bytes.Buffer{}})
		gone, ended := errors.New("gone"), make(chan error, 1)
		go func() {
			ended <- l.Follow(t.Context(), slog.LevelInfo, true, func([]byte) error { return gone })
		}()
		synctest.Wait()
		l.Logger().Info("x")
		if err := <-ended; !errors.Is(err, gone) {
			t.Errorf("got %v, want the writer's error", err)
		}
	})
}

func TestFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	now := time.Unix(1000, 0)
	cfg := File{Path: dir + "/", MaxBytes: 100, MaxAge: time.Hour, Keep: 2, Now: func() time.Time { return now }}
	write := func(f *file, n int) {
		t.Helper()
		if _, err := f.Write([]byte(strings.Repeat("x", n-1) + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	list := func() string {
		entries, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, e := range entries {
			info, err := e.Info()
			if err != nil {
				t.Fatal(err)
			}
			out = append(out, e.Name()+":"+strings.Repeat("#", int(info.Size())/10))
		}
		return strings.Join(out, " ")
	}
	f, err := openFile(cfg)
	if err != nil {
		t.Fatal(err)
	}
	write(f, 60)
	write(f, 40)
	if got, want := list(), "rollcall.log:##########"; got != want {
		t.Errorf("full: %s, want %s", got, want)
	}
	write(f, 10)
	if got, want := list(), "rollcall-1000000000000.log:########## rollcall.log:#"; got != want {
		t.Errorf("over: %s, want %s", got, want)
	}
	now = now.Add(time.Hour)
	write(f, 20)
	if got, want := list(), "rollcall-1000000000000.log:########## rollcall-4600000000000.log:# rollcall.log:##"; got != want {
		t.Errorf("old: %s, want %s", got, want)
	}
	if err := os.WriteFile(filepath.Join(dir, "rollcall-notes.log"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Hour)
	write(f, 30)
	if got, want := list(), "rollcall-4600000000000.log:# rollcall-8200000000000.log:## rollcall-notes.log: rollcall.log:###"; got != want {
		t.Errorf("too many: %s, want %s", got, want)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	cfg.Keep = -1
	if f, err = openFile(cfg); err != nil {
		t.Fatal(err)
	}
	write(f, 40)
	now = now.Add(time.Hour)
	write(f, 10)
	if got, want := list(), "rollcall-notes.log: rollcall.log:#"; got != want {
		t.Errorf("none kept: %s, want %s", got, want)
	}
	f.Close()
}

// A file whose directory went away is said on the stream once, and written again later.
func TestFileComesBack(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "logs")
	var out bytes.Buffer
	now := time.Unix(1000, 0)
	l := open(t, Config{Level: level(slog.LevelInfo), Stream: &out, File: File{Path: filepath.Join(dir, "a.log"), MaxAge: time.Minute, Now: func() time.Time { return now }}})
	log := l.Logger()
	log.Info("one")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	now = now.Add(time.Minute)
	log.Info("two")
	log.Info("three")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	log.Info("four")
	b, err := os.ReadFile(filepath.Join(dir, "a.log"))
	if err != nil || !strings.Contains(string(b), "agent: four") {
		t.Errorf("the file has %q, %v", b, err)
	}
	if n := strings.Count(out.String(), "log file not written"); n != 1 || strings.Count(out.String(), "\n") != 5 {
		t.Errorf("said %d times on the stream:\n%s", n, out.String())
	}
}

func TestOpenFaults(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(Config{Level: level(slog.LevelInfo), Stream: &bytes.Buffer{}, File: File{Path: file + "/x.log"}})
	if err == nil || !strings.HasPrefix(err.Error(), "log_file: ") {
		t.Errorf("got %v, want the key named", err)
	}
}

func TestSyslog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	c, err := net.ListenPacket("unixgram", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const local3 = 19
	write, end, err := dialSyslog("unixgram", path, local3)
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	write(slog.LevelWarn, []byte("agent.raft: slow disk\n"))
	b := make([]byte, 512)
	n, _, err := c.ReadFrom(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(b[:n]); !strings.HasPrefix(got, "<156>") || !strings.HasSuffix(got, ": agent.raft: slow disk\n") || !strings.Contains(got, "rollcall[") { // 19*8 + 4
		t.Errorf("got %q", got)
	}
	if _, _, err := dialSyslog("unixgram", path+"-none", local3); err == nil || !strings.Contains(err.Error(), "no syslog answers") {
		t.Errorf("nobody there: %v", err)
	}
}
