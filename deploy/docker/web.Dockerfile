# A web server for the lab: it says which container answered, and drains. The build stage is the same in every Dockerfile
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
COPY --from=build /out/web /bin/web
EXPOSE 8080
ENTRYPOINT ["/bin/web"]
