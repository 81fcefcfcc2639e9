package ui

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"
)

const (
	minGzip   = 1400 // bytes: a packet
	pieceTime = time.Minute
)

// asset is an embedded file with the name that it is served by, which has its hash, so
// that it may be kept for ever.
type asset struct {
	name string
	body []byte
}

// readAssets gives the embedded files by their plain names.
func readAssets() map[string]asset {
	out := map[string]asset{}
	files, err := fs.ReadDir(static, "static")
	if err != nil {
		panic(err) // they are compiled in
	}
	for _, f := range files {
		body, err := static.ReadFile("static/" + f.Name())
		if err != nil {
			panic(err)
		}
		sum := sha256.Sum256(body)
		ext := path.Ext(f.Name())
		out[f.Name()] = asset{strings.TrimSuffix(f.Name(), ext) + "-" + hex.EncodeToString(sum[:6]) + ext, body}
	}
	return out
}

func (u *UI) serveAsset(w http.ResponseWriter, r *http.Request, name string) {
	for _, a := range u.assets {
		if a.name != name {
			continue
		}
		w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
		send(w, r, http.StatusOK, a.body)
		return
	}
	http.NotFound(w, r)
}

// send answers, packed where the client takes that.
func send(w http.ResponseWriter, r *http.Request, code int, body []byte) {
	h := w.Header()
	h.Add("Vary", "Accept-Encoding")
	if len(body) > minGzip && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		var packed bytes.Buffer
		z, _ := gzip.NewWriterLevel(&packed, gzip.BestSpeed) // the level is valid
		z.Write(body)                                        // a buffer takes everything
		z.Close()
		h.Set("Content-Encoding", "gzip")
		body = packed.Bytes()
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	http.NewResponseController(w).SetWriteDeadline(time.Now().Add(pieceTime)) // a writer without deadlines is a test's
	w.WriteHeader(code)
	w.Write(body) // the client may have left: nobody to tell
}
