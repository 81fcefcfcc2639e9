package apply

import (
	"encoding/json"
	"os"
	"path/filepath"
	"time"

	"github.com/rollcall/rollcall/internal/atomicfile"
	"github.com/rollcall/rollcall/templater/internal/guard"
)

// Mark is what is remembered of the set that was applied last. It is empty where it is
// not known what whoever reads the files has taken.
type Mark struct {
	Generation string
	At         time.Time
	Files      []string // destinations
	Content    string   // a sum of the contents, in order
	Instances  guard.Counts
}

func (g *Group) markPath(files []File) string { return filepath.Join(g.store(files), "applied") }

// Mark reads the mark.
func (g *Group) Mark(files []File) Mark {
	var m Mark
	b, err := os.ReadFile(g.markPath(files))
	if err != nil || json.Unmarshal(b, &m) != nil {
		return Mark{}
	}
	return m
}

// setMark remembers the set. Where it is not sure that it counts, the mark has no
// generation.
func (g *Group) setMark(files []File, sure bool) error {
	m := Mark{At: time.Now(), Instances: g.Instances}
	text := ""
	for _, f := range files {
		if f.Remove {
			continue
		}
		m.Files = append(m.Files, f.Dest)
		if !f.Stamp {
			text += string(f.Content)
		}
	}
	if sure {
		m.Generation, m.Content = Generation(files), sum(text)
	}
	return g.writeMark(files, m)
}

// clearMark keeps the mark but for the generation: what runs is not known.
func (g *Group) clearMark(files []File) error {
	m := g.Mark(files)
	m.Generation, m.Content = "", ""
	return g.writeMark(files, m)
}

func (g *Group) writeMark(files []File, m Mark) error {
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	return atomicfile.Write(g.markPath(files), b, 0o644)
}
