package gossip

import (
	"fmt"
	"strings"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/serf/serf"

	"github.com/rollcall/rollcall/internal/api"
)

// eventPrefix tells user events from what else may once travel the same way.
const eventPrefix = "rollcall:event:"

// wireEvent is a user event as it travels: names are short, since all of it has to fit
// into 512 bytes.
type wireEvent struct {
	ID      string `codec:"i"`
	Payload []byte `codec:"p,omitempty"`
	Node    string `codec:"n,omitempty"`
	Service string `codec:"s,omitempty"`
	Tag     string `codec:"t,omitempty"`
	Version int    `codec:"v"`
}

var eventHandle = func() *codec.MsgpackHandle {
	h := &codec.MsgpackHandle{WriteExt: true}
	h.RawToString = true
	return h
}()

// Fire sends a user event to every member, this one too. Name, filters and payload have
// to fit into some 512 bytes together.
func (p *Pool) Fire(e *api.UserEvent) error {
	var b []byte
	err := codec.NewEncoderBytes(&b, eventHandle).Encode(wireEvent{e.ID, e.Payload, e.NodeFilter, e.ServiceFilter, e.TagFilter, e.Version})
	if err != nil {
		return fmt.Errorf("encode event %q: %w", e.Name, err)
	}
	if err := p.serf.UserEvent(eventPrefix+e.Name, b, false); err != nil {
		return fmt.Errorf("fire event %q with a payload of %d bytes: %w", e.Name, len(e.Payload), err)
	}
	return nil
}

// fired reads a user event of Serf's; false if it is none of ours.
func fired(s serf.UserEvent) (*api.UserEvent, bool) {
	name, ours := strings.CutPrefix(s.Name, eventPrefix)
	var w wireEvent
	if !ours || codec.NewDecoderBytes(s.Payload, eventHandle).Decode(&w) != nil {
		return nil, false
	}
	if len(w.Payload) == 0 {
		w.Payload = nil
	}
	return &api.UserEvent{
		ID: w.ID, Name: name, Payload: w.Payload, NodeFilter: w.Node, ServiceFilter: w.Service, TagFilter: w.Tag,
		Version: w.Version, LTime: uint64(s.LTime),
	}, true
}
