package consensus

import (
	"testing"
	"testing/synctest"
	"time"
)

// The stores are closed only when no heartbeat is being handled, and none comes in after.
func TestHeartbeatsEndBeforeClose(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var b beats
		if !b.begin() {
			t.Fatal("refused while open")
		}
		closed := false
		go func() {
			b.close()
			closed = true
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		if closed || b.begin() {
			t.Errorf("closed %t with a heartbeat under way, or another let in", closed)
		}
		b.running.Done()
		synctest.Wait()
		if !closed {
			t.Error("not closed after the last")
		}
	})
}
