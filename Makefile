# Two commands for a newcomer: `make demo` and `make test`. Both install what
# they need beyond Go, git, make and root.

GO      ?= go
CACHE   ?= $(CURDIR)/.cache
BIN     := bin
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOL    := $(GO) tool -modfile=tools/go.mod

# The same flags for programs, tests and linters, so that nothing is compiled
# twice: the Temporal server alone takes minutes.
export CGO_ENABLED = 0
export GOFLAGS     = -trimpath -buildvcs=false

.PHONY: help demo build server test unit lint e2e bench faults planted record deps fmt clean

help:
	@sed -n 's/^## //p' $(MAKEFILE_LIST)

## make demo    bake examples/web on this machine, boot the AMI, look inside
demo: build
	./examples/demo.sh

## make build   all programs into bin/
build: server
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/submit ./cmd/agent ./cmd/localcloud
	GOOS=linux GOARCH=amd64 $(GO) build -ldflags '-s -w' -o $(BIN)/runner-linux-amd64 ./cmd/runner
	GOOS=linux GOARCH=arm64 $(GO) build -ldflags '-s -w' -o $(BIN)/runner-linux-arm64 ./cmd/runner

server:
	cd deploy/temporal/dev && $(GO) build -ldflags '$(LDFLAGS)' -o $(CURDIR)/$(BIN)/server .

## make test    install what the tests need and run all of them
test: deps build lint unit e2e

## make deps    install what the tests need: Debian's packer and openssh, moto
deps:
	./tools/deps.sh "$(CACHE)"

## make lint    vet, gofumpt, staticcheck, workflowcheck
lint:
	$(GO) vet -tags e2e ./...
	cd deploy/temporal/dev && $(GO) vet ./...
	@out="$$($(TOOL) gofumpt -l $$(git ls-files '*.go'))"; test -z "$$out" || { echo "gofumpt -w these files:"; echo "$$out"; exit 1; }
	$(TOOL) staticcheck -tags e2e ./...
	$(TOOL) workflowcheck ./workflows/...

## make unit    tests of all packages
unit:
	BAKEHOUSE_BIN=$(CURDIR)/$(BIN) $(GO) test -timeout 20m ./...
	cd deploy/temporal/dev && $(GO) test -timeout 10m ./...

## make e2e     real processes: the whole bake, the kill test
e2e:
	BAKEHOUSE_BIN=$(CURDIR)/$(BIN) $(GO) test -timeout 20m -count=1 -tags e2e ./e2e/...

## make bench   how fast: launch to SSH, image creation, overhead and memory of builds
bench: build
	BAKEHOUSE_BIN=$(CURDIR)/$(BIN) $(GO) test -run '^$$' -bench . -benchtime 3x ./localcloud/... ./communicator/...
	BAKEHOUSE_BIN=$(CURDIR)/$(BIN) $(GO) test -run '^$$' -bench Validate -benchtime 10x ./cmd/submit
	BAKEHOUSE_BIN=$(CURDIR)/$(BIN) $(GO) test -tags e2e -run '^$$' -bench . -benchtime 1x -timeout 30m ./e2e/...

## make faults  inject N=1000 faults into builds of real processes; SEED=1 is the plan
faults: build
	$(GO) build -ldflags '$(LDFLAGS)-next' -o $(BIN)/agent-next ./cmd/agent
	$(GO) run ./laboratory/faults -bin $(BIN) -next $(BIN)/agent-next -n $(or $(N),1000) -seed $(or $(SEED),1) -packer $(or $(PACKER),1)

## make planted take safeguards out, one at a time: the laboratory must notice each
planted: build
	BAKEHOUSE_BIN=$(CURDIR)/$(BIN) $(GO) test -tags e2e -count=1 -timeout 1h -v -run '^TestPlantedBugs$$' ./laboratory/

## make record  histories of real runs for the replay test, NAME=v1 (at each release)
record: build
	BAKEHOUSE_BIN=$(CURDIR)/$(BIN) BAKEHOUSE_RECORD=$(CURDIR)/workflows/testdata/histories/$(NAME) $(GO) test -tags e2e -count=1 -run '^TestRecord$$' ./e2e/...

## make fmt     gofumpt all files
fmt:
	$(TOOL) gofumpt -w $$(git ls-files '*.go')

clean:
	rm -rf $(BIN)
