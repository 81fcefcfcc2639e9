// Package logfile is a log on disk that is exchanged for a new one when it is large or
// old. Names of files that are full carry the time at which they were put away.
package logfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// File is a log file. It may be written to concurrently.
type File struct {
	path  string
	bytes int           // 0: of any size
	age   time.Duration // 0: of any age
	keep  int           // old ones; 0 all, below 0 none

	mu   sync.Mutex
	f    *os.File  // guarded by mu
	size int       // guarded by mu
	born time.Time // guarded by mu
}

// Open opens the log for appending. age 0 is a day. A folder, or a path that ends with a
// slash, gets a file templater.log.
func Open(path string, bytes int, age time.Duration, keep int) (*File, error) {
	if info, err := os.Stat(path); strings.HasSuffix(path, "/") || err == nil && info.IsDir() {
		path = filepath.Join(path, "templater.log")
	}
	if age == 0 {
		age = 24 * time.Hour
	}
	l := &File{path: path, bytes: bytes, age: age, keep: keep}
	return l, l.open()
}

func (l *File) open() error {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o755); err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	f, err := os.OpenFile(l.path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
	if err != nil {
		return fmt.Errorf("log file: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(fmt.Errorf("log file: %w", err), f.Close())
	}
	l.f, l.size, l.born = f, int(info.Size()), time.Now()
	return nil
}

// Write appends a line.
func (l *File) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size > 0 && (l.bytes > 0 && l.size+len(b) > l.bytes || time.Since(l.born) >= l.age) {
		if err := l.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(b)
	l.size += n
	return n, err
}

// rotate puts the file away and begins a new one.
func (l *File) rotate() error {
	if err := l.f.Close(); err != nil {
		return err
	}
	ext := filepath.Ext(l.path)
	stem := strings.TrimSuffix(l.path, ext)
	if err := os.Rename(l.path, fmt.Sprintf("%s-%d%s", stem, time.Now().UnixNano(), ext)); err != nil {
		return err
	}
	if l.keep != 0 {
		old, err := filepath.Glob(stem + "-*" + ext)
		if err != nil {
			return err
		}
		slices.Sort(old) // by time, since the numbers are of one length
		for len(old) > max(l.keep, 0) {
			if err := os.Remove(old[0]); err != nil {
				return err
			}
			old = old[1:]
		}
	}
	return l.open()
}

// Close closes the file.
func (l *File) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
