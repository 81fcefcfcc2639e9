package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Words is a command: one string, run by a shell if it holds spaces, or a list.
type Words struct {
	Shell string
	Argv  []string
}

var errCommand = errors.New("want a command: a string, or a list of its words as strings")

// UnmarshalJSON reads a string or a list of strings. A list of one is as the string.
func (w *Words) UnmarshalJSON(b []byte) error {
	if len(b) == 0 || b[0] != '[' {
		if json.Unmarshal(b, &w.Shell) != nil {
			return errCommand
		}
		return nil
	}
	var list []string
	if err := json.Unmarshal(b, &list); err != nil {
		return errCommand
	}
	if len(list) == 1 {
		w.Shell = list[0]
		return nil
	}
	w.Argv = list
	return nil
}

// Empty reports whether there is no command.
func (w Words) Empty() bool { return strings.TrimSpace(w.Shell) == "" && len(w.Argv) == 0 }

// String names the command; equal commands have equal names.
func (w Words) String() string {
	if w.Shell != "" {
		return w.Shell
	}
	return strings.Join(w.Argv, "\x00")
}

// Mode is a file mode: octal in a string, "0644", or a number, which HCL lets one write
// octal as well: 0644.
type Mode os.FileMode

// UnmarshalJSON reads the mode.
func (m *Mode) UnmarshalJSON(b []byte) error {
	text, base := strings.Trim(string(b), `"`), 10
	if text != string(b) {
		text, base = strings.TrimPrefix(text, "0o"), 8
	}
	n, err := strconv.ParseUint(text, base, 12)
	if err != nil {
		return fmt.Errorf("perms %s: want an octal mode like \"0644\"", b)
	}
	*m = Mode(n)
	return nil
}

// Wait is how long to wait for quiet: at least Min since the last change, at most Max
// since the first.
type Wait struct{ Min, Max time.Duration }

// UnmarshalJSON reads "1s:5s", "1s", or {min, max}.
func (w *Wait) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		var s string
		if err := json.Unmarshal(b, &s); err != nil {
			return err
		}
		return w.Set(s)
	}
	var o struct{ Min, Max string }
	if err := json.Unmarshal(b, &o); err != nil {
		return errors.New("wait: want \"MIN:MAX\" or min and max")
	}
	return w.Set(strings.Trim(o.Min+":"+o.Max, ":"))
}

// UnknownKeys gives those keys of a block that mean nothing. "enabled" is consul-template's;
// a wait that is written down is meant.
func (w Wait) UnknownKeys(block map[string]any) []string {
	var out []string
	for key := range block {
		if !slices.Contains([]string{"min", "max", "enabled"}, strings.ToLower(key)) {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

// Set reads "MIN[:MAX]"; MAX is four times MIN where it is not said.
func (w *Wait) Set(s string) error {
	if s == "" {
		return nil
	}
	first, second, both := strings.Cut(s, ":")
	lo, err := time.ParseDuration(first)
	if err != nil {
		return fmt.Errorf("wait %q: want MIN or MIN:MAX, such as 500ms:5s", s)
	}
	hi := 4 * lo
	if both {
		if hi, err = time.ParseDuration(second); err != nil {
			return fmt.Errorf("wait %q: want MIN or MIN:MAX, such as 500ms:5s", s)
		}
	}
	if lo < 0 || hi < lo {
		return fmt.Errorf("wait %q: MIN may not be negative, and MAX not below MIN", s)
	}
	w.Min, w.Max = lo, hi
	return nil
}

// Signal is a signal by its name, "SIGHUP" or "HUP"; 0 is none.
type Signal syscall.Signal

// UnmarshalText reads the name; "" is none.
func (s *Signal) UnmarshalText(b []byte) error {
	name := strings.ToUpper(strings.TrimSpace(string(b)))
	if name == "" || name == "SIGNULL" || name == "NULL" {
		*s = 0
		return nil
	}
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	n := unix.SignalNum(name)
	if n == 0 {
		return fmt.Errorf("signal %q: want a name such as SIGHUP", b)
	}
	*s = Signal(n)
	return nil
}

// UnmarshalJSON reads the name.
func (s *Signal) UnmarshalJSON(b []byte) error {
	var name string
	if err := json.Unmarshal(b, &name); err != nil {
		return errors.New("want the name of a signal, such as \"SIGHUP\"")
	}
	return s.UnmarshalText([]byte(name))
}

// Env is what a command finds in its environment.
type Env struct {
	Pristine  bool     `config:"pristine"`            // nothing of the templater's own
	Custom    []string `config:"custom"`              // "NAME=value"
	Allowlist []string `config:"allowlist,whitelist"` // globs of names to keep; none keeps all
	Denylist  []string `config:"denylist,blacklist"`  // globs of names to leave out
}

// With is e with more variables, to which nothing but its own custom ones comes before.
func (e Env) With(more []string) Env {
	e.Custom = append(slices.Clone(more), e.Custom...)
	return e
}

// Of gives the environment for a command, from the templater's own.
func (e Env) Of(own []string) []string {
	out := []string{}
	for _, kv := range own {
		name, _, _ := strings.Cut(kv, "=")
		if e.Pristine || matches(e.Denylist, name) || len(e.Allowlist) > 0 && !matches(e.Allowlist, name) {
			continue
		}
		out = append(out, kv)
	}
	return append(out, e.Custom...)
}

func matches(globs []string, name string) bool {
	for _, g := range globs {
		if ok, err := path.Match(g, name); ok && err == nil {
			return true
		}
	}
	return false
}
