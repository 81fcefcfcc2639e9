package logging

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// File is where a log file stands and when a new one begins. The file that is written has
// the plain name always; the ones before it have the time they ended in their names.
type File struct {
	// Path of the file. One that ends in a slash, or is a directory, gets "rollcall.log"
	// behind it. "" is no file.
	Path string
	// MaxBytes and MaxAge are when a new file begins; 0 is never.
	MaxBytes int
	MaxAge   time.Duration
	// Keep is how many old files stay: 0 all, below 0 none.
	Keep int
	// Now is the clock; nil is the time of day.
	Now func() time.Time
}

// file is the open log file. It is used by one at a time.
type file struct {
	File
	f     *os.File
	size  int
	since time.Time
}

func openFile(cfg File) (*file, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if info, err := os.Stat(cfg.Path); strings.HasSuffix(cfg.Path, "/") || err == nil && info.IsDir() {
		cfg.Path = filepath.Join(cfg.Path, "rollcall.log")
	}
	if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o750); err != nil {
		return nil, err
	}
	f := &file{File: cfg}
	return f, f.open()
}

// open goes on with what is there. Its age counts from now: when it began is not known.
func (f *file) open() error {
	out, err := os.OpenFile(f.Path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640)
	if err != nil {
		return err
	}
	info, err := out.Stat()
	if err != nil {
		return errors.Join(err, out.Close())
	}
	f.f, f.size, f.since = out, int(info.Size()), f.Now()
	return nil
}

// Write appends a line, in a new file if the present one is full or old. A file that
// could not be opened is tried again with the next line.
func (f *file) Write(line []byte) (int, error) {
	if f.f != nil && f.size > 0 && (f.MaxBytes > 0 && f.size+len(line) > f.MaxBytes || f.MaxAge > 0 && f.Now().Sub(f.since) >= f.MaxAge) {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}
	if f.f == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	n, err := f.f.Write(line)
	f.size += n
	return n, err
}

// rotate puts the file aside, opens a new one, and removes those that are too many.
func (f *file) rotate() error {
	err := f.f.Close()
	f.f = nil
	ext := filepath.Ext(f.Path)
	base := strings.TrimSuffix(f.Path, ext)
	aside := fmt.Sprintf("%s-%d%s", base, f.Now().UnixNano(), ext)
	if err = errors.Join(err, os.Rename(f.Path, aside)); err != nil {
		return fmt.Errorf("begin a new log file: %w", err)
	}
	if err := f.open(); err != nil {
		return err
	}
	if f.Keep == 0 {
		return nil
	}
	old, err := filepath.Glob(globbed(base) + "-*" + globbed(ext))
	if err != nil {
		return err
	}
	old = slices.DeleteFunc(old, func(p string) bool { // another's file that begins alike
		_, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimPrefix(p, base+"-"), ext), 10, 64)
		return err != nil
	})
	slices.Sort(old)
	for _, p := range old[:max(0, len(old)-max(f.Keep, 0))] {
		if err := os.Remove(p); err != nil {
			return err
		}
	}
	return nil
}

// globbed keeps what a pattern would give a meaning from having one.
func globbed(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(s)
}

// Close closes the file.
func (f *file) Close() error {
	if f.f == nil {
		return nil
	}
	return f.f.Close()
}
