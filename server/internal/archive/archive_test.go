package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

func archive(t testing.TB, state string) []byte {
	t.Helper()
	var b bytes.Buffer
	meta := Meta{Version: 1, ID: "2-9-123", Index: 9, Term: 2, Size: int64(len(state))}
	if err := Write(&b, meta, strings.NewReader(state)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, state := range []string{"", "x", strings.Repeat("state ", 100_000)} {
		var got bytes.Buffer
		meta, err := Read(bytes.NewReader(archive(t, state)), &got)
		if err != nil || got.String() != state {
			t.Fatalf("read back %d of %d bytes: %v", got.Len(), len(state), err)
		}
		if want := (Meta{1, "2-9-123", 9, 2, int64(len(state))}); *meta != want {
			t.Errorf("meta %+v, want %+v", *meta, want)
		}
	}
}

func TestWriteRefusesAnotherSize(t *testing.T) {
	t.Parallel()
	for _, size := range []int64{2, 4} {
		if err := Write(io.Discard, Meta{Size: size}, strings.NewReader("abc")); err == nil {
			t.Errorf("3 bytes said to be %d were written", size)
		}
	}
}

// files makes an archive of any files.
func files(pairs ...string) []byte {
	var b bytes.Buffer
	zip := gzip.NewWriter(&b)
	w := tar.NewWriter(zip)
	for i := 0; i < len(pairs); i += 2 {
		w.WriteHeader(&tar.Header{Name: pairs[i], Size: int64(len(pairs[i+1])), Mode: 0o600})
		w.Write([]byte(pairs[i+1]))
	}
	w.Close()
	zip.Close()
	return b.Bytes()
}

func TestReadRefuses(t *testing.T) {
	t.Parallel()
	const meta = `{"Version":1,"Index":9,"Size":3}`
	good := archive(t, strings.Repeat("state", 1000))
	changed := bytes.Clone(good)
	changed[len(changed)/2] ^= 1
	for name, b := range map[string][]byte{
		"nothing":            {},
		"no gzip":            []byte("hello"),
		"cut":                good[:len(good)/2],
		"cut near the end":   good[:len(good)-4],
		"changed":            changed,
		"no files":           files(),
		"no sums":            files(metaName, meta, stateName, "abc"),
		"no meta":            files(stateName, "abc", sumsName, "x"),
		"wrong sums":         files(metaName, meta, stateName, "abc", sumsName, strings.Repeat("0", 64)+"  state.bin\n"),
		"sums of few files":  files(metaName, meta, stateName, "abc", sumsName, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  state.bin\n"),
		"another size":       files(metaName, meta, stateName, "abcd", sumsName, ""),
		"twice":              files(metaName, meta, metaName, meta),
		"a stranger":         files(metaName, meta, "../../etc/passwd", "x"),
		"meta is no object":  files(metaName, "null"),
		"meta is no JSON":    files(metaName, "{"),
		"large meta":         files(metaName, strings.Repeat(" ", maxSmall+1)),
		"sums name the sums": files(metaName, meta, stateName, "abc", sumsName, strings.Repeat("0", 64)+"  SHA256SUMS\n"),
	} {
		if m, err := Read(bytes.NewReader(b), io.Discard); !errors.Is(err, ErrArchive) {
			t.Errorf("%s: got %v, %v; want ErrArchive", name, m, err)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

// Whichever bit of an archive is turned, it is refused as a broken one, or bears the same
// state: not all of gzip's header has a meaning.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	var text strings.Builder
	for i := range 40 {
		fmt.Fprintf(&text, "%x,", i*i*i)
	}
	good := archive(t, text.String())
	for i := range good {
		for bit := range 8 {
			turned := bytes.Clone(good)
			turned[i] ^= 1 << bit
			var state bytes.Buffer
			if _, err := Read(bytes.NewReader(turned), &state); err == nil && state.String() != text.String() {
				t.Errorf("byte %d, bit %d: another state is taken for a good one", i, bit)
			} else if err != nil && !errors.Is(err, ErrArchive) {
				t.Errorf("byte %d, bit %d: %v", i, bit, err)
			}
		}
	}
}

func TestFullDiskIsNoBrokenArchive(t *testing.T) {
	t.Parallel()
	_, err := Read(bytes.NewReader(archive(t, "state")), full{})
	if err == nil || errors.Is(err, ErrArchive) || !strings.Contains(err.Error(), "no space left") {
		t.Errorf("got %v", err)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("x"))
	f.Add(files(metaName, `{"Size":3}`, stateName, "abc"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var whole bytes.Buffer
		zip := gzip.NewWriter(&whole)
		zip.Write(b)
		zip.Close()
		for _, in := range [][]byte{b, whole.Bytes()} {
			var state bytes.Buffer
			meta, err := Read(bytes.NewReader(in), &state)
			if err == nil && int64(state.Len()) != meta.Size {
				t.Fatalf("accepted %d bytes of state said to be %d", state.Len(), meta.Size)
			}
		}
	})
}
