package checks

import (
	"container/heap"
	"time"
)

// schedule is when the entries are due: a heap, so that ten thousand checks that wait
// cost one timer and no goroutine.
type schedule []*entry

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].next.Before(s[j].next) }
func (s schedule) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].at, s[j].at = i, j
}

// Push implements heap.Interface.
func (s *schedule) Push(x any) {
	e := x.(*entry)
	e.at = len(*s)
	*s = append(*s, e)
}

// Pop implements heap.Interface.
func (s *schedule) Pop() any {
	last := len(*s) - 1
	e := (*s)[last]
	(*s)[last], *s = nil, (*s)[:last]
	e.at = unscheduled
	return e
}

// unscheduled is the place of an entry that waits for something else than time.
const unscheduled = -1

// put makes an entry due at a time.
func (s *schedule) put(e *entry, at time.Time) {
	e.next = at
	if e.at == unscheduled {
		heap.Push(s, e)
	} else {
		heap.Fix(s, e.at)
	}
}

// drop takes an entry out.
func (s *schedule) drop(e *entry) {
	if e.at != unscheduled {
		heap.Remove(s, e.at)
	}
}

// due takes out the next entry whose time has come.
func (s *schedule) due(now time.Time) (*entry, bool) {
	if len(*s) == 0 || (*s)[0].next.After(now) {
		return nil, false
	}
	return heap.Pop(s).(*entry), true
}

// wait is how long until one is due.
func (s schedule) wait(now time.Time) time.Duration {
	if len(s) == 0 {
		return time.Hour
	}
	return max(s[0].next.Sub(now), 0)
}
