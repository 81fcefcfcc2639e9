package httpapi

import (
	"net/http"
	"path"
	"strings"
	"time"
)

// router finds a route by its path. It is not net/http's because that one cleans paths:
// a key may begin with a slash, and two slashes in it are not one.
type router struct {
	whole map[string]*target
	below map[string]*target // paths that end in a slash
	depth int                // the most slashes that a path in below has
}

// target is what answers a route; it is given the path that was found.
type target struct {
	serve func(w http.ResponseWriter, r *http.Request, path string)
}

func newRouter() *router { return &router{whole: map[string]*target{}, below: map[string]*target{}} }

// add answers a path, or all below it where it ends in a slash.
func (t *router) add(path string, serve func(http.ResponseWriter, *http.Request, string)) {
	if !strings.HasSuffix(path, "/") {
		t.exact(path, serve)
		return
	}
	t.below[path] = &target{serve}
	t.depth = max(t.depth, strings.Count(path, "/"))
}

// exact answers a path and nothing below it.
func (t *router) exact(path string, serve func(http.ResponseWriter, *http.Request, string)) {
	t.whole[path] = &target{serve}
}

// find gives the route of a path and the path by which it was found; nil if there is
// none. A path that leads nowhere is cleaned and tried again: clients whose address ends
// in a slash ask for //v1/….
func (t *router) find(asked string) (*target, string) {
	if asked == "" {
		asked = "/"
	}
	if to := t.at(asked); to != nil {
		return to, asked
	}
	clean := path.Clean("/" + asked)
	if strings.HasSuffix(asked, "/") && clean != "/" {
		clean += "/"
	}
	return t.at(clean), clean
}

// slashed reports whether a path lacks only the slash at its end to be a route.
func (t *router) slashed(path string) bool { return t.below[path+"/"] != nil }

// at looks a path up: itself, else the longest route that it is below of.
func (t *router) at(p string) *target {
	if to := t.whole[p]; to != nil {
		return to
	}
	var found *target
	for i, n := 0, 0; n < t.depth; n++ {
		next := strings.IndexByte(p[i:], '/')
		if next < 0 {
			break
		}
		i += next + 1
		if to := t.below[p[:i]]; to != nil {
			found = to
		}
	}
	return found
}

// foreign lets a handler of its own answer, with time for the whole answer; 0 is for
// ever.
func foreign(h http.Handler, limit time.Duration) func(http.ResponseWriter, *http.Request, string) {
	return func(w http.ResponseWriter, r *http.Request, path string) {
		var until time.Time
		if limit > 0 {
			until = time.Now().Add(limit)
		}
		http.NewResponseController(w).SetWriteDeadline(until)
		if r.URL.Path != path {
			r = r.Clone(r.Context())
			r.URL.Path, r.URL.RawPath = path, ""
		}
		h.ServeHTTP(w, r)
	}
}
