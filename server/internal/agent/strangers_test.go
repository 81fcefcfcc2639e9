package agent

import "testing"

func TestForeign(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		before, after, wrote uint64
		early, want          bool
	}{
		"the first look":        {0, 9, 3, true, false},
		"its own write":         {5, 9, 9, true, false},
		"its own, and more":     {5, 8, 9, true, false},
		"somebody else's":       {5, 9, 7, true, true},
		"time is up":            {5, 5, 5, false, false},
		"restored, same index":  {5, 5, 5, true, true},
		"restored, older index": {9, 5, 9, true, true},
	} {
		if got := foreign(c.before, c.after, c.wrote, c.early); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}
