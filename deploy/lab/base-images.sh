#!/bin/bash
# base-images.sh: stand-ins for public base images, for a machine whose
# Docker engine has no registry. Uses apt-get download, dpkg-deb, docker import
# and the machine's own Go toolchain. A machine with Docker Hub never needs it:
# it makes an image only where the tag is missing (FORCE=1 makes it again).
#
#   base-images.sh nginx      nginx:1.22-lab   (scratch + .debs + busybox)
#   base-images.sh golang     golang:1.26-lab  (scratch + .debs + GOROOT)
#   base-images.sh engine     docker:28-dind-lab   (minbase with a Docker engine, ~2 min)
#   base-images.sh debian     debian:bookworm-slim-lab (minbase, ~1 min)
#
# DOCKER_HOST is honoured; LABEL adds a label (owner=lab); TAG overrides a tag.
set -euo pipefail
LABEL=${LABEL:-owner=lab}
CACHE=${CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/lab-debs}
SUITE=${SUITE:-bookworm}
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT

have() { [ -z "${FORCE:-}" ] && docker image inspect "$1" >/dev/null 2>&1; }

# unpack PKG...: the .debs' files only (no maintainer scripts), into $work/root
unpack() {
    mkdir -p "$CACHE" "$work/root"
    local p f
    for p in "$@"; do
        f=$(ls "$CACHE/${p}_"*.deb 2>/dev/null | tail -1 || true)
        if [ -z "$f" ]; then
            (cd "$CACHE" && apt-get download -qq "$p" 2>/dev/null)
            f=$(ls "$CACHE/${p}_"*.deb | tail -1)
        fi
        dpkg-deb -x "$f" "$work/root"
    done
}

# base: passwd, group, tmp, busybox applets where no package brought the name
base() {
    local r=$work/root a
    mkdir -p "$r"/{etc,tmp,run,root,proc,sys,dev,bin,usr/bin,var/run}
    chmod 1777 "$r/tmp"
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'www-data:x:33:33::/var/www:/usr/sbin/nologin' \
        'nginx:x:101:101::/nonexistent:/usr/sbin/nologin' 'nobody:x:65534:65534::/nonexistent:/usr/sbin/nologin' >"$r/etc/passwd"
    printf '%s\n' 'root:x:0:' 'www-data:x:33:' 'nginx:x:101:' 'nogroup:x:65534:' >"$r/etc/group"
    printf '%s\n' 'hosts: files dns' >"$r/etc/nsswitch.conf"
    for a in $("$r/bin/busybox" --list); do
        [ -e "$r/bin/$a" ] || [ -e "$r/usr/bin/$a" ] || [ -e "$r/usr/sbin/$a" ] || ln -s busybox "$r/bin/$a"
    done
    # nothing of the docs belongs in a test image
    rm -rf "$r"/usr/share/{doc,man,locale,lintian,bash-completion,vim} "$r"/lib/systemd
}

imp() { # imp TAG CHANGE...
    local tag=$1 args=() c; shift
    if [[ " $*" == *STOPSIGNAL* ]]; then # import does not take it, a build does
        mkdir "$work/ctx"
        tar -C "$work/root" --numeric-owner --owner=0 --group=0 -cf "$work/ctx/root.tar" .
        printf '%s\n' 'FROM scratch' 'ADD root.tar /' "LABEL $LABEL" "$@" >"$work/ctx/Dockerfile"
        DOCKER_BUILDKIT=0 docker build -q -t "$tag" "$work/ctx" >/dev/null 2>&1
    else
        for c in "$@"; do args+=(-c "$c"); done
        tar -C "$work/root" --numeric-owner --owner=0 --group=0 -c . |
            docker import -c "LABEL $LABEL" "${args[@]}" - "$tag" >/dev/null
    fi
    docker image inspect -f "$tag {{.Size}} bytes" "$tag"
}

