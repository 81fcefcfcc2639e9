package guard

import (
	"fmt"
	"maps"
	"slices"
)

// Limits are how much may be taken away at once.
type Limits struct {
	MinInstances     int // of each service; 0 is off
	MaxShrinkPercent int // of a service's instances; 0 is off
}

// Counts are how many instances of each service a template shows, by template: one may
// have lost sight of a service that another still shows.
type Counts map[string]map[string]int

// Services gives, of each service, the most that a template shows.
func (c Counts) Services() map[string]int {
	out := map[string]int{}
	for _, services := range c {
		for name, n := range services {
			out[name] = max(out[name], n)
		}
	}
	return out
}

// Check compares what a template shows of each service in the set that is live with the
// next. An error says which service would lose too much. What only grows is never held.
func (l Limits) Check(before, after map[string]int) error {
	for _, service := range slices.Sorted(maps.Keys(before)) {
		was, will := before[service], after[service]
		if will >= was {
			continue
		}
		if will < l.MinInstances {
			return fmt.Errorf("%s would have %s, and min_instances is %d", service, count(will), l.MinInstances)
		}
		if l.MaxShrinkPercent > 0 && (was-will)*100 > l.MaxShrinkPercent*was {
			return fmt.Errorf("%s would go from %s to %d, and max_shrink_percent is %d", service, count(was), will, l.MaxShrinkPercent)
		}
	}
	return nil
}

func count(n int) string {
	if n == 1 {
		return "1 instance"
	}
	return fmt.Sprintf("%d instances", n)
}
