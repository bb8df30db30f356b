# Every target that people and CI use. `make help` lists them.
#
# Variables: SEEDS and SEED (make vm-test-long: how many power cuts, and the seed of the first), ONLINE=1 (make run: let the machine reach the network), T=NAME (make vm-test: one group),
# PROFILE (make image: controlplane, worker, bare), PLATFORM (make image: a file of configs/platforms), VERSION and UPDATE_KEY (make image).

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

TARGET := x86_64-unknown-linux-gnu
# Profile of the programs that go into images: `image` links in seconds, `release` is smallest.
IMAGE_CARGO_PROFILE ?= image
IMAGES ?= build/images
BINARIES := target/$(TARGET)/$(IMAGE_CARGO_PROFILE)
# Relocations in their short form (DT_RELR) and no unwind tables, which nobody reads where a panic aborts: 3 MB less of the agent.
STATIC_BUILD := RUSTFLAGS="-C target-feature=+crt-static -C force-unwind-tables=no -C link-arg=-Wl,-z,pack-relative-relocs" cargo build --quiet --target $(TARGET) --profile $(IMAGE_CARGO_PROFILE)
PROFILES := bare worker controlplane
PROFILE ?= $(PROFILES)
PLATFORM ?= qemu
# Signs update files, and is what images trust. Made once, where none is given; keep it: machines take no update that others sign.
UPDATE_KEY ?= build/keys/update.key
# Level of zstd for update files. Releases take 19: 5 % smaller for thirty times the work (bare image: 28.6 instead of 30.0 MB, 17 s more of a processor).
UPDATE_LEVEL ?= 9

# What a bare Debian 12 or 13 with Rust, Go and gcc lacks, as <program or file>:<package>.
NEEDS := qemu-system-x86_64:qemu-system-x86 qemu-img:qemu-utils /usr/share/OVMF/OVMF_CODE_4M.fd:ovmf mkfs.erofs:erofs-utils \
	veritysetup:cryptsetup-bin mcopy:mtools mkfs.fat:dosfstools protoc:protobuf-compiler \
	/usr/include/google/protobuf/any.proto:libprotobuf-dev /usr/include/seccomp.h:libseccomp-dev pkg-config:pkg-config \
	zstd:zstd depmod:kmod mkfs.ext4:e2fsprogs ip:iproute2 nft:nftables iptables:iptables objcopy:binutils git:git \
	/usr/lib/ipxe/qemu/efi-virtio.rom:ipxe-qemu xorriso:xorriso sbsign:sbsigntool cert-to-efi-sig-list:efitools openssl:openssl swtpm:swtpm

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sort | awk -F ':.*## ' '{ printf "  %-12s %s\n", $$1, $$2 }'

