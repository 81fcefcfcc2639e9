package ui

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// lookLocks is how often a page looks again who holds which lock: nothing tells of that.
const lookLocks = 15 * time.Second

func sessionsPage(r *request) (view, error) {
	var rows []*api.Session
	if err := r.get("/v1/session/list", nil, &rows); err != nil {
		return view{}, err
	}
	slices.SortFunc(rows, func(a, b *api.Session) int { return strings.Compare(a.Node+a.Name+a.ID, b.Node+b.Name+b.ID) })
	some, p := part(r, rows, perPage)
	return view{title: "Sessions", body: sessions(r, some, p, r.locks(some)), topics: []endpoint.Kind{endpoint.SessionList}, every: lookLocks}, nil
}

// session gives a session by the id that the form names.
func (r *request) session() (*api.Session, error) {
	id := r.FormValue("id")
	var rows []*api.Session
	if err := r.get("/v1/session/info/"+id, nil, &rows); err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, api.Errorf(api.NotFound, "the session %s is over", id)
	}
	return rows[0], nil
}

func sessionPage(r *request) (view, error) {
	s, err := r.session()
	if err != nil {
		return view{}, err
	}
	return view{title: "Session " + short(s.ID), body: oneSession(r, s, r.locks([]*api.Session{s})), topics: []endpoint.Kind{endpoint.SessionList}, every: lookLocks}, nil
}

// locks are the keys that sessions hold, by session; nil where there are too many keys to
// look through for a page.
func (r *request) locks(sessions []*api.Session) map[string][]string {
	held := map[string][]string{}
	if len(sessions) == 0 {
		return held
	}
	var names []string
	switch err := r.get("/v1/kv/", url.Values{"keys": {""}}, &names); {
	case err != nil && api.KindOf(err) == api.NotFound:
		return held
	case err != nil || len(names) > maxLooked:
		return nil
	}
	var pairs []*api.KVPair
	if r.get("/v1/kv/", url.Values{"recurse": {""}}, &pairs) != nil {
		return nil
	}
	for _, p := range pairs {
		if p.Session != "" {
			held[p.Session] = append(held[p.Session], p.Key)
		}
	}
	return held
}

func sessionPost(r *request) (view, error) {
	s, err := r.session()
	if err != nil {
		return view{}, err
	}
	if r.PostFormValue("sure") == "" {
		return r.sure("session", "End the session "+short(s.ID)+"?", fmt.Sprintf("Its locks are given up, and its keys are %s.", endOf(s.Behavior)), "End it", "id", s.ID), nil
	}
	if err := r.call(http.MethodPut, "/v1/session/destroy/"+s.ID, nil, nil, nil); err != nil {
		return view{}, err
	}
	return view{to: "sessions", code: http.StatusSeeOther}, nil
}

// --- prepared queries ---

func queriesPage(r *request) (view, error) {
	var rows []*api.PreparedQuery
	if err := r.get("/v1/query", nil, &rows); err != nil {
		return view{}, err
	}
	return view{title: "Prepared queries", body: queries(r, rows), topics: []endpoint.Kind{endpoint.QueryList}}, nil
}

// trial is what came of trying a query.
type trial struct {
	name   string // that it was asked by
	result *api.QueryResult
	fault  string
}

// blankQuery is what a new one starts from.
const blankQuery = `{
    "Name": "",
    "Service": {
        "Service": "",
        "OnlyPassing": true,
        "Tags": [],
        "Failover": {"NearestN": 0, "Datacenters": []}
    },
    "DNS": {"TTL": "10s"}
}`

func queryPage(r *request) (view, error) { return r.queryView("", "", trial{}, 0) }

func (r *request) queryView(text, fault string, try trial, code int) (view, error) {
	id := r.FormValue("id")
	title := "New query"
	if id != "" {
		var rows []*api.PreparedQuery
		if err := r.get("/v1/query/"+id, nil, &rows); err != nil {
			return view{}, err
		}
		title = orID(rows[0].Name, id)
		if text == "" {
			b, err := json.MarshalIndent(rows[0], "", "    ")
			if err != nil {
				return view{}, err
			}
			text = string(b)
		}
	} else if text == "" {
		text = blankQuery
	}
	return view{title: title, body: oneQuery(r, id, title, text, fault, try), code: code}, nil
}

