#!/bin/bash
# consul.sh: the real Consul 1.8.7, to compare with. It comes as the package of Debian 11,
# is unpacked to .cache/consul-1.8.7 and installed nowhere. Prints the binary's path.
#   consul.sh [FILE]      elsewhere than .cache/consul-1.8.7
# Needs apt-get and the Debian mirror that this machine's own packages come from.
set -euo pipefail
cd "$(dirname "$0")/../.."
file=$(realpath -m "${1:-.cache/consul-1.8.7}")
if [ ! -x "$file" ]; then
    work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
    chmod 777 "$work" # apt downloads as a user of its own
    mkdir -p "$work/lists/partial" "$(dirname "$file")"
    field() { sed -n "s/^$1: *//p" /etc/apt/sources.list.d/debian.sources | head -1; }
    cat >"$work/debian11.sources" <<SOURCES
Types: deb
URIs: $(field URIs)
Suites: bullseye
Components: main
Signed-By: $(field Signed-By)
SOURCES
    # lists and sources of its own: those of the machine stay as they are
    from=(-qq -o Dir::Etc::SourceList="$work/debian11.sources" -o Dir::Etc::SourceParts=- -o Dir::State::Lists="$work/lists")
    apt-get "${from[@]}" update >&2
    (cd "$work" && apt-get "${from[@]}" download consul=1.8.7* >&2)
    dpkg-deb -x "$work"/consul_*.deb "$work/files"
    install -m 755 "$work/files/usr/bin/consul" "$file.$$" # whole at once: two may do this
    mv "$file.$$" "$file"
fi
[[ $("$file" version) == "Consul v1.8.7"* ]] || { echo "$file is not Consul 1.8.7" >&2; exit 1; }
echo "$file"