.PHONY: setup
setup: ## Install what the host lacks (as root), or name it
	@missing=(); \
	for need in $(NEEDS); do \
	  thing=$${need%%:*}; package=$${need##*:}; \
	  if [[ $$thing == /* ]]; then [ -e "$$thing" ] || missing+=("$$package"); \
	  else PATH="$$PATH:/usr/sbin:/sbin" command -v "$$thing" >/dev/null || missing+=("$$package"); fi; \
	done; \
	for tool in cargo go gcc; do command -v $$tool >/dev/null || { echo "setup: $$tool is missing: install Rust, Go and gcc first" >&2; exit 1; }; done; \
	if [ $${#missing[@]} -eq 0 ]; then exit 0; fi; \
	if [ "$$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then \
	  echo "setup: installing $${missing[*]}"; \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$${missing[@]}" >/dev/null; \
	else \
	  echo "setup: these packages are missing: $${missing[*]}" >&2; \
	  echo "setup: install them with: sudo apt-get install --no-install-recommends $${missing[*]}" >&2; exit 1; \
	fi

.PHONY: tools
tools: # Our programs for the build host
	cargo build --quiet -p image-build -p machinectl

.PHONY: binaries
binaries: # Our programs for the image: static
	@# One call each: cargo unifies the features of what it builds together, and init leaves the machine config off.
	$(STATIC_BUILD) -p init
	$(STATIC_BUILD) -p nodeagent
	$(STATIC_BUILD) -p image-build --bin pause --bin hello

FAILPOINT_AGENT := $(BINARIES)/failpoints/nodeagent

.PHONY: failpoint-agent
failpoint-agent: setup # The agent that stops where a test tells it to: for images of tests alone
	@# cargo keeps both builds; whichever was asked for last lies where images take it from.
	$(STATIC_BUILD) -p nodeagent --features failpoints
	install -D $(BINARIES)/nodeagent $(FAILPOINT_AGENT)
	$(STATIC_BUILD) -p nodeagent

.PHONY: build
build: setup tools binaries ## Build our own programs

.PHONY: components
components: setup tools ## Build the upstream parts that are stale
	target/debug/image-build components --out build/components

build/keys/update.key: | tools
	target/debug/image-build keys new --out build/keys

.PHONY: image
image: build components $(UPDATE_KEY) ## Build the images (PROFILE=controlplane|worker|bare, PLATFORM=qemu|metal|aws|...)
	@for profile in $(PROFILE); do \
	  target/debug/image-build image --profile configs/profiles/$$profile.toml --platform $(PLATFORM) --components build/components \
	    --binaries $(BINARIES) --update-key $(UPDATE_KEY) --update-level $(UPDATE_LEVEL) $(if $(VERSION),--version $(VERSION)) \
	    --out $(IMAGES)/$$profile$(patsubst %,-%,$(filter-out qemu,$(PLATFORM))); \
	done
	target/debug/image-build archive --binary $(BINARIES)/hello --name corten.dev/hello:v1 --port 8080 --out $(IMAGES)/hello.tar

.PHONY: lock
lock: setup tools ## Renew configs/packages.lock
	target/debug/image-build lock

.PHONY: run
run: image ## Boot a local one-node cluster, deploy a sample, keep it running
	cargo run --quiet -p tests --bin demo -- run $(if $(ONLINE),--online)

.PHONY: smoke
smoke: image ## Do what `make run` does, check it, and end
	cargo run --quiet -p tests --bin demo -- smoke

.PHONY: check
check: setup ## Format, lints, dependency rules
	cargo fmt --all --check
	cargo clippy --quiet --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; else echo "check: cargo-deny is not installed: its checks are left out"; fi

.PHONY: plain-test
plain-test: setup components # Tests that need no VM
	cargo test --workspace --no-fail-fast

.PHONY: test
test: image plain-test ## All plain and component tests, and one VM test for each claim
	@# Two at a time where a machine has one processor; the one with two alone, last.
	cargo test -p tests --test vm -- --ignored --test-threads=2 short:: --skip short::one_command
	cargo test -p tests --test vm -- --ignored --test-threads=1 short::one_command

.PHONY: vm-test
vm-test: image failpoint-agent ## Every VM test, or one group (T=smoke|faults|upgrade|media|network|screen|cluster|metrics|secure_boot)
	cargo test -p tests --test vm -- --ignored --test-threads=1 $(if $(T),$(T)::)

.PHONY: vm-test-long
vm-test-long: image failpoint-agent ## Power cuts: SEEDS=100 over all kinds (SEED=7: from this one on), at every failpoint, and those of T=faults
	CORTEN_SEEDS=$(or $(SEEDS),100) CORTEN_SEED=$(or $(SEED),0) cargo test -p tests --test vm -- --ignored --test-threads=1 --nocapture upgrade::power::
	cargo test -p tests --test vm -- --ignored --test-threads=1 faults::power::

# Benchmarks that measure no image, and those of them that need upstream's parts all the same.
BENCH_WITHOUT_IMAGE := collector etcd extender overlay simulator
BENCH_WITH_COMPONENTS := collector etcd overlay

.PHONY: bench
bench: setup ## Measure the figures of docs/benchmarks.md, or some (T="sizes api"); needs root and mmdebstrap
	$(if $(and $(T),$(if $(filter-out $(BENCH_WITHOUT_IMAGE),$(T)),,none)),,$(MAKE) image IMAGE_CARGO_PROFILE=release IMAGES=build/bench/images UPDATE_LEVEL=19)
	$(if $(filter $(BENCH_WITH_COMPONENTS),$(T)),$(MAKE) components)
	cargo run --quiet --profile image -p tests --bin bench -- $(T)

.PHONY: golden
golden: ## Rewrite the golden files; read the diff
	CORTEN_GOLDEN=1 cargo test --workspace --no-fail-fast

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: lint
lint: ## clippy
	cargo clippy --workspace --all-targets

.PHONY: deny
deny: ## Licences, advisories, duplicate dependencies
	cargo deny check

.PHONY: doc
doc: ## API documentation of the crates
	cargo doc --workspace --no-deps

.PHONY: clean
clean: ## Remove build results (not the compilers' caches, not build/keys)
	@if [ -d build ]; then find build -mindepth 1 -maxdepth 1 ! -name keys -exec rm -rf {} +; fi
	rm -rf target
