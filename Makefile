# Two commands do everything: `make up` brings the lab up, `make test` passes the tests.
.PHONY: build up down test check lint deps conformance stock neighbours generate screenshots bench bench-page bench-rooms bench-check bench-lab bench-kill fuzz soak clean help
SHELL    := /bin/bash
BIN      ?= bin
VERSION  ?= 0.1.0-dev
REVISION ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
# packages whose tests run engines, nginx and clusters
LARGE    := /internal/(e2e|conformance)$$|/registrator$$
# a Go that deploy/deps.sh brought stands in .cache/go
export PATH := $(CURDIR)/.cache/go/bin:$(PATH):/usr/sbin:/sbin
export GOFLAGS := -buildvcs=false -trimpath

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
	go test -race -count=1 $$(go list ./... | grep -vE '$(LARGE)')
	go test -race -count=1 -p 1 -parallel 4 -timeout 30m $$(go list ./... | grep -E '$(LARGE)') # one after the other; their tests mostly wait
	@$(MAKE) --no-print-directory stock
	go test -count=1 -run TestModel ./server/internal/store -rapid.checks=10000

check: ## gofmt, vet, staticcheck
	@test -z "$$(gofmt -l .)" || { echo "not formatted:"; gofmt -l .; exit 1; }
	go vet ./...
	go tool -modfile=tools/go.mod staticcheck ./...

generate: ## Go code of the page's templates
	go generate ./server/internal/ui

screenshots: build ## pictures of every page, in both themes and as on a phone
	@deploy/lab/base-images.sh nginx
	go test -count=1 -run TestScreenshots ./internal/e2e -screenshots $${SCREENSHOTS:-$(CURDIR)/.cache/screenshots}

conformance: ## the stock client's own suite, and our answers beside the real Consul's
	@consul=$$(deploy/lab/consul.sh) && CONSUL=$$consul go test -count=1 -parallel 6 ./internal/conformance
	@$(MAKE) --no-print-directory stock neighbours

stock: ## the stock client's own suite on our server
	go -C conformance/stock vet ./...
	go -C conformance/stock test -count=1 -parallel 8 -timeout 15m ./...

neighbours: ## the suites of consul-template and of Go kit that need a Consul, and Patroni, on our server
	@deploy/deps.sh neighbours
	go -C conformance/neighbours vet ./...
	go -C conformance/neighbours test -count=1 ./...

bench: build ## ours beside the real Consul and etcd, half an hour; ARGS='-run kv -rounds 1' for some of it
	@deploy/deps.sh bench
	@consul=$$(deploy/lab/consul.sh) && go run ./bench -consul $$consul -o docs/benchmarks.json $(ARGS)
	@$(MAKE) --no-print-directory bench-page

bench-page: ## docs/benchmarks.md and its chart anew, from what was measured last
	go run ./bench -o docs/benchmarks.json -render docs

bench-rooms: ## benchmarks of every room
	go test -run '^$$' -bench . -benchmem ./server/internal/... ./registrator/internal/... ./templater/internal/...

bench-check: ## the rooms' benchmarks beside those of BASE=COMMIT: what became slower by more than noise
	@bench/check.sh $(BASE)

bench-lab: build ## container start to nginx serving it, by stage; a change in the catalog to nginx serving it
	@deploy/lab/base-images.sh nginx
	go test -count=1 -v -run '^$$' -bench BenchmarkLab -benchtime 1x ./internal/e2e
	go test -count=1 -run '^$$' -bench BenchmarkServed -benchtime 100x ./internal/e2e

bench-kill: ## the leader killed twenty times, ours and the real Consul in turn: time to the next write
	go test -count=1 -v -timeout 1h -run '^$$' -bench BenchmarkLeaderKill -benchtime 1x ./internal/e2e

fuzz: ## ten minutes on every fuzz target, or FUZZTIME
	@grep -rlE '^func Fuzz' --include=*_test.go . | while read -r f; do d=$$(dirname $$f); \
	  for t in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\).*/\1/p' $$f); do \
	    echo "$$d $$t"; go test -run '^$$' -fuzz "^$$t\$$" -fuzztime $${FUZZTIME:-10m} $$d || exit 1; done; done
	go test -run TestRandomFrames ./server/internal/rpc -frames 100000

soak: build ## an hour of churn through the whole lab, storms, ten minutes of a steady state, and of chaos around a registrator, a templater, the whole house
	go test -count=1 -v -timeout 2h -run TestSoak ./internal/e2e -soak $${SOAK:-1h}
	go test -count=1 -v -timeout 2h -run TestEndurance ./internal/e2e -endurance $${ENDURANCE:-30m}
	go test -count=1 -v -timeout 1h -run TestKillStorm ./internal/e2e -storm 50 -storms 5
	go test -count=1 -v -timeout 1h -run 'TestCase(01|03|04|15)' ./registrator -containers 50 -rounds 5 -steady 10m
	go test -count=1 -v -timeout 1h -run TestManyAgents ./server/internal/faults -agents 300
	go test -count=1 -timeout 1h -run TestSchedules ./server/internal/faults -seeds $${SEEDS:-200}
	go test -count=1 -v -run TestPackets ./server/internal/dnsserver -packets 1000000
	go test -count=1 -v -timeout 1h -run TestChaos ./registrator -chaos $${CHAOS:-10m}
	go test -count=1 -v -timeout 1h -run TestHouseChaos ./internal/e2e -house-chaos $${CHAOS:-10m}
	go test -count=1 -v -timeout 1h -run 'TestTemplater(Chaos|ManyChanges)' ./internal/e2e -templater-chaos $${CHAOS:-10m} -changes 1m

clean:
	rm -rf bin .cache
