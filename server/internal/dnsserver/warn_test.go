package dnsserver

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
)

// Who asks in vain a thousand times fills no log.
func TestWarnings(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		s := New(Config{Endpoint: world(), Datacenter: "dc1", Log: slog.New(slog.NewTextHandler(&out, nil))})
		ask := func() {
			if r := ask1(t, s, "broken.service.consul.", dns.TypeA, true, 0); r.Rcode != dns.RcodeServerFailure {
				t.Fatal(r)
			}
		}
		for range 500 {
			ask() // twice
		}
		time.Sleep(10 * time.Second)
		ask()
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 2 || !strings.Contains(lines[1], fmt.Sprint("spared=", 999)) {
			t.Errorf("%d lines in the log:\n%s", len(lines), out.String())
		}
	})
}
