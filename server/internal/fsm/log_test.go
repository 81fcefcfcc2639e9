package fsm

import (
	"log/slog"
	"testing"
)

func slogTo(t testing.TB) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }
