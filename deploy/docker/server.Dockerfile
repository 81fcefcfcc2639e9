# The catalog server and client agent. The build stage is the same in every Dockerfile
# of this folder, so that an engine which built one finds it ready for the next.
ARG GO_IMAGE=golang:1.26-bookworm
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

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/rollcall /bin/rollcall
COPY --from=build /out/data /data
COPY --from=build /out/tmp /tmp
VOLUME /data
# between servers, gossip, gossip between datacenters, HTTP, DNS
EXPOSE 8300 8301 8301/udp 8302 8302/udp 8500 8600 8600/udp
ENTRYPOINT ["/bin/rollcall"]
CMD ["agent", "-dev", "-client", "0.0.0.0"]
