// Package host says what the machine is and how full it is, in the shape that Consul's
// /v1/agent/host has. It reads /proc and asks the kernel; what it cannot learn is left at
// zero and named among the errors.
package host

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Info is everything at one moment.
type Info struct {
	Memory         *Memory
	CPU            []CPU
	Host           *Host
	Disk           *Disk
	CollectionTime int64 // unix nanoseconds
	Errors         []string
}

// Memory is in bytes.
type Memory struct {
	Total       uint64  `json:"total"`
	Available   uint64  `json:"available"`
	Used        uint64  `json:"used"` // without what the kernel would give back
	UsedPercent float64 `json:"usedPercent"`
	Free        uint64  `json:"free"`
	Active      uint64  `json:"active"`
	Inactive    uint64  `json:"inactive"`
	Buffers     uint64  `json:"buffers"`
	Cached      uint64  `json:"cached"`
	Dirty       uint64  `json:"dirty"`
	Shared      uint64  `json:"shared"`
	SwapTotal   uint64  `json:"swaptotal"`
	SwapFree    uint64  `json:"swapfree"`
}

// CPU is one processor as the kernel sees it.
type CPU struct {
	CPU        int32    `json:"cpu"`
	VendorID   string   `json:"vendorId"`
	Family     string   `json:"family"`
	Model      string   `json:"model"`
	Stepping   int32    `json:"stepping"`
	PhysicalID string   `json:"physicalId"`
	CoreID     string   `json:"coreId"`
	Cores      int32    `json:"cores"`
	ModelName  string   `json:"modelName"`
	MHz        float64  `json:"mhz"`
	CacheSize  int32    `json:"cacheSize"` // KiB
	Flags      []string `json:"flags"`
	Microcode  string   `json:"microcode"`
}

// Host is the machine and its system.
type Host struct {
	Hostname        string `json:"hostname"`
	Uptime          uint64 `json:"uptime"`   // seconds
	BootTime        uint64 `json:"bootTime"` // unix seconds
	Procs           uint64 `json:"procs"`
	OS              string `json:"os"`
	Platform        string `json:"platform"`
	PlatformFamily  string `json:"platformFamily"`
	PlatformVersion string `json:"platformVersion"`
	KernelVersion   string `json:"kernelVersion"`
	KernelArch      string `json:"kernelArch"`
	HostID          string `json:"hostid"`
}

// Disk is the file system that holds a directory, in bytes.
type Disk struct {
	Path              string  `json:"path"`
	Total             uint64  `json:"total"`
	Free              uint64  `json:"free"` // for those who are not root
	Used              uint64  `json:"used"`
	UsedPercent       float64 `json:"usedPercent"`
	InodesTotal       uint64  `json:"inodesTotal"`
	InodesUsed        uint64  `json:"inodesUsed"`
	InodesFree        uint64  `json:"inodesFree"`
	InodesUsedPercent float64 `json:"inodesUsedPercent"`
}

// Look reads everything. dir is whose file system to show.
func Look(dir string) *Info {
	i := &Info{CollectionTime: time.Now().UnixNano()}
	var errs []error
	var err error
	if i.Memory, err = memory(); err != nil {
		errs = append(errs, err)
	}
	if i.CPU, err = processors(); err != nil {
		errs = append(errs, err)
	}
	if i.Host, err = machine(); err != nil {
		errs = append(errs, err)
	}
	if i.Disk, err = disk(dir); err != nil {
		errs = append(errs, err)
	}
	for _, err := range errs {
		i.Errors = append(i.Errors, err.Error())
	}
	return i
}

// fields reads "Key: value" lines; an empty line ends a section.
func fields(b []byte) []map[string]string {
	out := []map[string]string{{}}
	s := bufio.NewScanner(bytes.NewReader(b))
	s.Buffer(nil, 1<<20) // a processor's flags are a long line
	for s.Scan() {
		k, v, ok := strings.Cut(s.Text(), ":")
		if !ok {
			out = append(out, map[string]string{})
			continue
		}
		out[len(out)-1][strings.TrimSpace(k)] = strings.TrimSpace(v)
	}
	return out
}

