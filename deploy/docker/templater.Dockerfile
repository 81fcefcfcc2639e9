# The templater as nginx's neighbour: the nginx image, so that `nginx -t` is there, and the binary. The build stage is the same in every Dockerfile
# of this folder, so that an engine which built one finds it ready for the next.
ARG GO_IMAGE=golang:1.26-bookworm
ARG NGINX_IMAGE=nginx:1.28
FROM ${GO_IMAGE} AS build
ARG GOPROXY
ARG VERSION=0.1.0-dev
ARG REVISION=unknown
ENV CGO_ENABLED=0
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN sh deploy/build.sh /out ${VERSION} ${REVISION} && mkdir -p /out/data /out/tmp

FROM ${NGINX_IMAGE}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/templater /bin/templater
COPY templates /etc/templater/templates
ENTRYPOINT ["/bin/templater"]
CMD []
STOPSIGNAL SIGTERM
