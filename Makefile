# vdfs: make deps build demo test bench fuzz lint package package-test clean

GO      ?= go
BIN     := bin/vdfs
FUZZ    ?= 1m
LDFLAGS := -s -w
# Without the tag the command line's library brings a Markdown renderer, which takes an
# eighth of the time the program takes to start.
TAGS    := urfave_cli_no_docs
export CGO_ENABLED ?= 0

.PHONY: all deps build demo test bench fuzz lint package package-test clean

all: build

# deps installs what demo and test use beside Go (Debian, as root).
deps:
	./internal/scripts/deps

build:
	$(GO) build -trimpath -tags '$(TAGS)' -ldflags '$(LDFLAGS)' -o $(BIN) .

# demo mounts the bundled four-layer chain, reads it and checks its hash.
demo: deps build
	./internal/scripts/demo $(BIN)

# test is the one test command: everything, with the race detector, but for what it slows
# down and tells nothing of. Loops over every operation (vdtest.Loop, most of vdtest) run
# one after the other; what integration tests is another process, the binary itself.
test: deps build
	CGO_ENABLED=1 $(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v -e '/vdtest$$' -e '/integration$$')
	CGO_ENABLED=1 $(GO) test -race -timeout 20m -run 'TestModel|TestBarriers' ./vdcore/vdtest
	VDFS_BIN=$(CURDIR)/$(BIN) $(GO) test -timeout 20m ./vdcore/vdtest ./integration
	$(GO) test -timeout 20m -run 'Crash|Huge|PowerCut' ./vdcore/imgops ./formats/vmdk

# bench compares with the peers installed, in ratios.
bench: build
	$(GO) run ./bench $(BENCHFLAGS) $(BIN)

# fuzz runs every fuzz target for FUZZ (default 1m).
fuzz:
	./internal/scripts/fuzz $(FUZZ)

lint:
	@out=$$(gofmt -l .); [ -z "$$out" ] || { echo "gofmt: $$out"; exit 1; }
	$(GO) vet ./...

# package builds .tar.gz, .deb, .rpm and lists of what is in them into dist.
package:
	GO=$(GO) ./internal/scripts/package dist

# package-test tries them: built again they are the same, and the .deb works in a new
# root of Debian 12 (as root, with a network).
package-test: deps package
	./internal/scripts/package-test dist

clean:
	rm -rf bin dist
