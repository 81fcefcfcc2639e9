package fsm

import (
	"io"

	"github.com/rollcall/rollcall/server/internal/store"
)

// Tally reads a snapshot and hands each record, with its size in bytes, to count.
func Tally(from io.Reader, count func(r *store.Record, size int)) error {
	return records(from, func(r *store.Record, size int) error {
		count(r, size)
		return nil
	})
}
