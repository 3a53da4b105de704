# make help lists the targets.
SHELL := bash
.DELETE_ON_ERROR:
.PHONY: help run build lint test test-long bench clean FORCE

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# The tests of the whole run alone, one package at a time: they hear and measure.
tests = go run ./build/testsum -- -race -tags $(TAGS) -timeout $(1) $$(go list ./... | grep -v /e2e) -- -race -tags $(TAGS) -timeout $(1) -p 1 ./e2e/...
LDFLAGS := -s -w -X main.version=$(VERSION)
TAGS := e2e

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 14

run: ## install what is missing, build, and start the demo: a call comes in within seconds
	@build/setup run
	@$(MAKE) --no-print-directory build
	@build/run-demo

build: bin/gateway bin/softphone ## build bin/gateway and bin/softphone

bin/gateway: FORCE
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./gateway

bin/softphone: FORCE
	CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)' -o $@ ./softphone/cmd/softphone

lint: ## go vet and golangci-lint with the project's rules
	@build/setup lint
	go vet -tags $(TAGS) ./...
	.tools/bin/golangci-lint run ./...

test: ## install what the tests need and run all of them, with the race detector and real peers
	@build/setup test
	$(call tests,20m)

test-long: ## fuzzers, soak, full attack and loss campaigns
	@build/setup test
	CORDBOARD_LONG=1 $(call tests,120m)
	build/fuzz 60s

bench: ## measure, write bench/results.json
	@build/setup bench
	go run ./bench

clean: ## remove what was built
	rm -rf bin
