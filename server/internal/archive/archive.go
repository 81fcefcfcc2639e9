// Package archive is the file that a snapshot travels in: a gzipped tar of meta.json,
// state.bin and SHA256SUMS, in the layout of Consul's snapshot files. It streams in both
// directions and never holds a state in memory.
//
// It promises that what Read accepts is what Write was given, byte for byte: a file that
// was cut or changed is refused. It does not look into the state.
package archive

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"
	"time"
)

// Meta says what a snapshot is of. The names are those of Raft's own snapshots.
type Meta struct {
	Version int
	ID      string
	Index   uint64
	Term    uint64
	Size    int64 // of the state, in bytes
}

// The files of an archive. sumsName comes last, since sums are made on the way.
const (
	metaName  = "meta.json"
	stateName = "state.bin"
	sumsName  = "SHA256SUMS"
)

// maxSmall bounds meta.json and SHA256SUMS, in bytes.
const maxSmall = 64 << 10

// ErrArchive: the bytes are no archive of a snapshot, or not a whole one.
var ErrArchive = errors.New("not a whole snapshot file")

// Write writes an archive of state, which must be meta.Size bytes long.
func Write(w io.Writer, meta Meta, state io.Reader) error {
	zip := gzip.NewWriter(w)
	out := tar.NewWriter(zip)
	head, err := json.Marshal(meta)
	if err != nil {
		return err
	}
	now := time.Now()
	var sums bytes.Buffer
	file := func(name string, size int64, from io.Reader) error {
		if err := out.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: size, ModTime: now}); err != nil {
			return err
		}
		sum := sha256.New()
		n, err := io.Copy(io.MultiWriter(out, sum), from)
		if err == nil && n != size {
			err = fmt.Errorf("%s has %d bytes, not the %d it was said to have", name, n, size)
		}
		fmt.Fprintf(&sums, "%x  %s\n", sum.Sum(nil), name)
		return err
	}
	if err := file(metaName, int64(len(head)), bytes.NewReader(head)); err != nil {
		return err
	}
	if err := file(stateName, meta.Size, state); err != nil {
		return err
	}
	list := bytes.Clone(sums.Bytes())
	if err := file(sumsName, int64(len(list)), bytes.NewReader(list)); err != nil {
		return err
	}
	return errors.Join(out.Close(), zip.Close())
}

// Read reads an archive and writes its state to state. With an error, what was written
// there is to be thrown away: the sums stand at the end of the file.
func Read(r io.Reader, state io.Writer) (*Meta, error) {
	from := bufio.NewReaderSize(r, 64<<10)
	zip, err := gzip.NewReader(from)
	if err != nil {
		return nil, fmt.Errorf("%w: it is no gzip file: %w", ErrArchive, err)
	}
	var meta *Meta
	var listed []byte
	sums := map[string]hash.Hash{}
	in := tar.NewReader(zip)
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrArchive, err)
		}
		if sums[h.Name] != nil {
			return nil, fmt.Errorf("%w: %s is there twice", ErrArchive, h.Name)
		}
		sum := sha256.New()
		sums[h.Name] = sum
		switch h.Name {
		case metaName:
			b, err := small(in, h)
			if err != nil {
				return nil, err
			}
			sum.Write(b)
			if err := json.Unmarshal(b, &meta); err != nil || meta == nil {
				return nil, fmt.Errorf("%w: %s: %w", ErrArchive, metaName, err)
			}
		case stateName:
			place := &sink{w: state}
			if _, err := io.Copy(io.MultiWriter(place, sum), in); place.err != nil {
				return nil, fmt.Errorf("unpack %s: %w", stateName, place.err)
			} else if err != nil {
				return nil, fmt.Errorf("%w: cut in %s: %w", ErrArchive, stateName, err)
			}
			if meta == nil || meta.Size != h.Size {
				return nil, fmt.Errorf("%w: %s has another size than %s says", ErrArchive, stateName, metaName)
			}
		case sumsName:
			if listed, err = small(in, h); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("%w: it holds %q, which belongs to no snapshot", ErrArchive, h.Name)
		}
	}
	if err := drain(zip); err != nil {
		return nil, err
	}
	if meta == nil || listed == nil {
		return nil, fmt.Errorf("%w: it lacks %s or %s", ErrArchive, metaName, sumsName)
	}
	return meta, verify(listed, sums)
}

// sink keeps the error of its writer, which tells a place that cannot be written to from
// a broken archive.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(b []byte) (n int, err error) {
	n, s.err = s.w.Write(b)
	return n, s.err
}

// drain reads what is behind the tar, so that gzip's own sum is checked.
func drain(zip *gzip.Reader) error {
	n, err := io.Copy(io.Discard, io.LimitReader(zip, maxSmall))
	if err != nil || n == maxSmall {
		return fmt.Errorf("%w: behind the last file: %w", ErrArchive, err)
	}
	return nil
}

func small(in *tar.Reader, h *tar.Header) ([]byte, error) {
	if h.Size > maxSmall {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrArchive, h.Name, h.Size)
	}
	b, err := io.ReadAll(in)
	if err != nil {
		return nil, fmt.Errorf("%w: cut in %s: %w", ErrArchive, h.Name, err)
	}
	return b, nil
}

// verify compares the sums that are listed with those of what was read.
func verify(listed []byte, sums map[string]hash.Hash) error {
	seen := 0
	for line := range strings.Lines(string(listed)) {
		want, name, ok := strings.Cut(strings.TrimSpace(line), "  ")
		sum := sums[name]
		if !ok || sum == nil || name == sumsName {
			return fmt.Errorf("%w: %s lists %q", ErrArchive, sumsName, strings.TrimSpace(line))
		}
		if got := hex.EncodeToString(sum.Sum(nil)); got != want {
			return fmt.Errorf("%w: the checksum of %s does not match", ErrArchive, name)
		}
		seen++
	}
	if seen != 2 {
		return fmt.Errorf("%w: %s lists %d files, not 2", ErrArchive, sumsName, seen)
	}
	return nil
}
