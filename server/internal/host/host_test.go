package host

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestLook(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	i := Look(dir)
	if len(i.Errors) != 0 {
		t.Fatalf("errors: %q", i.Errors)
	}
	if i.Memory.Total == 0 || i.Memory.Used == 0 || i.Memory.Used > i.Memory.Total || len(i.CPU) == 0 || i.Host.KernelVersion == "" || i.Host.Uptime == 0 ||
		i.Disk.Path != dir || i.Disk.Total == 0 || i.CollectionTime == 0 {
		b, err := json.Marshal(i)
		t.Errorf("got %s, %v", b, err)
	}
	i = Look(dir + "/none")
	if len(i.Errors) != 1 || !strings.Contains(i.Errors[0], "/none") || i.Disk != nil || i.Memory == nil {
		t.Errorf("a directory that is not there: %+v", i)
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	m := memoryOf([]byte("MemTotal:  1000 kB\nMemFree:  100 kB\nMemAvailable:  600 kB\nBuffers: 50 kB\nCached: 200 kB\nSReclaimable: 50 kB\nHugePages_Total: 0\n"))
	if m.Total != 1000<<10 || m.Used != 600<<10 || m.UsedPercent != 60 || m.Available != 600<<10 || m.Cached != 250<<10 {
		t.Errorf("got %+v", m)
	}
	if m := memoryOf(nil); m.Total != 0 || m.UsedPercent != 0 {
		t.Errorf("of nothing: %+v", m)
	}
}

func TestProcessors(t *testing.T) {
	t.Parallel()
	got := processorsOf([]byte("processor\t: 0\nvendor_id\t: X\ncpu MHz\t\t: 2596.138\ncache size\t: 1024 KB\nflags\t: fpu vme\n\nprocessor\t: 1\nmodel name\t: Y: Z\n\n"))
	if len(got) != 2 || got[0].VendorID != "X" || got[0].MHz != 2596.138 || got[0].CacheSize != 1024 || len(got[0].Flags) != 2 || got[1].CPU != 1 || got[1].ModelName != "Y: Z" {
		t.Errorf("got %+v", got)
	}
}

func TestRelease(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"ID=debian\nVERSION_ID=\"12\"\n":                        "debian debian 12",
		"ID=ubuntu\nID_LIKE=\"debian x\"\nVERSION_ID='24.04'\n": "ubuntu debian 24.04",
		"": "  ",
	} {
		id, family, version := releaseOf([]byte(text))
		if got := id + " " + family + " " + version; got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
