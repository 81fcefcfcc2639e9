# The registrator. The build stage is the same in every Dockerfile
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
COPY --from=build /out/registrator /bin/registrator
COPY --from=build /out/tmp /tmp
# Nobody in particular: the engine's socket opens to its group (--group-add, see
# docs/registrator.md), and nothing else is needed.
USER 65532:65532
HEALTHCHECK --interval=15s --timeout=6s --start-period=15s CMD ["/bin/registrator", "healthcheck"]
ENTRYPOINT ["/bin/registrator"]
