# Everything that people and CI run. `make` alone lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules

CHART := charts/graph-backup-operator
# Without a target folder of the caller's, what cargo compiles is kept in the cache, by the path of the clone: two clones in
# one folder would run each other's programs, which cargo tells apart by the times of files only.
ifndef CARGO_TARGET_DIR
export CARGO_BUILD_BUILD_DIR ?= $(or $(GBO_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/graph-backup-operator)/cargo/{workspace-path-hash}
endif

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: test
test: prerequisites lint deny unit chart integration ## everything but Kubernetes; no root needed

.PHONY: e2e
e2e: ## the end-to-end tests on a real Kubernetes, which is stopped afterwards (root)
	e2e/up
	e2e/deploy
	e2e/test
	e2e/down

.PHONY: e2e-all
e2e-all: ## the end-to-end tests with the long ones (root)
	e2e/up
	e2e/deploy
	e2e/test --include-ignored
	$(MAKE) seeds
	e2e/down

.PHONY: demo
demo: ## a real cluster, a real database and its first backup (root)
	e2e/demo

.PHONY: demo-down
demo-down: ## stop what `make demo` started
	e2e/down

.PHONY: crds
crds: ## write the CRDs of the types to crds/ and into the chart
	cargo run --quiet --locked -- crds >crds/graphbackup.dev.yaml
	cp crds/graphbackup.dev.yaml $(CHART)/files/crds.yaml

.PHONY: image
image: ## the operator's image without a container engine, as an archive
	e2e/image/build

.PHONY: fmt
fmt: ## format the code, write the chart's README
	cargo fmt
	"$$(e2e/tool helm-docs)" --chart-search-root $(CHART) --log-level warning

.PHONY: prerequisites
prerequisites: ## install what `make test` needs (root), or say what is missing
	e2e/prerequisites tests

.PHONY: lint
lint: ## formatting, clippy, shell scripts, Dockerfile, Markdown
	cargo fmt --check
	cargo clippy --locked --all-targets --all-features -- -D warnings
	git grep -lE '^#!/usr/bin/env bash' | xargs shellcheck
	"$$(e2e/tool hadolint)" Dockerfile
	docs/check

.PHONY: deny
deny: ## dependencies: licences, sources, duplicates
	cargo fetch --locked
	"$$(e2e/tool cargo-deny)" --locked --offline check bans licenses sources

.PHONY: advisories
advisories: ## dependencies: known vulnerabilities (fetches the RustSec database)
	"$$(e2e/tool cargo-deny)" --locked check advisories

.PHONY: unit
unit: ## unit and doc tests, schema rules, drift of CRDs and versions
	cargo test --locked

.PHONY: chart
chart: ## the Helm chart: lint, tests, README
	"$$(e2e/tool helm)" lint --strict $(CHART)
	"$$(e2e/tool helm-unittest)" --strict $(CHART)
	"$$(e2e/tool helm-docs)" --chart-search-root $(CHART) --log-level warning --dry-run | diff $(CHART)/README.md - \
		|| { echo "$(CHART)/README.md differs from values.yaml: run make fmt" >&2; exit 1; }

.PHONY: integration
integration: ## real ZooKeeper, real Neo4j members, the real tool, on loopback
	e2e/neo4j/build
	e2e/zookeeper/build
	cargo test --locked --features integration --test integration

.PHONY: seeds
seeds: ## clusters of real members that start from copies of every kind; a quarter of an hour
	e2e/neo4j/build
	cargo test --locked --features integration --test integration seed:: -- --include-ignored --test-threads=1

.PHONY: bench
bench: overhead scale ## both benchmarks

.PHONY: overhead
overhead: ## what the agent, as shipped, adds to the tool's own run on a store of MIB=1024
	e2e/neo4j/build
	GBO_PROGRAM="$$(dirname "$$(e2e/image/build)")/graph-backup-operator" \
		cargo bench --locked --profile dev --features integration --bench overhead -- $(or $(MIB),1024)

.PHONY: scale
scale: ## what the operator, as shipped, costs with OBJECTS=10000 finished backups in NAMESPACES=100, SCHEDULES=1000
	e2e/neo4j/build
	GBO_PROGRAM="$$(dirname "$$(e2e/image/build)")/graph-backup-operator" GBO_CLUSTER_PROGRAMS="$$(e2e/programs)" \
		OBJECTS=$(OBJECTS) NAMESPACES=$(NAMESPACES) BACKUPS=$(BACKUPS) SCHEDULES=$(SCHEDULES) SCOPE=$(SCOPE) \
		cargo bench --locked --profile dev --features integration --bench scale