func orID(name, id string) string {
	if name == "" {
		return short(id)
	}
	return name
}

func queryPost(r *request) (view, error) {
	id := r.PostFormValue("id")
	text := r.PostFormValue("definition")
	switch r.PostFormValue("do") {
	case "try":
		name := strings.TrimSpace(r.PostFormValue("name"))
		t := trial{name: name}
		if name == "" {
			t.fault = "Name the query, or a name that a template answers for."
			return r.queryView("", "", t, http.StatusUnprocessableEntity)
		}
		if err := r.get("/v1/query/"+name+"/execute", url.Values{"limit": {"50"}}, &t.result); err != nil {
			t.fault = err.Error()
		}
		return r.queryView("", "", t, 0)
	case "delete":
		if r.PostFormValue("sure") == "" {
			return r.sure("query", "Delete the query?", "Whoever asks for it gets nothing from then on.", "Delete the query", "id", id, "do", "delete"), nil
		}
		if err := r.call(http.MethodDelete, "/v1/query/"+id, nil, nil, nil); err != nil {
			return view{}, err
		}
		return view{to: "queries", code: http.StatusSeeOther}, nil
	case "save":
		if err := valid("JSON", text); err != nil {
			return r.queryView(text, "Not saved: this is no JSON: "+err.Error(), trial{}, http.StatusUnprocessableEntity)
		}
		var made struct{ ID string }
		verb, path, out := http.MethodPost, "/v1/query", any(&made)
		if id != "" {
			verb, path, out = http.MethodPut, "/v1/query/"+id, nil
		}
		if err := r.call(verb, path, nil, []byte(text), out); err != nil {
			return r.queryView(text, "Not saved: "+err.Error(), trial{}, http.StatusUnprocessableEntity)
		}
		return view{to: "query?" + url.Values{"id": {id + made.ID}}.Encode(), code: http.StatusSeeOther}, nil
	}
	return view{}, api.Errorf(api.Invalid, "there is no such action")
}

// --- user events ---

func eventsPage(r *request) (view, error) {
	if sent := r.FormValue("sent"); sent != "" {
		return r.eventsView("Sent "+sent, "", 0)
	}
	return r.eventsView("", "", 0)
}

func (r *request) eventsView(done, fault string, code int) (view, error) {
	var rows []*api.UserEvent
	if err := r.get("/v1/event/list", nil, &rows); err != nil {
		return view{}, err
	}
	slices.Reverse(rows)
	return view{title: "Events", body: events(r, rows, done, fault), every: 2 * time.Second, code: code}, nil
}

func eventsPost(r *request) (view, error) {
	refuse := func(text string) (view, error) { return r.eventsView("", text, http.StatusUnprocessableEntity) }
	name := strings.TrimSpace(r.PostFormValue("name"))
	if name == "" {
		return refuse("Not sent: name the event.")
	}
	q := url.Values{}
	for _, key := range []string{"node", "service", "tag"} {
		expr := r.PostFormValue(key)
		if _, err := regexp.Compile(expr); err != nil {
			return refuse(fmt.Sprintf("Not sent: the %s is no regular expression: %s", key, err))
		}
		if expr != "" {
			q.Set(key, expr)
		}
	}
	if err := r.call(http.MethodPut, "/v1/event/fire/"+name, q, []byte(r.PostFormValue("payload")), nil); err != nil {
		return refuse("Not sent: " + err.Error())
	}
	return view{to: "events?" + url.Values{"sent": {name}}.Encode(), code: http.StatusSeeOther}, nil
}

// payload shows what an event carries.
func payload(b []byte) string {
	if !utf8.Valid(b) {
		return many(len(b), "byte")
	}
	return clip(string(b), 200)
}
