#!/bin/bash
# The literal two-host lab, two Docker engines in containers:
#   two-engines.sh        brings it up; the images come from `make up`, which must have run
#   two-engines.sh down   removes it with its data
# LAB_ENGINE_IMAGE (docker:28-dind), LAB_PRIVILEGED (true), LAB_NGINX_PORT (18080),
# LAB_HTTP_PORT (18500), LAB_SUBNET (10.214.0), ROLLCALL_TAG (lab), NGINX_IMAGE.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ -f .env ] && [ -z "${NGINX_IMAGE:-}" ]; then NGINX_IMAGE=$(sed -n 's/^NGINX_IMAGE=//p' .env); fi
: "${NGINX_IMAGE:=nginx:1.28}" "${ROLLCALL_TAG:=lab}" "${LAB_SUBNET:=10.214.0}" "${LAB_NGINX_PORT:=18080}"
files=(-f deploy/lab/two-engines.yml)
[ "${LAB_PRIVILEGED:-true}" = true ] || files+=(-f deploy/lab/two-engines.unprivileged.yml)
compose() {
    local c="docker-compose"
    if docker compose version >/dev/null 2>&1; then c="docker compose"; fi
    $c -p "${LAB_PROJECT:-rollcall-engines}" "${files[@]}" "$@"
}
if [ "${1:-up}" = down ]; then
    compose down --volumes --timeout 5
    exit 0
fi

# on HOST COMMAND…: runs a command in a host
on() { docker exec -i "$(compose ps -q "$1")" "${@:2}"; }

echo "==> two engines"
compose up -d
for host in server-host registrator-host; do
    for _ in $(seq 120); do on $host docker version >/dev/null 2>&1 && break; sleep 0.5; done
    on $host docker version >/dev/null || { compose logs --tail 20 $host >&2; exit 1; }
done
echo "==> images into them"
t=:$ROLLCALL_TAG
docker save rollcall/server$t rollcall/templater$t "$NGINX_IMAGE" | on server-host docker load -q
docker save rollcall/server$t rollcall/registrator$t rollcall/web$t | on registrator-host docker load -q

echo "==> the server host: server, nginx, templater"
on server-host sh -eu <<IN
docker run -d --name server --net=host --restart=always -v data:/data rollcall/server$t agent -server -bootstrap-expect=1 -ui \
    -data-dir=/data -node=server-host -datacenter=dc1 -bind=$LAB_SUBNET.2 -client=0.0.0.0
docker run -d --name nginx -p 80:80 --restart=always -v conf:/etc/nginx/conf.d $NGINX_IMAGE
docker run -d --name templater --pid=container:nginx --net=host --restart=always -v conf:/etc/nginx/conf.d rollcall/templater$t \
    -consul-addr=127.0.0.1:8500 -nginx -template=/etc/templater/templates/nginx.conf.ctmpl:/etc/nginx/conf.d/default.conf
IN
echo "==> the registrator host: agent, registrator, two web containers"
on registrator-host sh -eu <<IN
docker run -d --name agent --net=host --restart=always -v data:/data rollcall/server$t agent -data-dir=/data -node=registrator-host \
    -datacenter=dc1 -bind=$LAB_SUBNET.3 -retry-join=$LAB_SUBNET.2
docker run -d --name registrator --net=host --restart=always -v /var/run:/var/run \
    --group-add "\$(stat -Lc %g /var/run/docker.sock)" rollcall/registrator$t \
    -host=registrator-host -ip=$LAB_SUBNET.3 -explicit consul://127.0.0.1:8500
docker run -d -P --restart=always -e SERVICE_NAME=web rollcall/web$t
docker run -d -P --restart=always -e SERVICE_NAME=web rollcall/web$t
IN
url=http://127.0.0.1:$LAB_NGINX_PORT/
for _ in $(seq 120); do
    if page=$(curl -fsS --max-time 2 "$url" 2>/dev/null) && [[ $page == hello* ]]; then
        echo "$url answers: $page"
        echo "more:  docker exec \$(docker ps -qf name=registrator-host) docker run -d -P -e SERVICE_NAME=web rollcall/web$t"
        exit 0
    fi
    sleep 0.5
done
echo "nginx does not serve a container after a minute:" >&2
on server-host docker ps -a >&2
on server-host docker logs --tail 20 templater >&2 || true
on registrator-host docker ps -a >&2
on registrator-host docker logs --tail 20 registrator >&2 || true
exit 1
