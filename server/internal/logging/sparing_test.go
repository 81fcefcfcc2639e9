package logging

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A warning is logged once in a while about each subject, then with how many were spared.
func TestSparing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(slog.NewTextHandler(&out, nil))
		var s Sparing
		for range 100 {
			s.Warn(log, "one", "refused", "from", "one")
		}
		s.Warn(log, "two", "refused", "from", "two")
		time.Sleep(sparingPause)
		s.Warn(log, "one", "refused", "from", "one")
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 3 || !strings.Contains(lines[1], "from=two") || !strings.Contains(lines[2], "spared=99") {
			t.Errorf("the log:\n%s", out.String())
		}
		for i := range 10 * sparingMost { // subjects that somebody makes up cost no memory
			s.Warn(log, fmt.Sprint(i), "refused")
		}
		if n := len(s.at); n > sparingMost {
			t.Errorf("%d subjects are remembered", n)
		}
	})
}
