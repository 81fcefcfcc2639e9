package ui

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/rollcall/rollcall/internal/api"
)

// mayRestore says whether the viewer may take and restore snapshots, which hold every
// token.
func (r *request) mayRestore() bool {
	if !r.ui.cfg.ACL {
		return true
	}
	rights, err := r.rights(r.token, "")
	return err == nil && rights["acl write"]
}

// snapshotGet lets the viewer keep a snapshot. It is streamed; one that breaks off breaks
// the connection off.
func snapshotGet(r *request) (view, error) {
	name := fmt.Sprintf("rollcall-%s-%s.snap", r.where(), time.Now().UTC().Format("20060102-150405"))
	w := &download{ResponseWriter: r.w, name: name, refusal: memory{header: http.Header{}}}
	r.ui.cfg.API.ServeHTTP(w, r.inner(r.Context(), r.Method, "/v1/snapshot", r.there(nil), http.NoBody, 0))
	if w.refusal.code != 0 {
		return view{}, api.Errorf(kindOf(w.refusal.code), "%s", strings.TrimSpace(w.refusal.body.String()))
	}
	return view{sent: true}, nil
}

// download hands an answer of the API on as a file, and keeps a refusal back.
type download struct {
	http.ResponseWriter
	name    string
	begun   bool
	refusal memory // code 0 if there is none
}

func (d *download) Unwrap() http.ResponseWriter { return d.ResponseWriter }

func (d *download) WriteHeader(code int) {
	if d.begun || d.refusal.code != 0 {
		return
	}
	if code >= 300 {
		d.refusal.code = code
		return
	}
	d.begun = true
	d.Header().Set("Content-Disposition", "attachment; filename=\""+d.name+"\"")
	d.ResponseWriter.WriteHeader(code)
}

func (d *download) Write(b []byte) (int, error) {
	d.WriteHeader(http.StatusOK)
	if d.refusal.code != 0 {
		return d.refusal.Write(b)
	}
	return d.ResponseWriter.Write(b)
}

// snapshotPost restores the snapshot that is sent along, if the form names the datacenter
// that it replaces: nobody does that by mistake.
func snapshotPost(r *request) (view, error) {
	parts, err := r.MultipartReader()
	if err != nil {
		return view{}, api.Errorf(api.Invalid, "the form is none with a file: %v", err)
	}
	where := r.where()
	sure := false
	for {
		part, err := parts.NextPart()
		if err == io.EOF {
			return view{}, api.Errorf(api.Invalid, "choose a snapshot: nothing was restored")
		}
		if err != nil {
			return view{}, api.Errorf(api.Invalid, "the form broke off: %v", err)
		}
		switch part.FormName() {
		case "where":
			text, err := io.ReadAll(io.LimitReader(part, 1024))
			if err != nil {
				return view{}, api.Errorf(api.Invalid, "the form broke off: %v", err)
			}
			sure = strings.TrimSpace(string(text)) == where
		case "snapshot":
			if !sure {
				return view{}, api.Errorf(api.Invalid, "nothing was restored: write %s, the datacenter's name, into the form to say that you mean it", where)
			}
			if part.FileName() == "" {
				return view{}, api.Errorf(api.Invalid, "choose a snapshot: nothing was restored")
			}
			return r.restore(part)
		}
	}
}

// restore replaces the datacenter's state with a snapshot.
func (r *request) restore(snapshot io.Reader) (view, error) {
	w := &memory{header: http.Header{}, code: http.StatusOK}
	r.ui.cfg.API.ServeHTTP(w, r.inner(r.Context(), http.MethodPut, "/v1/snapshot", r.there(nil), slowly{snapshot, http.NewResponseController(r.w)}, -1))
	if w.code >= 300 {
		return view{}, api.Errorf(kindOf(w.code), "not restored: %s", strings.TrimSpace(w.body.String()))
	}
	return view{to: "cluster?restored=1", code: http.StatusSeeOther}, nil
}

// slowly waits for each piece of a body, however long the whole takes.
type slowly struct {
	io.Reader
	c *http.ResponseController
}

func (s slowly) Read(b []byte) (int, error) {
	s.c.SetReadDeadline(time.Now().Add(formTime)) // a writer without deadlines is a test's
	n, err := s.Reader.Read(b)
	if err == io.EOF {
		s.c.SetReadDeadline(time.Time{}) // the restore itself takes what it takes
	}
	return n, err
}

// restoreLine is the command that restores a snapshot where the viewer looks.
func (r *request) restoreLine() string {
	where := ""
	if r.dc != "" {
		where = "-datacenter=" + shell(r.dc) + " "
	}
	return "rollcall snapshot restore " + where + "rollcall.snap"
}