// count reads a number, with what may stand behind it; 0 where there is none.
func count(text string) uint64 {
	first, _, _ := strings.Cut(text, " ")
	n, err := strconv.ParseUint(first, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

func memory() (*Memory, error) {
	b, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	return memoryOf(b), nil
}

func memoryOf(meminfo []byte) *Memory {
	kib := fields(meminfo)[0]
	bytes := func(key string) uint64 { return count(kib[key]) << 10 }
	m := &Memory{
		Total: bytes("MemTotal"), Available: bytes("MemAvailable"), Free: bytes("MemFree"), Active: bytes("Active"), Inactive: bytes("Inactive"),
		Buffers: bytes("Buffers"), Cached: bytes("Cached") + bytes("SReclaimable"), Dirty: bytes("Dirty"), Shared: bytes("Shmem"),
		SwapTotal: bytes("SwapTotal"), SwapFree: bytes("SwapFree"),
	}
	if back := m.Free + m.Buffers + m.Cached; m.Total > back {
		m.Used = m.Total - back
	}
	m.UsedPercent = percent(m.Used, m.Total)
	return m
}

func percent(part, all uint64) float64 {
	if all == 0 {
		return 0
	}
	return float64(part) / float64(all) * 100
}

func processors() ([]CPU, error) {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, fmt.Errorf("processors: %w", err)
	}
	return processorsOf(b), nil
}

func processorsOf(cpuinfo []byte) []CPU {
	out := []CPU{}
	for _, f := range fields(cpuinfo) {
		if f["processor"] == "" {
			continue
		}
		mhz, _ := strconv.ParseFloat(f["cpu MHz"], 64) // 0 where the kernel does not say
		out = append(out, CPU{
			CPU: int32(count(f["processor"])), VendorID: f["vendor_id"], Family: f["cpu family"], Model: f["model"], Stepping: int32(count(f["stepping"])),
			PhysicalID: f["physical id"], CoreID: f["core id"], Cores: 1, ModelName: f["model name"], MHz: mhz, CacheSize: int32(count(f["cache size"])),
			Flags: strings.Fields(f["flags"]), Microcode: f["microcode"],
		})
	}
	return out
}

func machine() (*Host, error) {
	h := &Host{OS: "linux"}
	var errs []error
	var err error
	if h.Hostname, err = os.Hostname(); err != nil {
		errs = append(errs, err)
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		errs = append(errs, fmt.Errorf("uname: %w", err))
	}
	h.KernelVersion, h.KernelArch = unix.ByteSliceToString(name.Release[:]), unix.ByteSliceToString(name.Machine[:])
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		errs = append(errs, fmt.Errorf("sysinfo: %w", err))
	}
	h.Uptime, h.Procs = uint64(info.Uptime), uint64(info.Procs)
	h.BootTime = uint64(time.Now().Unix()) - h.Uptime
	// Neither file is on every system: a container may have none of them.
	if b, err := os.ReadFile("/etc/os-release"); err == nil {
		h.Platform, h.PlatformFamily, h.PlatformVersion = releaseOf(b)
	}
	if b, err := os.ReadFile("/sys/class/dmi/id/product_uuid"); err == nil {
		h.HostID = strings.ToLower(strings.TrimSpace(string(b)))
	} else if b, err := os.ReadFile("/proc/sys/kernel/random/boot_id"); err == nil {
		h.HostID = strings.TrimSpace(string(b))
	}
	return h, errors.Join(errs...)
}

// releaseOf reads what a system calls itself, what it descends from, and its version.
func releaseOf(release []byte) (id, family, version string) {
	for line := range strings.Lines(string(release)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), "=")
		v = strings.Trim(v, `"'`)
		switch k {
		case "ID":
			id = v
		case "ID_LIKE":
			family, _, _ = strings.Cut(v, " ")
		case "VERSION_ID":
			version = v
		}
	}
	if family == "" {
		family = id
	}
	return id, family, version
}

func disk(dir string) (*Disk, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(dir, &s); err != nil {
		return nil, fmt.Errorf("disk of %s: %w", dir, err)
	}
	size := uint64(s.Bsize)
	d := &Disk{
		Path: dir, Total: s.Blocks * size, Free: s.Bavail * size, Used: (s.Blocks - s.Bfree) * size,
		InodesTotal: s.Files, InodesFree: s.Ffree, InodesUsed: s.Files - s.Ffree,
	}
	d.UsedPercent = percent(d.Used, d.Used+d.Free)
	d.InodesUsedPercent = percent(d.InodesUsed, d.InodesTotal)
	return d, nil
}
