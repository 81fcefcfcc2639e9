package dnsserver

import (
	"encoding/binary"
)

// scratch is what writing needs for a while. It is not for use by two at a time.
type scratch struct {
	key    []byte
	out    []byte
	order  order
	chosen []int  // the targets of the records, in their order
	marks  []mark // of each target
	round  uint32 // of writing; marks of other rounds do not count
}

// mark says where in the message of a round a target's name stands.
type mark struct{ round, at uint32 }

// begin forgets the marks of before, and has room for n.
func (s *scratch) begin(n int) {
	if s.round++; s.round == 0 || len(s.marks) < n { // once around, or too few
		s.marks, s.round = make([]mark, max(n, len(s.marks))), 1
	}
	s.chosen = s.chosen[:0]
}

// at is where a target's name stands; 0 = nowhere yet.
func (s *scratch) at(t int) int {
	if m := s.marks[t]; m.round == s.round {
		return int(m.at)
	}
	return 0
}

// strictLimit is how many records Consul gives over UDP without EDNS.
const strictLimit = 3

// writer puts one message together.
type writer struct {
	*packed
	*scratch
	c       *Config
	r       *request
	base    int    // where the message begins in to
	to      []byte // with what stood there before
	limit   int    // of the message, in bytes, without the OPT record
	plain   int    // strict: its size as Consul counts it
	lean    bool   // strict: not all fits, so each target has its first record only
	tc      bool
	answers int
	extras  int
}

// write appends the answer to a request.
func (p *packed) write(to []byte, r *request, c *Config, s *scratch) []byte {
	w := writer{packed: p, scratch: s, c: c, r: r, base: len(to), to: to, limit: r.size - r.optSize(), tc: p.truncated}
	w.to = append(w.to, make([]byte, headerSize)...)
	w.to = append(w.to, r.name...)
	w.to = append(w.to, byte(r.qtype>>8), byte(r.qtype), byte(r.class>>8), byte(r.class))
	w.plain = len(w.to) - w.base
	w.fill()
	authority := 0
	if p.soa != nil && w.room(len(p.soa)) {
		w.to = append(w.to, p.soa...)
		authority = 1
	}
	w.additional()
	if r.edns {
		w.to = r.appendOPT(w.to, p.rcode, 0)
		w.extras++
	}
	flags := flagQR | flagAA | r.flags&(flagRD|flagCD) | uint16(p.rcode)
	if w.tc && (!c.Strict || c.EnableTruncate) {
		flags |= flagTC
	}
	if len(c.Recursors) > 0 {
		flags |= flagRA
	}
	h := w.to[w.base:]
	for i, v := range []uint16{r.id, flags, 1, uint16(w.answers), uint16(authority), uint16(w.extras)} {
		binary.BigEndian.PutUint16(h[2*i:], v)
	}
	return w.to
}

// fill chooses records and writes them, as many as there is room for.
func (w *writer) fill() {
	total := len(w.records)
	if w.most > 0 { // whoever set this wants no more, by any transport
		total = min(total, w.most)
	}
	count := min(total, w.c.count(w.r))
	w.begin(len(w.targets))
	switch {
	case w.weights == nil:
	case w.even || w.c.Strict:
		w.order.even(len(w.weights))
	default:
		w.order.weighted(w.weights)
	}
	if w.c.Strict {
		for i := range w.records {
			w.plain += w.cost(&w.records[i])
		}
		w.lean = total > count || w.plain > w.limit
		w.plain = len(w.to) - w.base
	}
	for w.answers < count {
		i := w.answers
		if w.weights != nil {
			i = w.order.next()
		}
		if !w.record(&w.records[i]) {
			break
		}
	}
	w.tc = w.tc || w.answers < total
}

// count is the most records that a request may have, by number.
func (c *Config) count(r *request) int {
	limit := c.UDPAnswerLimit
	if c.Strict {
		if limit <= 0 {
			limit = strictLimit
		}
		limit = min(limit, 8)
	}
	if limit <= 0 || !r.udp || r.size > plainUDP {
		return mostTCP
	}
	return limit
}

// record writes one, if there is room.
func (w *writer) record(rec *record) bool {
	size := len(rec.body) + w.owner(len(w.r.name))
	if w.c.Strict && !w.fits(rec) || !w.room(size) {
		return false
	}
	w.name(w.r.name, headerSize)
	if t := rec.target; t >= 0 {
		if w.at(t) == 0 {
			w.marks[t] = mark{w.round, uint32(len(w.to) - w.base + srvTargetAt)}
		}
		w.chosen = append(w.chosen, t)
	}
	w.to = append(w.to, rec.body...)
	w.answers++
	return true
}

// fits holds the message to its limit with what belongs to the record, and over UDP
// without EDNS uncompressed, as Consul does. The first always fits.
func (w *writer) fits(rec *record) bool {
	w.plain += w.cost(rec)
	return w.answers == 0 || w.plain <= w.limit
}

// cost is a record's size with what belongs to it, as Consul counts it.
func (w *writer) cost(rec *record) int {
	owner := func(name []byte) int {
		if w.r.size > plainUDP {
			return pointerSize
		}
		return len(name)
	}
	size := owner(w.r.name) + len(rec.body)
	if rec.target < 0 {
		return size
	}
	t := &w.targets[rec.target]
	for _, b := range t.addresses {
		size += owner(t.name) + len(b)
	}
	if w.at(rec.target) == 0 && !w.lean {
		for _, b := range t.texts {
			size += owner(t.name) + len(b)
		}
	}
	return size
}

// additional writes what the chosen records' targets are, and what there is beside, as
// much as there is room for: addresses first, one for each record.
func (w *writer) additional() {
	for _, t := range w.chosen {
		for _, b := range w.targets[t].addresses {
			w.extra(w.targets[t].name, w.at(t), b)
		}
	}
	for _, t := range w.chosen {
		if len(w.targets[t].texts) == 0 || w.lean || w.at(t) == 0 {
			continue
		}
		for _, b := range w.targets[t].texts {
			w.extra(w.targets[t].name, w.at(t), b)
		}
		w.marks[t] = mark{} // told
	}
	for _, b := range w.free {
		w.extra(w.r.name, headerSize, b)
	}
}

func (w *writer) extra(name []byte, at int, body []byte) {
	size := len(body) + w.owner(len(name))
	if at > mostPointed {
		size = len(body) + len(name)
	}
	if !w.room(size) {
		return
	}
	w.name(name, at)
	w.to = append(w.to, body...)
	w.extras++
}

// owner is the size of a record's name that was written out before.
func (w *writer) owner(full int) int {
	if w.c.NoCompression {
		return full
	}
	return pointerSize
}

// name writes a name that stands at an offset, as a pointer where that is possible.
func (w *writer) name(full []byte, at int) {
	if w.c.NoCompression || at > mostPointed {
		w.to = append(w.to, full...)
		return
	}
	w.to = append(w.to, 0xc0|byte(at>>8), byte(at))
}

// room reports whether size bytes more are within the limit.
func (w *writer) room(size int) bool { return len(w.to)-w.base+size <= w.limit }
