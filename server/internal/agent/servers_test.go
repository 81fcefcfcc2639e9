package agent

import (
	"fmt"
	"testing"
)

// Each server is the first choice of its share of the agents.
func TestRankIsEven(t *testing.T) {
	t.Parallel()
	servers := []string{"s1", "s2", "s3", "s4", "s5"}
	first := map[string]int{}
	const agents = 10_000
	for i := range agents {
		best := servers[0]
		for _, s := range servers[1:] {
			if rank(fmt.Sprint("agent-", i), s) < rank(fmt.Sprint("agent-", i), best) {
				best = s
			}
		}
		first[best]++
	}
	for _, s := range servers {
		if n := first[s]; n < agents/5*9/10 || n > agents/5*11/10 {
			t.Errorf("%s is the first choice of %d of %d agents: %v", s, n, agents, first)
		}
	}
}
