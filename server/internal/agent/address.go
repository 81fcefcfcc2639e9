package agent

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"syscall"

	"github.com/hashicorp/go-sockaddr/template"

	"github.com/rollcall/rollcall/server/internal/config"
)

// addresses are where this agent listens and is reached.
type addresses struct {
	bind             string   // IP for cluster traffic; may be unspecified
	advertise        string   // IP that others reach us at
	wan              string   // the same for other datacenters
	serf, serfWAN    string   // IPs for gossip
	http, https, dns []string // IPs or, but for DNS, unix://PATH
}

// resolve turns the configuration's addresses and templates into IPs.
func resolve(cfg *config.Config, log *slog.Logger) (addresses, error) {
	var a addresses
	var err error
	if cfg.BindInterface != "" {
		a.bind, err = addressOf(cfg.BindInterface)
	} else {
		a.bind, err = single("bind_addr", cfg.BindAddr)
	}
	if err != nil {
		return a, err
	}
	if a.advertise, err = single("advertise_addr", cfg.AdvertiseAddr); err != nil {
		return a, err
	}
	if a.advertise == "" {
		if a.advertise, err = reachable(a.bind, log); err != nil {
			return a, err
		}
	}
	for _, f := range []struct {
		to                 *string
		key, text, instead string
	}{
		{&a.wan, "advertise_addr_wan", cfg.AdvertiseWAN, a.advertise},
		{&a.serf, "serf_lan", cfg.SerfLAN, a.bind},
		{&a.serfWAN, "serf_wan", cfg.SerfWAN, a.bind},
	} {
		if *f.to, err = single(f.key, f.text); err != nil {
			return a, err
		}
		if *f.to == "" {
			*f.to = f.instead
		}
	}
	for key, ip := range map[string]string{"advertise_addr": a.advertise, "advertise_addr_wan": a.wan} {
		if ip := net.ParseIP(ip); ip == nil || ip.IsUnspecified() {
			return a, fmt.Errorf("%s %q: others cannot reach that; give one address of this host (-advertise)", key, ip)
		}
	}
	for _, f := range []struct {
		to        *[]string
		key, text string
	}{
		{&a.http, "addresses.http", cfg.Addresses.HTTP}, {&a.https, "addresses.https", cfg.Addresses.HTTPS}, {&a.dns, "addresses.dns", cfg.Addresses.DNS},
	} {
		if f.text == "" {
			f.key, f.text = "client_addr", cfg.ClientAddr
		}
		if *f.to, err = several(f.key, f.text); err != nil {
			return a, err
		}
	}
	return a, nil
}

// addressOf gives the first address of a network interface, IPv4 before IPv6.
func addressOf(name string) (string, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		var names []string
		if all, err := net.Interfaces(); err == nil {
			for _, i := range all {
				names = append(names, i.Name)
			}
		}
		return "", fmt.Errorf("bind_interface %q: %w; this host has %s", name, err, strings.Join(names, ", "))
	}
	all, err := i.Addrs()
	if err != nil {
		return "", fmt.Errorf("bind_interface %q: %w", name, err)
	}
	six := ""
	for _, a := range all {
		n, ok := a.(*net.IPNet)
		switch {
		case !ok || n.IP.IsLinkLocalUnicast():
		case n.IP.To4() != nil:
			return n.IP.String(), nil
		case six == "":
			six = n.IP.String()
		}
	}
	if six == "" {
		return "", fmt.Errorf("bind_interface %q has no address yet", name)
	}
	return six, nil
}

// several expands a template and gives its addresses, which spaces separate.
func several(key, text string) ([]string, error) {
	out := text
	if strings.Contains(text, "{{") { // or all interfaces would be listed for nothing
		var err error
		if out, err = template.Parse(text); err != nil {
			return nil, fmt.Errorf("%s %q: %w", key, text, err)
		}
	}
	var addrs []string
	for _, f := range strings.Fields(out) {
		if strings.HasPrefix(f, "unix://") {
			addrs = append(addrs, f)
			continue
		}
		ip, err := netip.ParseAddr(strings.Trim(f, "[]"))
		if err != nil {
			return nil, fmt.Errorf("%s %q: %q is not an IP address", key, text, f)
		}
		addrs = append(addrs, ip.String())
	}
	if len(addrs) == 0 && text != "" {
		return nil, fmt.Errorf("%s %q names no address of this host", key, text)
	}
	return addrs, nil
}

func single(key, text string) (string, error) {
	addrs, err := several(key, text)
	if err != nil {
		return "", err
	}
	switch {
	case len(addrs) == 0:
		return "", nil
	case len(addrs) > 1 || strings.HasPrefix(addrs[0], "unix:"):
		return "", fmt.Errorf("%s %q: give one IP address, not %s", key, text, strings.Join(addrs, " "))
	}
	return addrs[0], nil
}

// reachable chooses what to advertise for a bind address: itself, or where that is
// every address, the private one of the default route, or a public one.
func reachable(bind string, log *slog.Logger) (string, error) {
	if ip := net.ParseIP(bind); ip != nil && !ip.IsUnspecified() {
		return bind, nil
	}
	private, err := several("bind_addr", "{{ GetPrivateIP }}")
	if err == nil && len(private) == 1 {
		if all, err := template.Parse(`{{ GetPrivateInterfaces | include "type" "IPv4" | join "address" " " }}`); err == nil && len(strings.Fields(all)) > 1 {
			log.Warn("this host has several private addresses; the default route's is advertised (-advertise chooses)",
				"addr", private[0], "all", all)
		}
		return private[0], nil
	}
	for _, t := range []string{"{{ GetPublicIP }}", `{{ GetAllInterfaces | include "type" "IPv4" | exclude "flags" "loopback" | limit 1 | join "address" " " }}`} {
		if addr, err := several("bind_addr", t); err == nil && len(addr) == 1 {
			return addr[0], nil
		}
	}
	return "", errors.New("no address to advertise was found on this host: give one (-advertise=IP), or -bind=127.0.0.1 to stay alone")
}

// listenTCP opens an IP's port with an error that says what to do.
func listenTCP(key, flag, addr string, port int) (net.Listener, error) {
	at := net.JoinHostPort(addr, strconv.Itoa(port))
	l, err := net.Listen("tcp", at)
	return l, explain(err, key, flag, at)
}

// explain says which setting a listen error is about, and the way out.
func explain(err error, key, flag, at string) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("%s: %s is in use by another process: stop that one, or choose another port (%s)", key, at, flag)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("%s: %s is not an address of this host", key, at)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("%s: no right to listen on %s: choose a port above 1023 (%s), or run as root", key, at, flag)
	}
	return fmt.Errorf("%s: listen on %s: %w", key, at, err)
}
