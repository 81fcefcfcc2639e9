package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v2"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/internal/config"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

const (
	maxShown = 256 << 10 // bytes of a value that a page shows
	maxKeys  = 5000      // of an export, an import or a deleted folder

	maxLooked = 1000 // keys that are looked through for locks
)

// keyEntry is a key or a folder of a listing.
type keyEntry struct {
	full, name string
	folder     bool
}

func kvPage(r *request) (view, error) {
	if n, err := strconv.Atoi(r.FormValue("written")); err == nil {
		return r.kvView(many(n, "key")+" written", "", 0)
	}
	return r.kvView("", "", 0)
}

// kvView lists a folder; done and fault say how the last action went.
func (r *request) kvView(done, fault string, code int) (view, error) {
	at := r.FormValue("at")
	var names []string
	text := r.search().text
	q := url.Values{"keys": {""}, "separator": {"/"}}
	if text != "" {
		q.Del("separator") // a search looks into folders, too
	}
	err := r.get("/v1/kv/"+at, q, &names)
	if err != nil && api.KindOf(err) != api.NotFound {
		return view{}, err
	}
	var all []keyEntry
	for _, full := range names {
		e := keyEntry{full: full, name: strings.TrimPrefix(full, at), folder: strings.HasSuffix(full, "/")}
		if e.name != "" && (text == "" || contains(e.name, text)) {
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b keyEntry) int { return rank(b.folder) - rank(a.folder) })
	rows, p := part(r, all, 200)
	return view{title: "Keys", body: kvList(r, at, rows, p, text, done, fault), topics: []endpoint.Kind{endpoint.KVKeys}, name: at, code: code}, nil
}

// kvPost imports keys, or deletes a folder.
func kvPost(r *request) (view, error) {
	at := r.FormValue("at")
	switch r.PostFormValue("do") {
	case "import":
		n, err := r.importKeys(r.PostFormValue("keys"))
		if err != nil {
			return r.kvView("", fmt.Sprintf("%s; %s written", err, many(n, "key")), http.StatusUnprocessableEntity)
		}
		return view{to: "kv?" + url.Values{"at": {at}, "written": {strconv.Itoa(n)}}.Encode(), code: http.StatusSeeOther}, nil
	case "delete":
		if at == "" {
			return r.kvView("", "Name a folder: the whole tree is not deleted from here.", http.StatusUnprocessableEntity)
		}
		if r.PostFormValue("sure") == "" {
			var names []string
			if err := r.get("/v1/kv/"+at, url.Values{"keys": {""}}, &names); err != nil {
				return view{}, err
			}
			return r.sure("kv", "Delete "+at+"?", fmt.Sprintf("This deletes %s below %s, for good.", many(len(names), "key"), at), "Delete "+many(len(names), "key"), "at", at, "do", "delete"), nil
		}
		if err := r.call(http.MethodDelete, "/v1/kv/"+at, url.Values{"recurse": {""}}, nil, nil); err != nil {
			return view{}, err
		}
		up := strings.TrimSuffix(at, "/")
		return view{to: "kv?" + url.Values{"at": {up[:strings.LastIndexByte(up, '/')+1]}}.Encode(), code: http.StatusSeeOther}, nil
	}
	return view{}, api.Errorf(api.Invalid, "there is no such action")
}

// exported is a key as the command line exports it.
type exported struct {
	Key   string `json:"key"`
	Flags uint64 `json:"flags"`
	Value []byte `json:"value"`
}

func kvExport(r *request) (view, error) {
	at := r.FormValue("at")
	var pairs []api.KVPair
	if err := r.get("/v1/kv/"+at, url.Values{"recurse": {""}}, &pairs); err != nil && api.KindOf(err) != api.NotFound {
		return view{}, err
	}
	out := make([]exported, 0, len(pairs))
	for _, p := range pairs {
		out = append(out, exported{p.Key, p.Flags, p.Value})
	}
	body, err := json.MarshalIndent(out, "", "\t")
	if err != nil {
		return view{}, err
	}
	h := r.w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Disposition", `attachment; filename="keys.json"`)
	send(r.w, r.Request, http.StatusOK, body)
	return view{sent: true}, nil
}

