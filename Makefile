# make          the two programs, into bin/
# make desktop  the agent with a window, into bin/; the first time takes minutes
# make desktop-windows  the same for Windows, by a cross compiler
# make install-desktop  that into ~/.local, with its icon and its links
# make install-server   the server as a service of systemd, by root
# make demo     one sign-in from beginning to end
# make test     every test
# make bench    what it does beside what the machine can do; BENCH=name for one
# make check    all that must be green before a change is merged

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-builtin-rules
export PATH := $(CURDIR)/.tools:$(PATH)

# What the tests need beyond what CONTRIBUTING.md names, as Debian calls it.
APT_PACKAGES := systemd
# What the agent with a window is built with, and tested with.
DESKTOP_BUILD_PACKAGES := gcc libgl1-mesa-dev xorg-dev libxkbcommon-dev libwayland-dev
DESKTOP_TEST_PACKAGES := xvfb libgl1-mesa-dri xdotool xclip desktop-file-utils swtpm gnome-keyring dbus dunst
# How long make fuzz spends on each target.
FUZZTIME := 30s

GO_DIRS := $(wildcard server device-agent internal proto)

DESKTOP := device-agent/desktop

.PHONY: build desktop desktop-windows install-desktop install-server demo bench test test-desktop check generate fmt fuzz \
	check-generated check-format check-vet check-staticcheck check-proto test-packages desktop-packages desktop-test-packages

build:
	go build -trimpath -o bin/ ./server/cmd/... ./device-agent/cmd/...

# Without -trimpath, so that it shares what was compiled with its tests.
desktop: desktop-packages
	go -C $(DESKTOP) build -o ../../bin/ ./cmd/...

# For Windows, by Debian's compiler. The first time takes minutes, so make check does
# without.
desktop-windows: desktop-packages
	@tools/apt-install gcc-mingw-w64-x86-64
	GOOS=windows GOARCH=amd64 CGO_ENABLED=1 CC=x86_64-w64-mingw32-gcc \
		go -C $(DESKTOP) build -ldflags=-H=windowsgui -o ../../bin/ ./cmd/...

# Where make install-desktop puts what make desktop built, for one person.
PREFIX := $(HOME)/.local

install-desktop:
	install -Dm755 bin/countersign-desktop $(PREFIX)/bin/countersign-desktop
	install -Dm644 $(DESKTOP)/cmd/countersign-desktop/icon.svg $(PREFIX)/share/icons/hicolor/scalable/apps/countersign-desktop.svg
	install -Dm644 -t $(PREFIX)/share/applications $(DESKTOP)/packaging/countersign-desktop.desktop
	install -Dm644 -t $(PREFIX)/share/systemd/user $(DESKTOP)/packaging/countersign-desktop.service
	sed -i 's|^ExecStart=|&$(PREFIX)/bin/|' $(PREFIX)/share/systemd/user/countersign-desktop.service
	! command -v update-desktop-database >/dev/null || update-desktop-database -q $(PREFIX)/share/applications

# Settings that are there stay. docs/service.md says what else there is to do.
install-server:
	install -Dm755 bin/countersign-server $(DESTDIR)/usr/local/bin/countersign-server
	install -Dm644 server/packaging/countersign-server.service $(DESTDIR)/etc/systemd/system/countersign-server.service
	install -Dm644 server/packaging/countersign-server.sysusers $(DESTDIR)/etc/sysusers.d/countersign-server.conf
	[ -e $(DESTDIR)/etc/countersign/countersign-server.toml ] || \
		install -Dm644 server/packaging/countersign-server.toml $(DESTDIR)/etc/countersign/countersign-server.toml

demo: build
	@go build -o .tools/demo ./internal/demo && .tools/demo

# Fifteen minutes for all, on a machine that does nothing else. PICTURES=dir draws
# pictures, too, and STORE=dir puts the databases on another disk.
BENCH :=
PICTURES :=
STORE :=

bench: build
	@go build -o .tools/bench ./internal/bench && .tools/bench -bench "$(BENCH)" -pictures "$(PICTURES)" -dir "$(STORE)"

test: test-packages
	go test -race -shuffle=on -timeout=15m ./...
	@$(MAKE) --no-print-directory test-desktop

