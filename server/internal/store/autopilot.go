package store

import "github.com/rollcall/rollcall/internal/api"

// TopicAutopilot is the configuration of autopilot.
func TopicAutopilot() Topic { return Topic{kind: autopilotTopic} }

// Autopilot gives the configuration of autopilot, nil where none was ever written.
func (st *State) Autopilot() (*api.AutopilotConfig, Mark) {
	if st.pilot == nil {
		return nil, st.mark(0, 0)
	}
	return st.pilot, st.mark(st.pilot.ModifyIndex, st.pilot.ModifyIndex)
}

// SetAutopilot writes the configuration of autopilot; its indexes are the store's to
// set. With cas it reports whether the present one's ModifyIndex was that of c, where 0
// means that there is none.
func (t *Tx) SetAutopilot(c *api.AutopilotConfig, cas bool) bool {
	cur := t.st.pilot
	next := *c
	next.CreateIndex, next.ModifyIndex = t.index, t.index
	if cur == nil && cas && c.ModifyIndex != 0 || cur != nil && cas && c.ModifyIndex != cur.ModifyIndex {
		return false
	}
	if cur != nil {
		next.CreateIndex = cur.CreateIndex
		same := next
		same.ModifyIndex = cur.ModifyIndex
		if same == *cur {
			return true
		}
	}
	t.st.pilot = &next
	t.touch(TopicAutopilot())
	return true
}