// importKeys writes keys as kvExport gives them, and says how many it has written.
func (r *request) importKeys(text string) (int, error) {
	var in []exported
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return 0, fmt.Errorf("this is no export: %w", err)
	}
	if len(in) > maxKeys {
		return 0, fmt.Errorf("%d keys are too many for a page (%d): use the command kv import", len(in), maxKeys)
	}
	for at, e := range in {
		if e.Key == "" {
			return 0, fmt.Errorf("key %d has no name", at+1)
		}
	}
	n := 0
	for batch := range slices.Chunk(in, 64) {
		var ops []api.TxnOp
		for _, e := range batch {
			ops = append(ops, api.TxnOp{KV: &api.TxnKV{Verb: api.TxnSet, Key: e.Key, Value: e.Value, Flags: e.Flags}})
		}
		body, err := json.Marshal(ops)
		if err != nil {
			return n, err
		}
		if err := r.call(http.MethodPut, "/v1/txn", nil, body, nil); err != nil {
			return n, err
		}
		n += len(batch)
	}
	return n, nil
}

// keyView is one key as its page shows it.
type keyView struct {
	key     string
	pair    *api.KVPair // as it is; nil if there is none
	text    string      // in the editor
	index   uint64      // that the text was made from; 0: the key did not exist
	format  string
	binary  bool
	holder  *api.Session // who holds the lock
	fault   string
	clash   bool // somebody wrote since
	written bool
}

func keyPage(r *request) (view, error) {
	v, err := r.readKey(r.FormValue("key"))
	if err != nil {
		return view{}, err
	}
	v.written = r.FormValue("written") != ""
	return r.keyView(v, 0), nil
}

func (r *request) keyView(v keyView, code int) view {
	title := v.key
	if title == "" {
		title = "New key"
	}
	return view{title: title, body: kvKey(r, v), code: code}
}

// readKey reads a key as it is now.
func (r *request) readKey(key string) (keyView, error) {
	v := keyView{key: key, format: formatOf(key)}
	if key == "" || strings.HasSuffix(key, "/") && r.FormValue("new") != "" {
		return v, nil
	}
	var pairs []*api.KVPair
	err := r.get("/v1/kv/"+key, nil, &pairs)
	if api.KindOf(err) == api.NotFound && err != nil || err == nil && len(pairs) == 0 {
		return v, nil
	}
	if err != nil {
		return v, err
	}
	v.pair = pairs[0]
	v.index = v.pair.ModifyIndex
	v.binary = !utf8.Valid(v.pair.Value) || bytes.ContainsRune(v.pair.Value, 0) || len(v.pair.Value) > maxShown
	if !v.binary {
		v.text = string(v.pair.Value)
	}
	if v.pair.Session != "" {
		var sessions []*api.Session
		if r.get("/v1/session/info/"+v.pair.Session, nil, &sessions) == nil && len(sessions) > 0 {
			v.holder = sessions[0]
		}
	}
	return v, nil
}

