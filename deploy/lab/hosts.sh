#!/bin/bash
# hosts.sh: real further Docker hosts on one machine. Each is a dockerd
# in its own network namespace, with its own data-root, socket, bridge, iptables.
# All hang on one bridge (a "LAN") that only this machine sees.
#
#   hosts.sh up NAME N      host NAME at $NET.N   (N 2..250)
#   hosts.sh plain NAME N   one without an engine
#   hosts.sh sock NAME      prints the DOCKER_HOST value
#   hosts.sh exec NAME CMD  runs CMD in the host's network namespace
#   hosts.sh kill NAME      SIGKILL dockerd (a crash); start NAME after
#   hosts.sh start NAME     starts dockerd again on the same data
#   hosts.sh load NAME IMG  copies an image from the machine's engine
#   hosts.sh down NAME      stops it, its containers, and removes all
#   hosts.sh lan            makes the LAN bridge, with this machine at $NET.1
#   hosts.sh lan-down       removes the LAN bridge
set -euo pipefail
BASE=${LAB_BASE:-/tmp/lab-hosts}
NET=${LAB_NET:-10.213.0}
BR=${LAB_BR:-labbr0}
DRIVER=${LAB_DRIVER:-overlay2}
[ "$(id -u)" = 0 ] || { echo "needs root" >&2; exit 1; }

lan() {
    ip link show "$BR" >/dev/null 2>&1 && return
    ip link add "$BR" type bridge
    ip addr add "$NET.1/24" dev "$BR"
    ip link set "$BR" up
    # a machine whose dockerd set FORWARD to DROP also filters bridged frames
    # when br_netfilter is on: allow our own bridge to talk to itself
    iptables -I FORWARD -i "$BR" -o "$BR" -j ACCEPT
}
start() {
    local d=$BASE/$1 i
    # nsenter, not `ip netns exec`: the latter mounts a fresh /sys, which hides
    # the cgroup v1 mounts ("Devices cgroup isn't mounted")
    nsenter --net="/run/netns/$1" setsid dockerd \
        --data-root "$d/data" --exec-root "$d/exec" --pidfile "$d/pid" \
        --host "unix://$d/docker.sock" ${LAB_TCP:+--host "tcp://$(cat "$d/addr"):2375"} \
        --storage-driver "$DRIVER" --config-file "$d/daemon.json" \
        --cgroup-parent "/lab-$1" >"$d/log" 2>&1 </dev/null &
    local pid=$!
    for i in $(seq 300); do
        DOCKER_HOST=unix://$d/docker.sock docker version >/dev/null 2>&1 && return
        kill -0 "$pid" 2>/dev/null || break
        sleep 0.1
    done
    tail -20 "$d/log" >&2; return 1
}
plain() {
    local n=$1 k=$2 d=$BASE/$1
    lan; mkdir -p "$d"; echo '{}' >"$d/daemon.json"; echo "$NET.$k" >"$d/addr"
    ip netns add "$n"
    ip link add "v$n" type veth peer name eth0 netns "$n"
    ip link set "v$n" master "$BR" up
    ip -n "$n" link set lo up
    ip -n "$n" addr add "$NET.$k/24" dev eth0
    ip -n "$n" link set eth0 up
    ip -n "$n" route add default via "$NET.1"
}
stop() {
    local d=$BASE/$1 p i
    p=$(cat "$d/pid" 2>/dev/null || true)
    [ -n "$p" ] && kill -"${2:-TERM}" "$p" 2>/dev/null || true
    for i in $(seq 200); do [ -n "$p" ] && kill -0 "$p" 2>/dev/null || break; sleep 0.1; done
}
down() {
    local d=$BASE/$1 p
    DOCKER_HOST=unix://$d/docker.sock docker ps -aq 2>/dev/null |
        DOCKER_HOST=unix://$d/docker.sock xargs -r docker rm -f >/dev/null 2>&1 || true
    stop "$1"
    # what a killed dockerd left: its own containerd, by the pid file it wrote
    p=$(cat "$d/exec/containerd/containerd.pid" 2>/dev/null || true)
    [ -n "$p" ] && kill "$p" 2>/dev/null || true
    grep " $d/" /proc/mounts | awk '{print $2}' | sort -r | xargs -r umount -l 2>/dev/null || true
    ip netns del "$1" 2>/dev/null || true
    ip link del "v$1" 2>/dev/null || true
    rm -rf "$d"
}
case $1 in
up) plain "$2" "$3" && start "$2" ;;
plain) plain "$2" "$3" ;;
sock) echo "unix://$BASE/$2/docker.sock" ;;
exec) n=$2; shift 2; nsenter --net="/run/netns/$n" "$@" ;;
kill) stop "$2" KILL ;;
stop) stop "$2" ;;
start) start "$2" ;;
load) docker save "$3" | DOCKER_HOST=unix://$BASE/$2/docker.sock docker load -q ;;
down) down "$2" ;;
lan) lan ;;
lan-down) ip link del "$BR"; iptables -D FORWARD -i "$BR" -o "$BR" -j ACCEPT ;;
*) sed -n 2,17p "$0"; exit 2 ;;
esac
