package ui

import (
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/rollcall/rollcall/internal/announce"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

const (
	pulse     = 25 * time.Second // a sign of life, for proxies
	liveWrite = 10 * time.Second // for each line
	minEvery  = time.Second
	maxTopics = 5 // of a page
)

// liveKinds are what a page may follow.
var liveKinds = []endpoint.Kind{
	endpoint.UINodes, endpoint.KVKeys, endpoint.KVList, endpoint.SessionList, endpoint.QueryList, endpoint.CoordinateNodes, endpoint.AutopilotConfig,
	endpoint.ACLTokens, endpoint.ACLPolicies, endpoint.ACLRoles, endpoint.ACLAuthMethods, endpoint.ACLBindingRules,
}

// live tells a page, by server-sent events, that what it shows has changed. It ends with
// the request and with the agent.
func (u *UI) live(r *request) {
	q := r.URL.Query()
	var kinds []endpoint.Kind
	for _, k := range q["t"] {
		if !slices.Contains(liveKinds, endpoint.Kind(k)) || len(kinds) == maxTopics {
			http.Error(r.w, "there is no such topic", http.StatusBadRequest)
			return
		}
		kinds = append(kinds, endpoint.Kind(k))
	}
	var feeds []*feed
	for _, k := range kinds {
		f, release, err := u.hub.use(r.Context(), r.topic(k, topicName(k, q.Get("name"))))
		if err != nil {
			http.Error(r.w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		defer release()
		feeds = append(feeds, f)
	}
	var again <-chan time.Time
	if every, err := time.ParseDuration(q.Get("every")); err == nil && every > 0 {
		t := time.NewTicker(max(every, minEvery))
		defer t.Stop()
		again = t.C
	}
	h := r.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx hands it on at once
	c := http.NewResponseController(r.w)
	say := func(line string) bool {
		c.SetWriteDeadline(time.Now().Add(liveWrite))
		if _, err := fmt.Fprint(r.w, line); err != nil {
			return false
		}
		return c.Flush() == nil
	}
	beat := time.NewTicker(pulse)
	defer beat.Stop()
	if !say("retry: 1000\nevent: hello\ndata: " + u.assets["app.js"].name + "\n\n") {
		return
	}
	told, _ := strconv.ParseUint(q.Get("seen"), 10, 64) // the sum of all versions that the page knows or is about to
	for {
		var sum uint64
		cases := []reflect.SelectCase{recv(r.Context().Done()), recv(u.hub.ended), recv(beat.C), recv(again), recv(u.bell.wait())}
		follow := func(version uint64, moved <-chan struct{}) {
			sum += version
			cases = append(cases, recv(moved))
		}
		if q.Has("record") {
			follow(u.timeline.now())
		}
		for _, f := range feeds {
			s, moved := f.now()
			follow(s.version, moved)
		}
		line := change
		if sum == told {
			switch at, _, _ := reflect.Select(cases); at {
			case 0, 1:
				return
			case 2:
				line = ":\n\n"
			case 3, 4:
			default:
				continue // its version says it
			}
		}
		if told = sum; !say(line) {
			return
		}
	}
}

// change is the event that lets a page ask for itself again.
const change = "data: \n\n"

func recv(c any) reflect.SelectCase {
	return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c)}
}

// topicName is what of a topic a page may follow: of keys those that it names, of their
// values only what is announced, of all else everything.
func topicName(k endpoint.Kind, name string) string {
	switch k {
	case endpoint.KVKeys:
		return name
	case endpoint.KVList:
		return announce.Prefix
	}
	return ""
}
