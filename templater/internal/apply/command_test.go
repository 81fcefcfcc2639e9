package apply

import "testing"

// TestFault: of what nginx says of a fault, only that is left; what is not nginx's stays.
func TestFault(t *testing.T) {
	const want = `/usr/sbin/nginx -t: [emerg] unknown directive "upstraem" in /etc/nginx/conf.d/2026.conf:1`
	for said, want := range map[string]string{
		`/usr/sbin/nginx -t -q -c /etc/nginx/nginx.conf: exit status 1: 2026/11/26 09:34:25 [emerg] 22207#22207: unknown directive "upstraem" in /etc/nginx/conf.d/2026.conf:1 / nginx: configuration file /etc/nginx/nginx.conf test failed`: want,
		`/usr/sbin/nginx -t -q -c /etc/nginx/nginx.conf: exit status 1: 2026/11/26 23:00:01 [emerg] 7#7: unknown directive "upstraem" in /etc/nginx/conf.d/2026.conf:1 / nginx: configuration file /etc/nginx/nginx.conf test failed`:         want,
		`nginx -t -q -c /n.conf: exit status 1: 2026/11/26 09:34:25 [warn] 1#1: one / 2026/11/26 09:34:25 [emerg] 1#1: two`:                                                                                                                   `nginx -t: [warn] one / [emerg] two`,
		`nginx -t -q -c /n.conf: exec: "nginx": executable file not found in $PATH`:                                                                                                                                                           `nginx -t -q -c /n.conf: exec: "nginx": executable file not found in $PATH`,
		`nginx -t -q -c /n.conf: no end after 30s`: `nginx -t -q -c /n.conf: no end after 30s`,
	} {
		if got := fault(said); got != want {
			t.Errorf("%s\nleaves %s\nwant   %s", said, got, want)
		}
	}
}
