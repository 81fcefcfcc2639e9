package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

var soakFor = flag.Duration("soak", 0, "how long TestSoak goes on; 0 skips it")

// Churn through the whole house: containers come, stop and die, the server and the
// registrator are killed, and after each round nginx serves exactly what runs, no
// request has failed, and nobody has grown without bound.
func TestSoak(t *testing.T) {
	if *soakFor == 0 {
		t.Skip("a soak takes as long as -soak says: make soak")
	}
	h := startHouse(t, nil)
	anchor := h.engine.web("web")
	running := []string{anchor}
	eventually(t, soon, "served", h.wantServed("web", running...))
	end := time.Now().Add(*soakFor)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for round := 0; time.Now().Before(end); round++ {
		stop := h.load("web", 50)
		for range 1 + random.IntN(4) {
			switch n := random.IntN(10); {
			case n < 5 && len(running) < 12 || len(running) == 1:
				running = append(running, h.engine.web("web"))
			case n < 8:
				i := 1 + random.IntN(len(running)-1)
				h.engine.docker("stop", "-t", "10", running[i])
				h.engine.remove(running[i])
				running = slices.Delete(running, i, i+1)
			case n == 8:
				h.registrator.kill()
				h.registrator.run()
			default:
				h.server.kill()
				h.server.run()
				h.server.awaitLeader()
			}
		}
		eventually(t, 30*time.Second, fmt.Sprintf("round %d: nginx serves what runs", round), h.wantServed("web", running...))
		if total, failures := stop(); len(failures) > 0 {
			t.Fatalf("round %d: %d of %d requests failed: %v", round, len(failures), total, failures[:min(len(failures), 5)])
		}
		if round%20 == 0 {
			t.Logf("round %d: %d containers; resident: server %.1f MB, registrator %.1f MB, templater %.1f MB", round, len(running),
				h.server.memory(), h.registrator.memory(), h.templater.memory())
		}
	}
}
