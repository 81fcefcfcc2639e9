package ui

import (
	"fmt"
	"math"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/a-h/templ"

	"github.com/rollcall/rollcall/internal/api"
)

// values are a link's parameters.
type values map[string][]string

func (v values) add(key, value string) { v[key] = append(v[key], value) }

// link gives the address of a page below the UI's path.
func (r *request) link(path string, q values) string {
	if len(q) == 0 {
		return r.ui.cfg.Path + path
	}
	return r.ui.cfg.Path + path + "?" + url.Values(q).Encode()
}

// to is link for templates: pairs are names and values in turn.
func (r *request) to(path string, pairs ...string) templ.SafeURL {
	q := values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			q.add(pairs[i], pairs[i+1])
		}
	}
	return templ.SafeURL(r.link(path, q))
}

// with is a link to the present page with one parameter changed.
func (r *request) with(path, key, value string) templ.SafeURL {
	q := values{}
	for k, v := range r.URL.Query() {
		if k != key && k != "page" {
			q[k] = v
		}
	}
	if value != "" {
		q.add(key, value)
	}
	return templ.SafeURL(r.link(path, q))
}

func (r *request) toInstance(node, id string) templ.SafeURL {
	return r.to("instance", "node", node, "id", id)
}

// join writes host and port, the port left out where there is none.
func join(host string, port int) string {
	if port == 0 {
		return host
	}
	return net.JoinHostPort(host, strconv.Itoa(port))
}

// inOne is the class of an address that stays in one piece: any of IP with a port does, a
// name if it is no longer than that.
func inOne(address string) string {
	switch {
	case len(address) <= len("255.255.255.255:65535"):
		return "at"
	case len(address) <= len("[2001:db8:1111:2222:3333:4444:5555:6666]:65535"):
		return "at long"
	}
	return ""
}

// clip shortens text to at most n characters.
func clip(s string, n int) string {
	if utf8.RuneCountInString(s) <= n {
		return s
	}
	return string([]rune(s)[:n-1]) + "…"
}

// clock is a time of day with a machine's offset; the script makes it the viewer's.
func clock(t time.Time) string { return t.Format("15:04:05") }

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }

// ago says how long something is past, in the largest unit that fits.
func ago(d time.Duration) string {
	switch {
	case d < time.Second:
		return "now"
	case d < time.Minute:
		return fmt.Sprintf("%d s", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

// span writes a short duration with three digits at most.
func span(d time.Duration) string {
	switch {
	case d < 0:
		return "0 ms"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1f ms", float64(d)/1e6)
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	case d < 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	}
	return ago(d)
}

// many writes a number with its noun, thousands set apart.
func many(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	switch {
	case strings.HasSuffix(one, "y") && !strings.HasSuffix(one, "ey"):
		one = one[:len(one)-1] + "ies"
	default:
		one += "s"
	}
	return number(n) + " " + one
}

// number sets thousands apart by narrow spaces.
func number(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "\u202f" + s[i:]
	}
	return s
}

// size writes a number of bytes.
func size(n int) string {
	if n < 1024 {
		return strconv.Itoa(n) + " B"
	}
	exp := min(int(math.Log2(float64(n))/10), 4)
	return fmt.Sprintf("%.1f %ciB", float64(n)/math.Pow(1024, float64(exp)), " KMGT"[exp])
}

// word is a status as it is read.
func word(status string) string {
	if status == maintenance {
		return "in maintenance"
	}
	return status
}

// sign says a status where colour alone would not do.
func sign(status string) string {
	switch status {
	case api.Critical:
		return "!"
	case api.Warning:
		return "~"
	case maintenance:
		return "‖"
	}
	return ""
}

// short is the beginning of a long id.
func short(id string) string {
	if len(id) > 8 {
		return id[:8]
	}
	return id
}

// keyPath writes a key for an address: slashes stay.
func keyPath(key string) string {
	parts := strings.Split(key, "/")
	for i, p := range parts {
		parts[i] = url.PathEscape(p)
	}
	return strings.Join(parts, "/")
}
