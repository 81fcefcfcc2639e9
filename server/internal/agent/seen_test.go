package agent

import (
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"
)

func TestLastSeen(t *testing.T) {
	t.Parallel()
	l := lastSeen{dir: t.TempDir(), log: slog.New(slog.DiscardHandler)}
	if err := l.check(time.Hour); err != nil {
		t.Errorf("the first start: %v", err)
	}
	for _, c := range []struct {
		away    time.Duration
		refused bool
	}{{time.Minute, false}, {59 * time.Minute, false}, {61 * time.Minute, true}} {
		if err := l.note(time.Now().Add(-c.away)); err != nil {
			t.Fatal(err)
		}
		if err := l.check(time.Hour); (err != nil) != c.refused || c.refused && !strings.Contains(err.Error(), "server_rejoin_age_max (1h0m0s)") {
			t.Errorf("away for %s: %v; want refused: %t", c.away, err, c.refused)
		}
	}
	if err := os.WriteFile(l.path(), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.check(time.Hour); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("a file that cannot be read: %v", err)
	}
}
