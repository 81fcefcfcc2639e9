#!/bin/bash
# Brings the two-host lab up: up.sh          (make up)
#                             up.sh down     (make down)
# Builds what is missing, starts it, waits until nginx serves, says what to look at.
set -euo pipefail
cd "$(dirname "$0")/../.."
compose() { if docker compose version >/dev/null 2>&1; then docker compose "$@"; else docker-compose "$@"; fi; }
port() { sed -n "s/^$1=//p" .env 2>/dev/null | tail -1; }

if [ "${1:-up}" = down ]; then
    compose down --volumes --remove-orphans --timeout 5
    rm -f .env
    exit 0
fi

# Public base images where a registry answers, stand-ins made from Debian packages where
# none does. What was chosen stands in .env, so that plain compose commands agree.
: "${NGINX_IMAGE:=nginx:1.28}" "${GO_IMAGE:=golang:1.26-bookworm}"
have() { docker image inspect "$1" >/dev/null 2>&1; }
if ! have "$NGINX_IMAGE" || ! have "$GO_IMAGE"; then
    echo "==> base images: pulling $NGINX_IMAGE and $GO_IMAGE"
    if ! timeout 600 docker pull -q "$NGINX_IMAGE" >/dev/null 2>&1 || ! timeout 600 docker pull -q "$GO_IMAGE" >/dev/null 2>&1; then
        echo "==> no registry answers: making stand-ins from this machine's packages"
        deploy/lab/base-images.sh nginx golang
        NGINX_IMAGE=nginx:1.22-lab GO_IMAGE=golang:1.26-lab
    fi
fi
cat >.env <<EOF
COMPOSE_PROJECT_NAME=${COMPOSE_PROJECT_NAME:-rollcall}
NGINX_IMAGE=$NGINX_IMAGE
GO_IMAGE=$GO_IMAGE
NGINX_PORT=${NGINX_PORT:-8080}
ROLLCALL_HTTP_PORT=${ROLLCALL_HTTP_PORT:-8500}
ROLLCALL_DNS_PORT=${ROLLCALL_DNS_PORT:-8600}
REGISTRATOR_PORT=${REGISTRATOR_PORT:-9107}
TEMPLATER_PORT=${TEMPLATER_PORT:-8910}
DOCKER_GID=${DOCKER_GID:-$(stat -Lc %g /var/run/docker.sock 2>/dev/null || echo 0)}
EOF

echo "==> images: building (the first time takes a few minutes)"
compose build
echo "==> starting"
compose up -d
url=http://127.0.0.1:$(port NGINX_PORT)
printf '==> waiting for %s to be answered by a container ' "$url"
for _ in $(seq 240); do
    if page=$(curl -fsS --max-time 2 "$url/" 2>/dev/null) && [[ $page == hello* ]]; then
        printf '\n\n%s answers: %s\n' "$url" "$page"
        http=http://127.0.0.1:$(port ROLLCALL_HTTP_PORT)
        cmd=$(docker compose version >/dev/null 2>&1 && echo "docker compose" || echo docker-compose)
        cat <<EOF

Look at:
  $url/                                  a page, from one of the web containers
  $http/v1/catalog/services         what is registered
  $http/v1/health/service/web       the instances and their health
  http://127.0.0.1:$(port REGISTRATOR_PORT)/containers              why each container is registered, or not
  http://127.0.0.1:$(port TEMPLATER_PORT)/status                  what nginx was given, and when
Try:
  $cmd up -d --scale web=5     and reload the page: nginx follows by itself
  $cmd exec server /bin/rollcall members
  make down                              removes all of it
EOF
        exit 0
    fi
    printf .
    sleep 0.5
done
printf '\nnginx does not serve a container after two minutes. The last lines of each part:\n' >&2
compose ps >&2
compose logs --tail 15 >&2
exit 1