# Without -race, which would compile the window toolkit a second time: what is shared
# there is handed to the toolkit's own goroutine.
test-desktop: desktop-test-packages
	go -C $(DESKTOP) test -shuffle=on -timeout=15m ./...

# One after the other, cheapest first, so that the tests' last lines are the last lines.
check: check-format check-generated check-proto check-vet check-staticcheck
	@$(MAKE) --no-print-directory test

generate: .tools/buf .tools/protoc-gen-go .tools/protoc-gen-go-grpc
	buf generate

fmt: .tools/buf
	gofmt -w $(GO_DIRS)
	buf format -w

fuzz:
	@grep -roE --include='*_test.go' '^func Fuzz\w+' $(GO_DIRS) | sort | while IFS=: read -r file func; do \
		(set -x; go test -run='^$$' -fuzz="^$${func#func }$$" -fuzztime=$(FUZZTIME) "./$$(dirname "$$file")"); \
	done

check-format:
	@bad=$$(gofmt -l $(GO_DIRS)); [ -z "$$bad" ] || { echo "not formatted, run make fmt:"; echo "$$bad"; exit 1; }

# Compares a fresh generation with the tree, not the tree with git: uncommitted
# changes are judged too.
check-generated: .tools/buf .tools/protoc-gen-go .tools/protoc-gen-go-grpc
	@new=$$(mktemp -d); trap 'rm -rf "$$new"' EXIT; \
	buf generate --output "$$new"; \
	diff -ru --exclude='*.proto' --exclude=doc.go "$$new/proto" proto || { echo "generated code is stale, run make generate"; exit 1; }

check-proto: .tools/buf
	buf format --diff --exit-code
	buf lint
	tools/check-breaking

# All but the desktop's program itself, which needs C, compiles for the other systems, too;
# the tag leaves out what draws on a real screen.
check-vet: desktop-packages
	go vet ./...
	go -C $(DESKTOP) vet ./...
	for os in darwin windows; do \
		CGO_ENABLED=0 GOOS=$$os go build ./device-agent/keystore ./device-agent/agent && \
		CGO_ENABLED=0 GOOS=$$os go -C $(DESKTOP) build -tags ci ./desk ./keys ./notification ./picture ./window ./world || exit; \
	done

check-staticcheck: .tools/staticcheck desktop-packages
	staticcheck ./...
	cd $(DESKTOP) && staticcheck ./...

test-packages: .tools/apns-sender .tools/web-push-receiver .tools/promtool
	@tools/apt-install $(APT_PACKAGES)

desktop-packages:
	@tools/apt-install $(DESKTOP_BUILD_PACKAGES)

desktop-test-packages: desktop-packages
	@tools/apt-install $(DESKTOP_TEST_PACKAGES)

# Tools are pinned in tools/ and made again when the pins change. Each appears
# under its name only when it is whole, so any number of makes may run at once.
.tools/%: tools/go.mod tools/go.sum
	@mkdir -p .tools
	go -C tools build -o ../$@.$$$$ "$$(go -C tools list tool | grep '/$*$$')" && mv $@.$$$$ $@

.tools/buf: tools/package.json tools/package-lock.json
	@mkdir -p .tools
	dir=$$(mktemp -d .tools/npm.XXXXXX) && trap 'rm -rf "$$dir"' EXIT && cp $^ "$$dir" && \
	npm ci --prefix "$$dir" --no-audit --no-fund --loglevel=error && mv "$$dir"/node_modules/@bufbuild/buf-*/bin/buf $@ && touch $@

# A sender of pushes that checks the APNs of the tests, and a receiver that checks what
# is pushed by Web Push.
.tools/apns-sender .tools/web-push-receiver: .tools/%: tools/%/package.json tools/%/package-lock.json
	@mkdir -p .tools
	dir=$$(mktemp -d .tools/npm.XXXXXX) && trap 'rm -rf "$$dir"' EXIT && cp $^ "$$dir" && \
	npm ci --prefix "$$dir" --ignore-scripts --no-audit --no-fund --loglevel=error && rm -rf $@ && mv "$$dir" $@

# Out of Debian's package rather than installed, since that would start a Prometheus.
.tools/promtool:
	@mkdir -p .tools
	@tools/apt-extract prometheus usr/bin/promtool $@
