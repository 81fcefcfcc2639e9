package checks

import (
	"strings"
	"time"
)

// expired is the output of a TTL check whose last report ran out.
func expired(last string) string {
	switch {
	case last == "":
		return "TTL expired"
	case strings.HasPrefix(last, "TTL expired"): // it was registered anew meanwhile
		return last
	}
	return "TTL expired (last output before timeout follows): " + last
}

// later is when to look at a TTL again. A report moves the expiry without a word to this
// room: since it moves it a full TTL on, looking at the expiry that was known then is
// early enough.
func later(look, now time.Time) time.Time {
	if soon := now.Add(ttlGrain); look.Before(soon) {
		return soon
	}
	return look
}

// ttlGrain bounds how often a TTL of next to nothing is looked at.
const ttlGrain = 10 * time.Millisecond
