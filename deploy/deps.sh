#!/bin/bash
# Installs what building and testing need and this machine lacks, and says what. On
# Debian and its kin, as root, with apt-get; elsewhere it names what is missing.
#   deps.sh run     Docker engine, Compose            (make up)
#   deps.sh test    that, Go, nginx, a C compiler, …   (make test)
#   deps.sh bench   etcd, to compare with              (make bench)
#   deps.sh neighbours   Patroni and PostgreSQL        (make neighbours)
set -euo pipefail
cd "$(dirname "$0")/.."
want=${1:-test}

missing=() # Debian packages
need() { # need COMMAND PACKAGE
    command -v "$1" >/dev/null 2>&1 || PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null 2>&1 || missing+=("$2")
}
compose() { docker compose version >/dev/null 2>&1 || docker-compose version >/dev/null 2>&1; }

need docker docker.io
compose || missing+=(docker-compose)
need curl curl
if [ "$want" = bench ]; then
    need etcd etcd-server
fi
if [ "$want" = neighbours ]; then
    need patroni patroni
    [ -e /usr/share/doc/python3-consul ] || missing+=(python3-consul) # Patroni's way to us
    need psql postgresql
fi
if [ "$want" = test ]; then
    need gcc gcc          # the race detector
    need git git
    need ip iproute2
    need iptables iptables
    need nsenter util-linux
    need script bsdutils
    need nginx nginx-light
    need dnsmasq dnsmasq-base # resolvers and a balancer that find services by DNS
    need unbound unbound
    need haproxy haproxy
    need dig bind9-dnsutils
    need systemd-analyze systemd
    need chromium chromium    # drives the page
    [ -e /usr/share/fonts/opentype/inter ] || missing+=(fonts-inter) # what screenshots are set in
    need zsh zsh # shells that complete command lines
    need fish fish
    need podman podman # engines that are not Docker's, or not root's
    need rootlesskit rootlesskit
    need slirp4netns slirp4netns
    need newuidmap uidmap
fi
go_version() { go version 2>/dev/null | sed -n 's/^go version go\([0-9]*\.[0-9]*\).*/\1/p'; }
new_enough() { local v; v=$(go_version); [ -n "$v" ] && [ "$(printf '%s\n' 1.21 "$v" | sort -V | head -1)" = 1.21 ]; }
new_enough || missing+=(golang-go ca-certificates)

if [ ${#missing[@]} -gt 0 ]; then
    if ! command -v apt-get >/dev/null || [ "$(id -u)" != 0 ]; then
        echo "missing here: ${missing[*]} (names of Debian packages)." >&2
        echo "Install them with your system's package manager, or run this as root on Debian." >&2
        exit 1
    fi
    echo "installing: ${missing[*]}"
    export DEBIAN_FRONTEND=noninteractive
    # a package must not start its service: the tests run their own
    policy=/usr/sbin/policy-rc.d
    if printf '%s\n' "${missing[@]}" | grep -qxE 'nginx-light|unbound|haproxy|etcd-server|podman|patroni|postgresql' && [ ! -e $policy ]; then
        printf '#!/bin/sh\nexit 101\n' >$policy && chmod +x $policy
        trap 'rm -f '$policy EXIT
    fi
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

# Debian's Go may be older than ours and too old to fetch it by itself: the toolchain is
# a Go module, so even an old Go can download it. Its files come without the x bit.
if ! new_enough; then
    wanted=$(sed -n 's/^go \(.*\)/\1/p' go.mod)
    echo "installing: Go $wanted, as a module"
    dir=$(cd /tmp && GOFLAGS=-mod=mod go mod download -json "golang.org/toolchain@v0.0.1-go$wanted.linux-$(dpkg --print-architecture)" |
        sed -n 's/^\t"Dir": "\(.*\)",*$/\1/p')
    chmod -R u+x "$dir/bin" "$dir/pkg/tool"
    mkdir -p .cache && ln -sfn "$dir" .cache/go
    echo "Go is at .cache/go/bin; the Makefile finds it there"
fi

if ! docker version >/dev/null 2>&1; then
    if [ "$(id -u)" = 0 ] && command -v service >/dev/null; then service docker start >/dev/null 2>&1 || true; fi
    for _ in $(seq 50); do docker version >/dev/null 2>&1 && break; sleep 0.2; done
    docker version >/dev/null 2>&1 || { echo "no Docker engine answers: start it (systemctl start docker), or let this user reach its socket" >&2; exit 1; }
fi
