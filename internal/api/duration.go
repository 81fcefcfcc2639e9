package api

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"
)

// Duration is a time.Duration that reads a Go duration string or a number of
// nanoseconds from JSON, and prints the string.
type Duration time.Duration

// String prints the duration as Go does ("10s").
func (d Duration) String() string { return time.Duration(d).String() }

// MarshalJSON prints the duration's string.
func (d Duration) MarshalJSON() ([]byte, error) { return json.Marshal(d.String()) }

// UnmarshalJSON accepts "10s", 10000000000 and "".
func (d *Duration) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	if len(b) > 0 && b[0] != '"' {
		n, err := strconv.ParseFloat(string(b), 64)
		if err != nil {
			return fmt.Errorf("invalid duration %s: want a string like \"10s\" or nanoseconds", b)
		}
		*d = Duration(n)
		return nil
	}
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	if s == "" {
		*d = 0
		return nil
	}
	v, err := time.ParseDuration(s)
	if err != nil {
		return fmt.Errorf("%w; want a string like \"10s\" or nanoseconds", err)
	}
	*d = Duration(v)
	return nil
}