nginx() {
    local tag=${TAG:-nginx:1.22-lab} r=$work/root
    have "$tag" && return
    unpack libc6 libcrypt1 libpcre2-8-0 libssl3 zlib1g busybox-static nginx nginx-common
    base
    rm -rf "$r"/etc/nginx/{sites-available,sites-enabled,modules-enabled,snippets} \
        "$r"/usr/lib/x86_64-linux-gnu/{gconv,engines-3,ossl-modules} "$r"/var/www
    # the same shape as the public nginx image: conf.d, log links, user nginx
    mkdir -p "$r"/etc/nginx/conf.d "$r"/var/log/nginx "$r"/var/cache/nginx "$r"/var/lib/nginx "$r"/usr/share/nginx/html
    ln -sf /dev/stdout "$r/var/log/nginx/access.log"
    ln -sf /dev/stderr "$r/var/log/nginx/error.log"
    [ -e "$r/usr/share/nginx/html/index.html" ] || echo 'Welcome to nginx!' >"$r/usr/share/nginx/html/index.html"
    cat >"$r/etc/nginx/nginx.conf" <<'CONF'
user nginx;
worker_processes auto;
error_log /var/log/nginx/error.log notice;
pid /var/run/nginx.pid;
events { worker_connections 1024; }
http {
    include /etc/nginx/mime.types;
    default_type application/octet-stream;
    access_log /var/log/nginx/access.log;
    sendfile on;
    keepalive_timeout 65;
    include /etc/nginx/conf.d/*.conf;
}
CONF
    cat >"$r/etc/nginx/conf.d/default.conf" <<'CONF'
server {
    listen 80;
    server_name localhost;
    location / { root /usr/share/nginx/html; index index.html; }
}
CONF
    imp "$tag" 'ENV PATH=/usr/sbin:/usr/bin:/sbin:/bin' 'EXPOSE 80' 'STOPSIGNAL SIGQUIT' 'CMD ["nginx","-g","daemon off;"]'
}

golang() {
    local tag=${TAG:-golang:1.26-lab} r=$work/root ca
    have "$tag" && return
    unpack libc6 busybox-static git ca-certificates zlib1g libpcre2-8-0
    base
    mkdir -p "$r/usr/local" "$r/go" "$r/etc/ssl/certs"
    cp -a "$(go env GOROOT)" "$r/usr/local/go"
    rm -rf "$r"/usr/local/go/{test,doc,api,misc}
    # trust what the machine trusts: the machine's own bundle
    ca=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
    cp -L "$ca" "$r/etc/ssl/certs/ca-certificates.crt"
    imp "$tag" 'ENV PATH=/go/bin:/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin' 'ENV GOPATH=/go' \
        'ENV GOTOOLCHAIN=local' 'ENV CGO_ENABLED=0' 'WORKDIR /go'
}

debian() {
    local tag=${TAG:-debian:bookworm-slim-lab} r=$work/root
    have "$tag" && return
    # the machine's own sources, so that apt works inside too
    local uri; uri=${MIRROR:-$(awk '/^URIs/{print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null)}
    if command -v mmdebstrap >/dev/null; then
        mmdebstrap --quiet --variant=minbase --mode=root \
            --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
            --dpkgopt='path-exclude=/usr/share/man/*' "$SUITE" "$work/r.tar" ${uri:+"$uri"}
    else
        debootstrap --variant=minbase "$SUITE" "$r" ${uri:+"$uri"} >/dev/null
        rm -rf "$r"/var/cache/apt/archives/*.deb "$r"/var/lib/apt/lists/* "$r"/usr/share/{doc,man,locale}
        tar -C "$r" -cf "$work/r.tar" .
    fi
    docker import -c "LABEL $LABEL" -c 'CMD ["bash"]' "$work/r.tar" "$tag" >/dev/null
    docker image inspect -f "$tag {{.Size}} bytes" "$tag"
}

# a Docker engine in a container, for two-engines.sh
engine() {
    local tag=${TAG:-docker:28-dind-lab} uri
    have "$tag" && return
    command -v mmdebstrap >/dev/null || { apt-get update -qq; apt-get install -y -qq --no-install-recommends mmdebstrap >/dev/null; }
    uri=${MIRROR:-$(awk '/^URIs/{print $2; exit}' /etc/apt/sources.list.d/debian.sources 2>/dev/null)}
    mmdebstrap --quiet --variant=minbase --mode=root --include=docker.io,iptables,ca-certificates \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' "$SUITE" "$work/r.tar" ${uri:+"$uri"}
    docker import -c "LABEL $LABEL" -c 'CMD ["dockerd"]' "$work/r.tar" "$tag" >/dev/null
    docker image inspect -f "$tag {{.Size}} bytes" "$tag"
}

for t in "${@:-nginx}"; do rm -rf "$work"/*; "$t"; done
