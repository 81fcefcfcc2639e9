package checks

import "github.com/rollcall/rollcall/internal/api"

// threshold turns single results into a status: only as many successes, or failures, in
// a row as the definition asks for change it.
type threshold struct {
	def             *api.CheckDefinition
	status          string
	passes, failing int
}

// take counts a result and gives the status there is now. What is short of a threshold
// changes nothing; settled says whether the result's output belongs to the status.
func (t *threshold) take(result string) (status string, settled bool) {
	if result != api.Critical {
		t.failing = 0
		t.passes++
		if t.passes >= t.def.SuccessBeforePassing || t.status == result {
			t.status = result
			return t.status, true
		}
		return t.status, false
	}
	t.passes = 0
	t.failing++
	warn := t.def.FailuresBeforeWarning
	if warn == 0 {
		warn = t.def.FailuresBeforeCritical
	}
	switch {
	case t.failing >= t.def.FailuresBeforeCritical || t.status == api.Critical:
		t.status = api.Critical
	case t.failing >= warn:
		t.status = api.Warning
	default:
		return t.status, false
	}
	return t.status, true
}
