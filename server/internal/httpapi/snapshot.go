package httpapi

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/endpoint"
)

// snapshotSave streams an archive of the state. An error after the first byte breaks the
// connection off, so that nobody takes a part for the whole.
func snapshotSave(ctx context.Context, r *request) (*reply, error) {
	if r.Method == http.MethodHead {
		return &reply{}, nil
	}
	var out *piecewise
	err := r.server.cfg.Snapshots.Save(ctx, r.opts, func(m api.QueryMeta) io.Writer {
		h := r.w.Header()
		setMeta(h, &endpoint.Answer{Meta: m}, indexMeta)
		h.Set("Content-Type", "application/x-gzip")
		out = &piecewise{w: r.w, c: http.NewResponseController(r.w)}
		return out
	})
	switch {
	case err == nil:
		return &reply{sent: true}, nil
	case out == nil:
		return nil, err
	}
	if !errors.Is(err, out.err) {
		r.server.log.Warn("snapshot broke off", "from", r.RemoteAddr, "err", err)
	}
	panic(http.ErrAbortHandler)
}

// piecewise gives the client time for each piece.
type piecewise struct {
	w   io.Writer
	c   *http.ResponseController
	err error
}

func (p *piecewise) Write(b []byte) (int, error) {
	p.c.SetWriteDeadline(time.Now().Add(pieceTime))
	n, err := p.w.Write(b)
	if err != nil {
		p.err = err
	}
	return n, err
}

func snapshotRestore(ctx context.Context, r *request) (*reply, error) {
	return nil, r.server.cfg.Snapshots.Restore(ctx, r.opts, patient{r.Body, http.NewResponseController(r.w)})
}

// patient waits for each piece of a body, however long the whole takes.
type patient struct {
	io.Reader
	c *http.ResponseController
}

func (p patient) Read(b []byte) (int, error) {
	p.c.SetReadDeadline(time.Now().Add(bodyTime))
	n, err := p.Reader.Read(b)
	if err == io.EOF {
		p.c.SetReadDeadline(time.Time{}) // as in request.body
	}
	return n, err
}
