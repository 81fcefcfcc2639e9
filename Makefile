# Two commands do everything: `make up` brings the lab up, `make test` passes the tests.
.PHONY: build up down test check lint deps bench bench-lab fuzz soak clean help
SHELL    := /bin/bash
BIN      ?= bin
VERSION  ?= 0.1.0-dev
REVISION ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
# a Go that deploy/deps.sh brought stands in .cache/go
export PATH := $(CURDIR)/.cache/go/bin:$(PATH):/usr/sbin:/sbin
export GOFLAGS := -buildvcs=false

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 20

build: ## static binaries in bin/
	@deploy/build.sh $(BIN) $(VERSION) $(REVISION)
	@ls -lh $(BIN) | awk 'NR>1 {print $$9, $$5}'

up: ## the two-host lab: build what is missing, start, wait until nginx serves
	@deploy/deps.sh run
	@deploy/lab/up.sh

down: ## remove the lab and its data
	@deploy/lab/up.sh down

deps: ## install what building and testing need
	@deploy/deps.sh test

test: deps check ## all tests, with the race detector, on real parts
	@$(MAKE) --no-print-directory build
	@deploy/lab/base-images.sh nginx
	go test -race -count=1 ./...

check: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...

bench: ## benchmarks of every room
	go test -run '^$$' -bench . -benchmem ./...

bench-lab: build ## container start to nginx serving it, by stage
	@deploy/lab/base-images.sh nginx
	go test -count=1 -v -run '^$$' -bench BenchmarkLab -benchtime 1x ./internal/e2e

fuzz: ## a minute on every fuzz target
	@grep -rlE '^func Fuzz' --include=*_test.go . | while read -r f; do d=$$(dirname $$f); \
	  for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$f); do \
	    echo "$$d $$t"; go test -run '^$$' -fuzz "^$$t\$$" -fuzztime $${FUZZTIME:-60s} $$d || exit 1; done; done

soak: build ## an hour of churn through the whole lab
	go test -count=1 -v -timeout 2h -run TestSoak ./internal/e2e -soak $${SOAK:-1h}

clean:
	rm -rf bin .cache