func keyPost(r *request) (view, error) {
	key := strings.TrimPrefix(r.PostFormValue("key"), "/")
	text := strings.ReplaceAll(r.PostFormValue("value"), "\r\n", "\n") // forms send lines as of old
	index, err := strconv.ParseUint(r.PostFormValue("index"), 10, 64)
	if err != nil {
		return view{}, api.Errorf(api.Invalid, "the form lacks the index that it was made from")
	}
	now, err := r.readKey(key)
	if err != nil {
		return view{}, err
	}
	refuse := func(fault string, code int) (view, error) {
		now.text, now.fault, now.index, now.format = text, fault, index, r.PostFormValue("format")
		return r.keyView(now, code), nil
	}
	if key == "" {
		return refuse("Name the key.", http.StatusUnprocessableEntity)
	}
	if r.PostFormValue("do") == "delete" {
		return r.deleteKey(now, index)
	}
	if err := valid(r.PostFormValue("format"), text); err != nil {
		return refuse(fmt.Sprintf("Not saved: this is no %s: %s", r.PostFormValue("format"), err), http.StatusUnprocessableEntity)
	}
	var won bool
	q := url.Values{"cas": {strconv.FormatUint(index, 10)}}
	if now.pair != nil && now.pair.Flags != 0 {
		q.Set("flags", strconv.FormatUint(now.pair.Flags, 10))
	}
	if err := r.call(http.MethodPut, "/v1/kv/"+key, q, []byte(text), &won); err != nil {
		return refuse("Not saved: "+err.Error(), codeOf(err))
	}
	if won {
		return view{to: "key?" + url.Values{"key": {key}, "written": {"1"}}.Encode(), code: http.StatusSeeOther}, nil
	}
	if now, err = r.readKey(key); err != nil {
		return view{}, err
	}
	theirs := now.index
	v, err := refuse("Not saved: somebody wrote this key after you opened it. Theirs is shown with yours; saving again replaces it.", http.StatusConflict)
	now.clash, now.index = true, theirs
	v.body = kvKey(r, now)
	return v, err
}

func (r *request) deleteKey(now keyView, index uint64) (view, error) {
	if now.pair == nil {
		return view{}, api.Errorf(api.NotFound, "the key %s is not there any more", now.key)
	}
	at := strconv.FormatUint(index, 10)
	if r.PostFormValue("sure") == "" {
		return r.sure("key", "Delete "+now.key+"?", "This deletes the key and its value, if nobody writes it before.", "Delete the key", "key", now.key, "index", at, "do", "delete"), nil
	}
	var won bool
	if err := r.call(http.MethodDelete, "/v1/kv/"+now.key, url.Values{"cas": {at}}, nil, &won); err != nil {
		return view{}, err
	}
	if !won {
		now.fault = "Not deleted: somebody wrote this key after you opened it. This is how it is now."
		return r.keyView(now, http.StatusConflict), nil
	}
	return view{to: "kv?" + url.Values{"at": {now.key[:strings.LastIndexByte(now.key, '/')+1]}}.Encode(), code: http.StatusSeeOther}, nil
}

// formatOf guesses what a value is from its key's ending.
func formatOf(key string) string {
	for ending, format := range map[string]string{".json": "JSON", ".yaml": "YAML", ".yml": "YAML", ".hcl": "HCL"} {
		if strings.HasSuffix(strings.ToLower(key), ending) {
			return format
		}
	}
	return ""
}

// valid checks a value against what it shall be.
func valid(format, text string) error {
	switch format {
	case "":
		return nil
	case "JSON":
		var v any
		err := json.Unmarshal([]byte(text), &v)
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			before := text[:min(int(syntax.Offset), len(text))]
			return fmt.Errorf("line %d: %w", 1+strings.Count(before, "\n"), err)
		}
		return err
	case "YAML":
		var v any
		return yaml.Unmarshal([]byte(text), &v)
	case "HCL":
		_, err := config.Parse("value", []byte(text), "hcl")
		return err
	}
	return fmt.Errorf("%q cannot be checked; there are JSON, YAML and HCL", format)
}

// folders are the parts of a path, each with the whole way to it.
func folders(at string) []keyEntry {
	var out []keyEntry
	for i, c := range at {
		if c == '/' {
			full := at[:i+1]
			out = append(out, keyEntry{full: full, name: full[strings.LastIndexByte(full[:i], '/')+1:]})
		}
	}
	return out
}

// sure asks whether an action is meant: pairs are the form's fields, in turn.
func (r *request) sure(path, title, text, button string, pairs ...string) view {
	return view{title: title, body: certain(r, path, title, text, button, pairs)}
}
