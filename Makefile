# SPDX-License-Identifier: Apache-2.0

SHELL     := /bin/bash -euo pipefail
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

# Databases that Caddy can be built with and that nothing here uses. The same
# tags everywhere: with others, all of Caddy is compiled once more.
export GOFLAGS := $(filter-out -tags=%,$(GOFLAGS)) -tags=nobadger,nomysql,nopgx

# Static, as what is published: it runs in an image without anything else. Only the race
# detector needs C. All that tests build is built without it, or Caddy is compiled twice.
export CGO_ENABLED := 0

# A count and not a time: at the end of a time go test may fail by itself with
# "context deadline exceeded".
FUZZTIME ?= 50000x
# Random sequences of all that can happen to tokens; the race detector sees 100.
# They are the same every time, so that a change is judged by itself: SEED=0
# plays others.
SEQUENCES ?= 10000
SEED      ?= 1
# For one package. None takes four minutes by itself; on a machine that is busy
# with something else each may take several times as long.
TIMEOUT  ?= 30m
RACE      = $(shell command -v gcc clang >/dev/null && echo -race)
SOURCES  := go.mod go.sum internal/authorize/page.html $(shell find . -name '*.go' -not -name '*_test.go' -not -path './test/*' -not -path './bench/*' -not -path './deploy/*')

# $(call packages,Regexp) lists the packages with a top-level function that matches.
packages = $(shell grep -rlE '^func $(1)' --include='*_test.go' --exclude-dir=test --exclude-dir=bench --exclude-dir=deploy . | xargs -r -n1 dirname | sort -u)

.NOTPARALLEL:
.PHONY: help demo build test setup format vet race model allocs fuzz images release bench soak fmt clean

help: ## list what can be made
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-7s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: caddy ## show the whole flow on this machine, with a WeChat of its own (ARGS=--once: and exit)
	@./caddy wechat demo $(ARGS)

build: caddy ## build ./caddy with the plugin and the Redis storage (with more modules: ./xcaddy.sh)

caddy: $(SOURCES)
	@echo "Building ./caddy; the first time takes minutes."
	@go build -o $@ ./cmd/caddy

test: setup format vet race model allocs fuzz images ## install what the tests need, then run everything
	@echo "== All tests passed."

# Modules are downloaded in silence: what fails here fails again below, aloud.
setup:
	@echo "== Tools and modules"
	@test/setup.sh
	@go list -deps -test ./... tool >/dev/null 2>&1 || true
	@go -C test list -deps -test ./... >/dev/null 2>&1 || true
	@go -C bench list -deps -test ./... tool >/dev/null 2>&1 || true
	@go -C deploy list -deps -test ./... >/dev/null 2>&1 || true

format:
	@echo "== gofmt"
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; }

vet:
	@echo "== go vet, staticcheck"
	@for module in . test bench deploy; do go -C $$module vet ./...; done
	@for system in windows darwin; do GOOS=$$system go vet ./internal/upstream; done # the package with files for systems
	@staticcheck=$$(go tool -n staticcheck); for module in . test bench deploy; do (cd $$module && $$staticcheck ./...); done

race: export CGO_ENABLED := $(if $(RACE),1,0)
race:
	@echo "== Tests$(if $(RACE),, without the race detector: it needs a C compiler)"
	@go test $(RACE) -timeout $(TIMEOUT) -shuffle=on ./... | sed '/no test files/d'
	@echo "== Tests with SDKs, browser and processes"
	@go -C test test $(RACE) -timeout $(TIMEOUT) -shuffle=on ./... | sed '/no test files/d'
	@go -C bench test $(RACE) -timeout $(TIMEOUT) -shuffle=on ./...

model: ## hold tokens against a model of what is valid (SEQUENCES=10000 SEED=1)
	@echo "== $(SEQUENCES) sequences against the model"
	@go test -count=1 -timeout $(TIMEOUT) -v -run '^TestModel' ./internal/tokens -rapid.checks $(SEQUENCES) -rapid.seed $(SEED) | sed '/^=== /d'

# The race detector allocates too, so allocations are counted without it.
allocs:
	@echo "== Allocations"
	@packages='$(call packages,Test[A-Za-z0-9_]*Alloc)'; [ -z "$$packages" ] || go test -count=1 -timeout $(TIMEOUT) -run Alloc $$packages

fuzz: ## run every fuzz target (FUZZTIME=50000x)
	@echo "== Fuzzing, $(FUZZTIME) each"
	@grep -roE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' --exclude-dir=test . | sort | { while IFS=: read -r file target; do \
		go test -timeout $(TIMEOUT) -run '^$$' -fuzz "^$${target#func }$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 20x "$$(dirname "$$file")" </dev/null \
			| sed -E '/^fuzz: elapsed|^PASS$$/d'"; s/^ok/ok  $${target#func }/" || failed=1; done; [ -z "$${failed:-}" ]; }

# What is published runs as it will be run. Without the race detector, which would be
# there for the tests alone.
images:
	@echo "== Image, releases, manifests"
	@go -C deploy test -timeout $(TIMEOUT) -shuffle=on ./...

release: ## build what is published, for all platforms, into dist (a quarter of an hour)
	@rm -rf dist
	@env -u GOOS -u GOARCH go -C deploy run ./release -out ../dist

bench: caddy ## compare with reverse_proxy and nginx, write bench/RESULTS.md (half an hour)
	@bench/setup.sh
	@PATH=$$PATH:/usr/sbin go -C bench run .

soak: caddy ## ten minutes in which everything goes wrong, then 100,000 accounts (SOAK_TIME=10m SOAK_STORAGE=redis ARGS=scale)
	@go -C test run ./soak $(CURDIR)/caddy $(ARGS)

fmt: ## format the code
	@gofmt -w .

clean: ## remove what was built
	@rm -rf caddy dist buildenv_* test/npm/node_modules test/sdk/node/node_modules test/transparent/node_modules test/receivers/node/node_modules test/servers/node/node_modules
