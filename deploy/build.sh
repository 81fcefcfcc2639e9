#!/bin/sh
# Builds the static binaries: build.sh DIR [VERSION] [REVISION]
set -eu
out=$1 version=${2:-0.1.0-dev} revision=${3:-unknown}
info=github.com/rollcall/rollcall/internal/buildinfo
flags="-s -w -X $info.Version=$version -X $info.Revision=$revision -X $info.Date=$(date -u +%Y-%m-%dT%H:%M:%SZ)"
export CGO_ENABLED=0
mkdir -p "$out"
go build -trimpath -ldflags "$flags" -o "$out/rollcall" ./server
go build -trimpath -ldflags "$flags" -o "$out/registrator" ./registrator
go build -trimpath -ldflags "$flags" -o "$out/templater" ./templater
go build -trimpath -ldflags "$flags" -o "$out/web" ./deploy/lab/web
