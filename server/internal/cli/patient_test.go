package cli

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// slow answers after a while.
type slow time.Duration

func (s slow) RoundTrip(*http.Request) (*http.Response, error) {
	time.Sleep(time.Duration(s))
	return nil, errors.New("the end")
}

// A person who waits for a program that says nothing is told so, once.
func TestSilentPort(t *testing.T) {
	for _, tt := range []struct {
		url   string
		takes time.Duration
		want  int // lines
	}{
		{"http://h:1/v1/catalog/nodes", time.Hour, 1},
		{"http://h:1/v1/catalog/nodes", silence / 2, 0},
		{"http://h:1/v1/catalog/nodes?index=7", time.Hour, 0},
		{"http://h:1/v1/session/list?wait=10s", time.Hour, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			var said strings.Builder
			r, err := http.NewRequest("GET", tt.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := (patient{slow(tt.takes), &said}).RoundTrip(r); err == nil {
				t.Error("the transport's error is lost")
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			if got := strings.Count(said.String(), "no answer from h:1 yet"); got != tt.want {
				t.Errorf("%s after %s: said %q, want %d lines", tt.url, tt.takes, said.String(), tt.want)
			}
		})
	}
}
