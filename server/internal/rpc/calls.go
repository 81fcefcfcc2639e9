package rpc

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/rollcall/rollcall/internal/api"
	"github.com/rollcall/rollcall/server/internal/command"
	"github.com/rollcall/rollcall/server/internal/endpoint"
	"github.com/rollcall/rollcall/server/internal/msgpack"
)

// calls serves frames on c until it breaks or ctx ends.
func (s *Server) calls(ctx context.Context, c net.Conn, ep endpoint.Endpoint) {
	ctx, hangUp := context.WithCancel(ctx)
	c = steady{c}
	out := make(chan *frame, outgoing)
	var working sync.WaitGroup
	working.Go(func() {
		if err := send(ctx, c, out); err != nil {
			hangUp()
		}
	})
	defer working.Wait()
	defer hangUp()
	defer c.Close()
	var mu sync.Mutex
	open := map[uint64]context.CancelFunc{} // guarded by mu
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			if errors.Is(err, errFrame) {
				s.warnings.Warn(s.log, hostOf(c), "connection closed", "from", c.RemoteAddr().String(), "err", err)
			}
			return
		}
		switch f.kind {
		case ping:
			replyPong(out)
		case cancel:
			mu.Lock()
			if end := open[f.id]; end != nil {
				end()
			}
			mu.Unlock()
		case readCall, writeCall:
			s.took.Add(1)
			call, end := context.WithCancel(ctx)
			mu.Lock()
			full := len(open) >= underWay || open[f.id] != nil
			if !full {
				open[f.id] = end
			}
			mu.Unlock()
			if full {
				end()
				post(ctx, out, failureFrame(f.id, api.Errorf(api.Busy, "rpc error: more than %d calls at once on one connection", underWay)))
				continue
			}
			working.Go(func() {
				if reply := carryOut(call, ep, f); reply != nil {
					post(ctx, out, reply)
				}
				mu.Lock()
				delete(open, f.id) // only now: replies that wait to be sent count as well
				mu.Unlock()
				end()
			})
		}
	}
}

// carryOut makes the call that a frame asks for. What ctx cut short has no reply: the
// caller either gave up, or learns from the connection's end that it has to ask
// elsewhere, which an error in the reply would keep it from.
func carryOut(ctx context.Context, ep endpoint.Endpoint, f *frame) *frame {
	reply, err := perform(ctx, ep, f)
	if err == nil && tooLarge(reply) {
		err = fmt.Errorf("the answer of %d bytes is larger than a call can carry", len(reply.body))
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return failureFrame(f.id, err)
	}
	reply.id = f.id
	return reply
}

func perform(ctx context.Context, ep endpoint.Endpoint, f *frame) (*frame, error) {
	if f.kind == writeCall {
		var h writeHead
		if err := decode(f.head, &h); err != nil {
			return nil, err
		}
		cmd, err := command.DecodeOne(f.body)
		if err != nil {
			return nil, err
		}
		res, err := ep.Write(ctx, &endpoint.Write{Datacenter: h.Datacenter, Token: h.Token, Command: cmd})
		if err != nil {
			return nil, err
		}
		head, err := msgpack.Encode(res)
		return &frame{kind: written, head: head}, err
	}
	var q endpoint.Query
	if err := decode(f.head, &q); err != nil {
		return nil, err
	}
	a, err := ep.Read(ctx, &q)
	if err != nil {
		return nil, err
	}
	body, err := a.JSON()
	if err != nil {
		return nil, err
	}
	head, err := msgpack.Encode(answerHead{a.Meta, a.Found})
	return &frame{kind: answer, head: head, body: body}, err
}

// post hands a frame to the sender, unless the connection is over.
func post(ctx context.Context, out chan<- *frame, f *frame) {
	select {
	case out <- f:
	case <-ctx.Done():
	}
}

// replyPong answers a ping. Where frames wait to be sent, they are the answer.
func replyPong(out chan<- *frame) {
	select {
	case out <- &frame{kind: pong}:
	default:
	}
}

// send writes what comes through out until ctx ends, many frames at a time where many
// wait, and a ping where nothing does.
func send(ctx context.Context, c net.Conn, out <-chan *frame) error {
	w := bufio.NewWriterSize(c, 64<<10)
	quiet := time.NewTimer(beat)
	defer quiet.Stop()
	for {
		var f *frame
		select {
		case <-ctx.Done():
			return nil
		case f = <-out:
		case <-quiet.C:
			f = &frame{kind: ping}
		}
		for f != nil {
			if err := writeFrame(w, f); err != nil {
				c.Close() // whoever reads learns
				return err
			}
			select {
			case f = <-out:
			default:
				f = nil
			}
		}
		if err := w.Flush(); err != nil {
			c.Close()
			return err
		}
		quiet.Reset(beat)
	}
}
