package apply

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/atomicfile"
	"github.com/rollcall/rollcall/templater/internal/guard"
)

// Generation numbers and contents of sets that were applied lie in the store as
// "past-NUMBER", one file each: the set as JSON.

// Past is a set that was applied before.
type Past struct {
	Number     int // counts up
	Generation string
	At         time.Time
	Files      []File
	Instances  guard.Counts
}

const pastPrefix = "past-"

func (g *Group) numbers(files []File) []int {
	entries, err := os.ReadDir(g.store(files))
	if err != nil {
		return nil
	}
	var out []int
	for _, e := range entries {
		if rest, ok := strings.CutPrefix(e.Name(), pastPrefix); ok {
			if n, err := strconv.Atoi(rest); err == nil {
				out = append(out, n)
			}
		}
	}
	slices.Sort(out)
	return out
}

// remember keeps the set for a rollback, unless it is the latest that is kept.
func (g *Group) remember(files []File) error {
	if g.History <= 0 {
		return nil
	}
	p := Past{Number: 1, Generation: Generation(files), At: time.Now(), Instances: g.Instances}
	numbers := g.numbers(files)
	if len(numbers) > 0 {
		last, err := g.past(files, numbers[len(numbers)-1])
		if err == nil && last.Generation == p.Generation {
			return nil
		}
		p.Number = numbers[len(numbers)-1] + 1
	}
	for _, f := range files {
		if !f.Remove {
			p.Files = append(p.Files, f)
		}
	}
	b, err := json.Marshal(p)
	if err != nil {
		return err
	}
	path := filepath.Join(g.store(files), pastPrefix+strconv.Itoa(p.Number))
	if err := atomicfile.Write(path, b, 0o600); err != nil { // contents may be secret
		return err
	}
	for len(numbers) > g.History { // the present one stays beside them
		if err := remove(filepath.Join(g.store(files), pastPrefix+strconv.Itoa(numbers[0]))); err != nil {
			return err
		}
		numbers = numbers[1:]
	}
	return nil
}

func (g *Group) past(files []File, number int) (Past, error) {
	var p Past
	b, err := os.ReadFile(filepath.Join(g.store(files), pastPrefix+strconv.Itoa(number)))
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	return p, err
}

// Generations lists the generations that are kept, the latest first.
func (g *Group) Generations(files []File) []Past {
	var out []Past
	for _, n := range slices.Backward(g.numbers(files)) {
		if p, err := g.past(files, n); err == nil {
			out = append(out, p)
		}
	}
	return out
}

// pin is a generation that stays, whatever is rendered, until it is taken away.
func (g *Group) pinPath(files []File) string { return filepath.Join(g.store(files), "pinned") }

// Pinned names the generation that a rollback holds, "" if none.
func (g *Group) Pinned(files []File) string {
	b, err := os.ReadFile(g.pinPath(files))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Pin has a generation stay; "" ends that.
func (g *Group) Pin(files []File, generation string) error {
	if generation == "" {
		return remove(g.pinPath(files))
	}
	if err := os.MkdirAll(g.store(files), 0o755); err != nil {
		return err
	}
	return atomicfile.Write(g.pinPath(files), []byte(generation+"\n"), 0o644)
}

// Back gives the set that was applied back generations before the present one, with what
// is not in it to be removed. A change that another process is making counts: Back waits
// for its end.
func (g *Group) Back(files []File, back int) (Past, error) {
	if _, err := os.Stat(g.store(files)); err == nil {
		unlock, err := g.lock(files)
		if err != nil {
			return Past{}, err
		}
		defer unlock()
	}
	all := g.Generations(files)
	present := g.Mark(files)
	i := slices.IndexFunc(all, func(p Past) bool { return p.Generation == present.Generation })
	if i < 0 {
		i = 0
		back-- // what is live was never kept: the latest is the one before
	}
	if i+back < 0 || i+back >= len(all) {
		return Past{}, fmt.Errorf("group %q has %d generations before the present one", g.Name, max(len(all)-i-1, 0))
	}
	p := all[i+back]
	for _, dest := range present.Files {
		if !slices.ContainsFunc(p.Files, func(f File) bool { return f.Dest == dest }) {
			p.Files = append(p.Files, File{Dest: dest, Remove: true})
		}
	}
	return p, nil
}

// clean removes what an interrupted process left in the store.
func (g *Group) clean(files []File) error {
	entries, err := os.ReadDir(g.store(files))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	current, _ := os.Readlink(filepath.Join(g.store(files), currentName))
	var errs []error
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "set-") && e.Name() != current || strings.HasSuffix(e.Name(), ".tmp") || strings.HasSuffix(e.Name(), ".new") {
			errs = append(errs, os.RemoveAll(filepath.Join(g.store(files), e.Name())))
		}
	}
	return errors.Join(errs...)
}
