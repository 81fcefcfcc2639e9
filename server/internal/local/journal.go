package local

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/rollcall/rollcall/internal/atomicfile"
)

// journal is a file of records, a line of JSON each. Those who commit at the same time
// share one write and one fsync (group commit): whoever comes while the file is written
// waits in the queue for the next. A record is on disk before it takes effect, and records
// take effect in the file's order, so that a replay makes the same state.
type journal struct {
	path  string
	state *sync.Mutex // State.mu
	// live gives the records that make the present state. It is called with State.mu and
	// file held.
	live func() []record
	log  *slog.Logger

	mu      sync.Mutex
	queue   []*commit // guarded by mu
	writing bool      // guarded by mu; somebody writes what was queued

	file sync.Mutex
	f    *os.File // guarded by file; nil after a failure: the next write makes the file anew
	size int64    // guarded by file
	base int64    // guarded by file; what the live records took when the file was last made anew

	tidying atomic.Bool // somebody makes the file anew in the background
	tidiers sync.WaitGroup
}

// commit is a record that waits to be on disk, and what it does then.
type commit struct {
	line  []byte
	apply func() error
	err   error
	done  chan struct{}
}

// slack is how much more than the live records the file may hold.
const slack = 4 << 20

// commit has rec on disk, then calls apply, and gives its error. Where the disk fails,
// nothing happens. Called without State.mu, which apply may take.
func (j *journal) commit(rec record, apply func() error) error {
	line, err := rec.line()
	if err != nil {
		return err
	}
	return j.enter(line, apply)
}

// enter is commit with the record written out.
func (j *journal) enter(line []byte, apply func() error) error {
	c := &commit{line: line, apply: apply, done: make(chan struct{})}
	j.mu.Lock()
	j.queue = append(j.queue, c)
	if j.writing {
		j.mu.Unlock()
		<-c.done
		return c.err
	}
	j.writing = true
	for len(j.queue) > 0 {
		batch := j.queue
		j.queue = nil
		j.mu.Unlock()
		j.carryOut(batch)
		j.mu.Lock()
	}
	j.writing = false
	j.mu.Unlock()
	return c.err
}

func (j *journal) carryOut(batch []*commit) {
	var all []byte
	for _, c := range batch {
		all = append(all, c.line...)
	}
	err := j.tidy()
	if err == nil {
		err = j.write(all, true)
	}
	for _, c := range batch {
		if c.err = err; err == nil {
			c.err = c.apply()
		}
		close(c.done)
	}
}

// later writes a record whose loss in a power cut does no harm. It is called with State.mu
// held, so that a file that has grown too far is made anew by somebody else.
func (j *journal) later(rec record) error {
	line, err := rec.line()
	if err != nil {
		return err
	}
	if err := j.write(line, false); err != nil {
		return err
	}
	j.file.Lock()
	due := j.f != nil && j.overgrown()
	j.file.Unlock()
	if due && j.tidying.CompareAndSwap(false, true) {
		j.tidiers.Go(func() {
			defer j.tidying.Store(false)
			if err := j.enter(nil, func() error { return nil }); err != nil {
				j.log.Warn("what is registered could not be written anew; tried again when the file has grown", "file", j.path, "err", err)
				j.file.Lock()
				j.base = j.size
				j.file.Unlock()
			}
		})
	}
	return nil
}

// overgrown tells whether the file has grown far beyond what is alive. Called with file held.
func (j *journal) overgrown() bool { return j.size > 2*j.base+slack }

// write appends to the file. What is written by half is taken back.
func (j *journal) write(b []byte, sync bool) error {
	j.file.Lock()
	defer j.file.Unlock()
	if j.f == nil {
		return fmt.Errorf("%s could not be written before, and is made anew with the next registration", j.path)
	}
	_, err := j.f.Write(b)
	if err == nil && sync {
		err = j.f.Sync()
	}
	if err != nil {
		err = errors.Join(err, j.f.Truncate(j.size), j.f.Close())
		j.f = nil // what a failed fsync left behind nobody knows
		return err
	}
	j.size += int64(len(b))
	return nil
}

// tidy makes the file anew where it has grown far beyond what is alive, or could not be
// written. Nothing that is in the file may wait to take effect.
func (j *journal) tidy() error {
	j.file.Lock()
	due := j.f == nil || j.overgrown()
	j.file.Unlock()
	if !due {
		return nil
	}
	j.state.Lock()
	defer j.state.Unlock()
	j.file.Lock()
	defer j.file.Unlock()
	return j.rewrite()
}

// rewrite makes the file anew from the live records. Called with State.mu and file held.
func (j *journal) rewrite() error {
	var b bytes.Buffer
	for _, rec := range j.live() {
		line, err := rec.line()
		if err != nil {
			return err
		}
		b.Write(line)
	}
	if err := os.MkdirAll(filepath.Dir(j.path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(j.path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(j.path+".new", j.path)
	}
	if err == nil {
		err = atomicfile.SyncDir(filepath.Dir(j.path))
	}
	if err != nil {
		return errors.Join(err, f.Close())
	}
	if j.f != nil {
		_ = j.f.Close() // it has no name any more
	}
	j.f, j.size, j.base = f, int64(b.Len()), int64(b.Len())
	return nil
}

// close ends the use of the file.
func (j *journal) close() error {
	j.tidiers.Wait()
	j.file.Lock()
	defer j.file.Unlock()
	if j.f == nil {
		return nil
	}
	f := j.f
	j.f = nil
	return f.Close()
}

func (r record) line() ([]byte, error) {
	b, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("save a registration: %w", err)
	}
	return append(b, '\n'), nil
}
