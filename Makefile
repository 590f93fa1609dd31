# Copyright (C) The Arvados Authors. All rights reserved.
#
# SPDX-License-Identifier: AGPL-3.0

.DEFAULT_GOAL := help
PROGRAMS := $(notdir $(wildcard cmd/*))
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

help: ## print this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

all: ## build every program into bin/
	CGO_ENABLED=0 go build -trimpath -ldflags "-s -w" -o bin/ $(PROGRAMS:%=./cmd/%)

demo: all ## see it work: an embedded cluster pulls an image, builds another upon it and runs both (IMAGE=alpine:3.22 takes that one)
	build/need-engine
	$(if $(IMAGE),,build/need-demo-tools)
	CGO_ENABLED=0 go build -trimpath -o bin/ ./build/demo
	bin/demo $(IMAGE)

test: lint ## install what the tests need (Debian, as root), then run all of them
	build/need-test-tools
	build/need-engine
	build/need-jobs-image
	build/need-second-engine
	$(MAKE) --no-print-directory -j 2 test-with-engines test-without

# Packages whose tests use the same engines take turns, beside all others.
WITH_ENGINES := cmd/... lib/arvdocker lib/builtinhost lib/builtinrun lib/dockerstandin lib/imagesource/engine lib/imagetar/... lib/keepdocker sdk/cwl

test-with-engines:
	go test -race -p 1 -timeout 40m $(WITH_ENGINES:%=./%)

test-without:
	go test -race -p 1 -timeout 40m $$(go list ./... | grep -vxF "$$(go list $(WITH_ENGINES:%=./%))")

lint: ## gofmt, go vet and staticcheck
	@test -z "$$(gofmt -l cmd lib sdk services build | tee /dev/stderr)"
	go vet ./...
	go run $(STATICCHECK) ./...

bench: all ## measure speed and memory against ceilings and peers (ONLY=pull runs one family)
	build/need-test-tools
	build/need-engine
	CGO_ENABLED=0 go build -trimpath -o bin/ ./build/bench
	bin/bench $(ONLY)

interop: ## run crunch-run beside Arvados's own on this node (STOCK=/path/to/arvados-server; see doc/develop.md)
	@test -x "$(STOCK)" || { echo "name Arvados's own program: make interop STOCK=/usr/bin/crunch-run" >&2; exit 1; }
	build/need-test-tools
	build/need-engine
	go test -c -o bin/interop.test ./cmd/crunch-run
	@# In a network of its own, since a keepstore that Arvados's starts listens at the node's address.
	cd cmd/crunch-run && STOCK_CRUNCH_RUN=$(abspath $(STOCK)) unshare --net \
		sh -c 'ip link set lo up && exec ../../bin/interop.test -test.v -check.f interopSuite -check.vv'

update-golden: ## write the golden files anew after a change of format that is meant
	go test ./lib/... -update

clean: ## remove what was built
	rm -rf bin

.PHONY: help all demo test test-with-engines test-without lint bench interop update-golden clean
