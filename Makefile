# Two commands: `make up` deploys an object store on VMs, `make serve` runs one on this machine.
# The targets only name things; what they do is in scripts/, tests/run.py and the command itself.

SHELL := /bin/bash
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

STACK ?= local
DATA ?= build/data
LISTEN ?= 127.0.0.1:7200
BIN := .venv/bin
RUN := PYTHONPATH=$(CURDIR)/pulumi $(BIN)/python -m tests.run

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z%-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The first administrator of `make serve` is known to everybody, so only where nobody else can reach
# it; on any other address the store makes keys at its first start and prints them once.
ifneq ($(filter 127.% localhost:% [::1]:%,$(LISTEN)),)
serve: export OBJECTSTORE_ROOT_ACCESS_KEY ?= developer
serve: export OBJECTSTORE_ROOT_SECRET_KEY ?= only-for-this-machine
endif
serve: ## Run a store on this machine: http and https on LISTEN, data in DATA
	@scripts/venv serve
	@[ "$$OBJECTSTORE_ROOT_ACCESS_KEY" != developer ] || \
	  echo "administrator: access key developer, secret key $$OBJECTSTORE_ROOT_SECRET_KEY"
	@exec $(BIN)/objectstore serve --data $(DATA) --listen $(LISTEN)

up: ## Deploy STACK on VMs of its own, or bring it up to date (root, Debian 12 or 13)
	@scripts/deploy up $(STACK)

down: ## Destroy STACK and everything it made
	@scripts/deploy down $(STACK)

host: ## Make this machine able to deploy: install and start Incus
	@scripts/deploy host

bundle: ## Build what a deployment is made of; VERSION=1.2.3: a release
	@scripts/venv deploy
	@$(BIN)/objectstore bundle build $(if $(VERSION),--version $(VERSION))

preview: ## Show what `make up` would change
	@scripts/deploy preview $(STACK)

refresh: ## Look at what exists of STACK, so that `make up` sees what was changed
	@scripts/deploy refresh $(STACK)

backup: ## Keep the keys and settings of STACK in one sealed archive (docs/howto/backup.md)
	@scripts/deploy backup $(STACK)

restore: ## Put back what the archive BACKUP holds on this machine
	@scripts/venv deploy
	@$(BIN)/objectstore backup restore $(BACKUP)

outputs: ## Show what STACK is: endpoints, addresses, VMs (JSON)
	@scripts/venv deploy
	@$(BIN)/objectstore stack output --stack $(STACK) --json

lint: ## Style, types, import layers, tidy
	@scripts/venv test
	@$(RUN) --keep-going ruff format types layers tidy

test: ## Everything that can be tested on this machine, a real deployment included
	@scripts/venv test
	@$(RUN)

test-%: ## One stage of it: make test-unit, test-s3, … (`make stages` lists them)
	@scripts/venv test
	@$(RUN) $*

stages: ## List the stages of `make test`
	@scripts/venv test
	@$(RUN) --list

lab: ## Real S3 clients against OBJECTSTORE_TEST_ENDPOINT, or a store of their own
	@scripts/venv test
	@$(RUN) lab

bench: ## Measure the store beside its peers on this disk (QUICK=1: shorter; BENCH=options)
	@scripts/venv bench
	@$(BIN)/python -m tests.bench $(if $(QUICK),--quick) $(BENCH)

bench-cluster: ## Measure the store on RADOS beside radosgw (QUICK=1: shorter; BENCH=options)
	@scripts/venv bench
	@$(BIN)/python -m tests.ceph.host
	@$(BIN)/python -m tests.bench.cluster $(if $(QUICK),--quick) $(BENCH)

faults-cluster: ## Break the deployed STACK bit by bit under load (FAULTS="pod-kill": only that)
	@scripts/venv test
	@PYTHONPATH=$(CURDIR)/pulumi $(BIN)/python -m tests.faults.cluster --stack $(STACK) $(FAULTS)

requirements: ## Lock the dependencies of pyproject.toml anew
	@scripts/venv test
	@scripts/lock

.PHONY: help serve up down host bundle preview refresh backup restore outputs lint test stages \
  lab bench bench-cluster faults-cluster requirements
