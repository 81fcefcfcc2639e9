package watch

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/atomicfile"
	"github.com/rollcall/rollcall/templater/internal/render"
)

// memory is what the catalog said last, kept in a file. A process that starts while the
// catalog is away takes it for what is not answered.
type memory struct {
	path  string
	known map[render.Dependency]remembered // of the process before, not answered since; guarded by the pool's mu
	dirty chan struct{}                    // 1: there is something to write
	once  sync.Once                        // of keep
}

// remembered is one value in the file.
type remembered struct {
	Dependency render.Dependency
	Index      uint64
	At         time.Time // of the answer
	Value      json.RawMessage
}

// memoryVersion is that of the file's form; another one is not read.
const memoryVersion = 1

type memoryFile struct {
	Version int
	Values  []remembered
}

// The file is written at most each keepEvery, and pauses are keepShare times as long as a
// write takes.
const (
	keepEvery = time.Second
	keepShare = 20
)

// recall reads the file. One that is not there, or cannot be read, remembers nothing.
func recall(path string, log *slog.Logger) *memory {
	m := &memory{path: path, known: map[render.Dependency]remembered{}, dirty: make(chan struct{}, 1)}
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return m
	}
	var f memoryFile
	if err == nil {
		err = json.Unmarshal(b, &f)
	}
	if err == nil && f.Version != memoryVersion {
		err = fmt.Errorf("it has version %d, not %d", f.Version, memoryVersion)
	}
	if err != nil {
		log.Warn("state file not read", "path", path, "err", err)
		return m
	}
	for _, r := range f.Values {
		m.known[r.Dependency] = r
	}
	return m
}

// answered: the catalog has said what is. The pool's mu is held.
func (m *memory) answered(d render.Dependency) {
	delete(m.known, d)
	select {
	case m.dirty <- struct{}{}:
	default:
	}
}

// fill gives an entry what was remembered. It reports whether that was anything. The
// pool's mu is held.
func (m *memory) fill(d render.Dependency, e *entry) bool {
	r, ok := m.known[d]
	if !ok {
		return false
	}
	v, err := valueOf(d.Kind, r.Value)
	if err != nil {
		return false
	}
	e.value, e.index, e.at = v, r.Index, r.At
	return true
}

// valueOf reads a value of the type that its kind has.
func valueOf(k render.Kind, b []byte) (any, error) {
	switch k {
	case render.Service:
		return read[[]*render.Instance](b)
	case render.Services:
		return read[[]*render.ServiceName](b)
	case render.Node:
		return read[*render.NodeWithServices](b)
	case render.Nodes:
		return read[[]*render.NodeInfo](b)
	case render.Datacenters:
		return read[[]string](b)
	case render.Key:
		return read[*render.Pair](b)
	case render.Keys:
		return read[[]*render.Pair](b)
	}
	return nil, fmt.Errorf("%s is not remembered", k)
}

func read[T any](b []byte) (any, error) {
	var v T
	err := json.Unmarshal(b, &v)
	return v, err
}

// keep writes the file when something was answered, until ctx ends, and then once more.
func (p *Pool) keep(ctx context.Context) {
	said := ""
	write := func() {
		err := p.memory.write(p.values())
		if err != nil && err.Error() != said {
			p.log.Warn("state file not written", "path", p.memory.path, "err", err)
		}
		said = ""
		if err != nil {
			said = err.Error()
		}
	}
	for {
		select {
		case <-ctx.Done():
			select {
			case <-p.memory.dirty:
				write()
			default:
			}
			return
		case <-p.memory.dirty:
		}
		began := time.Now()
		write()
		pause := time.NewTimer(max(keepEvery, keepShare*time.Since(began)))
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// value is an entry as it is to be written.
type value struct {
	remembered
	v any
}

// values gives what is known, and of what is wanted and not answered yet what was
// remembered.
func (p *Pool) values() []value {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []value
	for d, e := range p.entries {
		switch r, ok := p.memory.known[d]; {
		case d.Kind == render.File:
		case ok:
			out = append(out, value{r, r.Value})
		case e.known:
			out = append(out, value{remembered{Dependency: d, Index: e.index, At: e.at}, e.value})
		}
	}
	return out
}

// write replaces the file; it is whole at every moment. Keys may be secret: it is the
// owner's alone.
func (m *memory) write(values []value) error {
	f := memoryFile{Version: memoryVersion, Values: []remembered{}}
	for _, v := range values {
		b, err := json.Marshal(v.v)
		if err != nil {
			return err
		}
		v.Value = b
		f.Values = append(f.Values, v.remembered)
	}
	b, err := json.Marshal(f)
	if err != nil {
		return err
	}
	return atomicfile.Write(m.path, b, 0o600)
}
