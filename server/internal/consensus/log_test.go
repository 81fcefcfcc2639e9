package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// What Raft says again and again of a server that is down is said once in a while, of each
// server; errors of its own are all said; and of a disk that hangs only the watchdog speaks.
func TestLogIsSpared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		h := newHCLogger(slog.New(slog.NewTextHandler(&out, nil)))
		count := func(text string, want int) {
			t.Helper()
			if got := strings.Count(out.String(), text); got != want {
				t.Errorf("%q stands there %d times, want %d:\n%s", text, got, want, &out)
			}
		}
		for range 200 {
			for _, peer := range []string{"a", "b"} {
				h.Named("x").With("k", "v").Error("failed to heartbeat to", "peer", peer, "error", errors.New("refused"))
				h.Error("failed to appendEntries to", "peer", peer, "error", fmt.Errorf("sent: %w", errStalled))
			}
			h.Warn("Election timeout reached, restarting election")
			time.Sleep(500 * time.Millisecond)
		}
		count("failed to heartbeat to", 4)
		count("spared=119", 3)
		count("failed to appendEntries to", 0)
		count("Election timeout", 2)
		for range 3 {
			h.Error("failed to commit logs", "error", errors.New("disk"))
		}
		count("failed to commit logs", 3)
	})
}
