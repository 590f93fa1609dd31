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
	go test -race -p 1 -timeout 40m ./... # one package at a time: several use the same engines

lint: ## gofmt, go vet and staticcheck
	@test -z "$$(gofmt -l cmd lib sdk services build | tee /dev/stderr)"
	go vet ./...
	go run $(STATICCHECK) ./...

bench: all ## measure speed and memory against ceilings and peers (ONLY=pull runs one family)
	build/need-test-tools
	build/need-engine
	CGO_ENABLED=0 go build -trimpath -o bin/ ./build/bench
	bin/bench $(ONLY)

update-golden: ## write the golden files anew after a change of format that is meant
	go test ./lib/... -update

clean: ## remove what was built
	rm -rf bin

.PHONY: help all demo test lint bench update-golden clean
