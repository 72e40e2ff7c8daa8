# The two commands: `make run` and `make test`. `make help` lists the rest.

# One after the other: the steps share the build directory, and the machines have few cores.
.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help setup build run test check check-setup deny soak bench

CARGO ?= $(shell command -v cargo || echo $(HOME)/.cargo/bin/cargo)

# Tests kill the program between two effects; a release build has no such places.
FAILPOINTS := forebay/failpoints

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install what is missing (Redis, PostgreSQL, a compiler); safe to repeat
	@scripts/setup

build: ## the release build
	$(CARGO) build --workspace --release --locked

run: setup build ## a generated network through both tiers, with progress; stays up until Ctrl-C
	@scripts/demo

test: setup ## all tests, with real servers (cargo-nextest when it is installed)
	@if $(CARGO) nextest --version >/dev/null 2>&1; then \
	  set -ex; \
	  $(CARGO) nextest run --workspace --features $(FAILPOINTS) --locked --no-fail-fast; \
	  $(CARGO) test --workspace --features $(FAILPOINTS) --doc --locked; \
	else \
	  set -ex; \
	  $(CARGO) test --workspace --features $(FAILPOINTS) --locked --no-fail-fast; \
	fi

check-setup:
	@scripts/setup --checks

check: check-setup ## format, lints, documentation, scripts, units and licences, every warning an error
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked
	scripts/check-packaging
	CARGO=$(CARGO) scripts/check_licences.py

deny: ## licences, sources and known weaknesses of all dependencies; before a release
	@scripts/setup --deny
	scripts/check-dependencies

DURATION ?= 60s
SEED ?= 1
soak: setup build ## break node and servers for DURATION (60s), as SEED (1) plans it; ends with one JSON line
	@$${CARGO_TARGET_DIR:-target}/release/forebay-chaos --duration $(DURATION) --seed $(SEED)

bench: setup ## the quick benchmark: a table, and a page with charts in target/bench.html
	$(CARGO) build --release --locked -p forebay
	@$${CARGO_TARGET_DIR:-target}/release/forebay bench --quick --report $${CARGO_TARGET_DIR:-target}/bench.html
