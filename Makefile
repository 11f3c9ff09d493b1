# The index of commands. CI runs `make check`. Only generate and fmt write to the tree.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
BUF := go tool -modfile=.ci/tools.mod buf
LINT := go tool -modfile=.ci/tools.mod golangci-lint
# A number of runs: with a time limit, the go command now and then calls its own deadline a failure.
FUZZTIME ?= 10000x
FUZZSCHEDULES ?= 300x -fuzzminimizetime 1x
.PHONY: check tidy generated generate fmt lint test race netns fuzz cross bench

check: tidy generated lint test race fuzz cross

tidy: # go.mod names what is used, no more and no less
	go mod tidy -diff

generated: # the checked-in Go code is what the .proto files give
	@tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; mkdir "$$tmp/tree"; \
	cp messages/conec/v1/*.pb.go "$$tmp/tree"; \
	$(BUF) generate --output "$$tmp"; \
	diff -rq "$$tmp/tree" "$$tmp/messages/conec/v1" || { echo 'stale: make generate'; exit 1; }

generate:
	rm -f messages/conec/v1/*.pb.go
	$(BUF) generate

fmt:
	$(BUF) format --write
	$(LINT) fmt

lint:
	$(BUF) lint
	$(BUF) format --diff --exit-code
	$(LINT) run

# What takes longest comes first in what follows, and the rest runs beside it.
test:
	go test -shuffle=on ./sim ./sim/suite ./...

race: # -short: fewer seeds, since the race detector is slow
	go test -race -short -shuffle=on -timeout 15m ./sim ./sim/suite ./...

netns: # as root: what test skips where there are no network namespaces
	CONEC_NETLAB=require go test ./internal/netlab ./sim/suite

fuzz: # every fuzz target there is, FUZZTIME each; a simulated schedule takes longer than a decoder
	@go test -list '^Fuzz' ./... | awk '/^Fuzz/ {f[n++] = $$1} /^ok/ {while (n) print $$2, f[--n]}' | \
	while read -r package target; do \
		runs=$(FUZZTIME); if [ "$$target" = FuzzSchedule ]; then runs='$(FUZZSCHEDULES)'; fi; \
		go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $$runs "$$package" </dev/null; \
	done

cross: # it builds elsewhere; 64-bit systems only
	for os in darwin windows; do GOOS=$$os go build ./...; GOOS=$$os go vet ./...; done

bench:
	go run ./internal/bench
