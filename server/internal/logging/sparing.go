package logging

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// Sparing logs warnings that others can cause as often as they like: each about once in
// Pause, and then with how many were spared since. Its methods may be called concurrently.
type Sparing struct {
	Pause time.Duration // default 10s

	mu     sync.Mutex
	at     map[string]time.Time // guarded by mu; when it was last logged
	spared map[string]int       // guarded by mu; how often it was not since
}

const (
	sparingPause = 10 * time.Second
	sparingMost  = 1024 // subjects that are told apart; then all are told anew
)

// Warn logs msg, unless it was logged about the same subject a moment ago.
func (s *Sparing) Warn(log *slog.Logger, subject, msg string, args ...any) {
	s.Log(log, slog.LevelWarn, subject, msg, args...)
}

// Log is Warn at another level.
func (s *Sparing) Log(log *slog.Logger, level slog.Level, subject, msg string, args ...any) {
	key, pause := msg+"\x00"+subject, s.Pause
	if pause == 0 {
		pause = sparingPause
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.at == nil || len(s.at) >= sparingMost {
		s.at, s.spared = map[string]time.Time{}, map[string]int{}
	}
	if last, ok := s.at[key]; ok && time.Since(last) < pause {
		s.spared[key]++
		return
	}
	if n := s.spared[key]; n > 0 {
		args = append(args, "spared", n)
	}
	log.Log(context.Background(), level, msg, args...)
	s.at[key], s.spared[key] = time.Now(), 0
}
