# One or two lines per target; the work is in scripts/ and dev/. `make` prints this list.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
s ?= gateway

.PHONY: help bench-autoscaling setup demo up down status logs check format protos test unit integration e2e chaos simulate bench bench-compare bench-exchange bench-growth bench-budget bench-turns bench-report bench-ingest bench-search bench-rerank bench-jobs eval-retrieval flame lock reference images helm-golden test-cluster terraform deploy sbom chart release-check publish sign test-compatibility integration-pooled store-programs clean

help: ## Print this list
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n\033[1m%s\033[0m\n", substr($$0, 5)} /^[a-z0-9-]+:.*## / {printf "  \033[36m%-19s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

##@ The fleet
demo: setup ## Start the fleet and answer a question about a document, with sources and cost
	@$(PY) -m argosy_dev demo

up: setup ## Start the fleet: Postgres, Redis, Kafka, a language model and the five services
	@$(PY) -m argosy_dev up

down: ## Stop the fleet and all its processes
	@if [ -x $(PY) ]; then $(PY) -m argosy_dev down; fi

status: setup ## Show each part with its port, memory and uptime
	@$(PY) -m argosy_dev status

logs: setup ## Follow the log of a part: make logs s=gateway
	@$(PY) -m argosy_dev logs -f $(s)

##@ Checks and tests
check: setup ## Format, lint, types, import contracts, generated files fresh: under a minute
	@scripts/check

test: setup ## Run all tests; starts what they need
	@scripts/test

unit: setup ## Only the tests that need no running parts
	@scripts/test unit

integration: setup ## Only the tests of adapters on real Postgres, Redis and Kafka
	@scripts/test integration

integration-pooled: setup ## The services' tests of Postgres behind PgBouncer: make integration-pooled a='-k money'
	@ARGOSY_TEST_POOLING=transaction $(PY) -m pytest -q -n 2 services/*/tests/integration $(a)

store-programs: ## Install Debian's PgBouncer, and Postgres and Redis with TLS, for the tests of managed stores
	@scripts/store-programs

e2e: setup ## Only the tests through the whole fleet
	@scripts/test e2e

chaos: setup ## Kill and freeze every part under load and check that nothing is lost: make chaos a='-k pairing'
	@scripts/test chaos $(a)

simulate: setup ## Simulate jobs in virtual time, 2,000 seeds: make simulate a='--seed 7'
	@$(PY) -m services.orchestrator.tests.simulation $(a)

test-cluster: setup ## Install the charts on the cluster that kubectl points at, and test them there: make test-cluster a='-k install'
	@TESTS_CLUSTER=1 $(PY) -m pytest -q -rsP -n 0 tests/cluster $(a)

test-compatibility: setup ## Run each service of another version beside today's others: COMPATIBLE_WITH=v1.2.3
	@scripts/compatibility

bench: setup ## Measure the hot path on a fleet of its own: make bench a=--help
	@$(PY) -m tests.load.bench $(a)

bench-compare: setup ## The same through LiteLLM's proxy, in the same run
	@$(PY) -m tests.load.compare $(a)

bench-growth: setup ## CPU per request at more tenants, keys, larger bodies, fuller tables
	@$(PY) -m tests.load.growth $(a)

bench-exchange: setup ## The same method by the exchange and by grpc.aio
	@$(PY) -m tests.load.exchange $(a)

bench-budget: setup ## CPU per request against the committed baseline: a minute
	@$(PY) -m tests.load.budget $(a)

bench-turns: setup ## CPU per request beside another checkout's, in turns: make bench-turns AGAINST=folder
	@$(PY) -m tests.load.turns $(AGAINST) $(a)

flame: setup ## Record a flame graph of a service at saturation: make flame s=gateway, s=all
	@$(PY) -m tests.load.flame $(s) $(a)

bench-report: setup ## Put the results in docs/benchmarks/*.json into docs/benchmarks.md
	@$(PY) -m tests.load.report

bench-jobs: setup ## Measure jobs on a fleet of their own: make bench-jobs a=--help
	@$(PY) -m tests.load.jobs $(a)

bench-autoscaling: setup ## Model a day of jobs, scaled by the queue metric, in virtual time
	@$(PY) -m tests.load.autoscaling

bench-ingest: setup ## Measure ingestion on the running fleet, and against the commit before: make bench-ingest a=--help
	@$(PY) -m tests.load.ingest $(a)

bench-search: setup ## Measure searches on filled tables, against the commit before, in turns: make bench-search a=--help
	@$(PY) -m tests.load.search $(a)

bench-rerank: setup ## Measure cross-encoders of three sizes with random weights on the best 50 passages
	@$(PY) -m tests.load.rerank $(a)

eval-retrieval: setup ## Quality of search on a data set in BEIR's format, on the running fleet's Postgres: make eval-retrieval DATA=folder
	@$(PY) -m services.retrieval.tests.quality $(DATA)

##@ Work on it
setup: ## Install what the project needs into .venv and .argosy
	@scripts/setup

format: setup ## Format the code and fix what the linter can
	@.venv/bin/ruff check --quiet --fix . ; .venv/bin/ruff format --quiet .

protos: setup ## Generate the stubs and check the messages
	@.venv/bin/buf format -w proto && .venv/bin/buf lint proto && scripts/protos

reference: setup ## Generate docs/reference and docs/degraded.md from the code
	@$(PY) scripts/reference.py && $(PY) scripts/degraded.py

lock: setup ## Resolve requirements.lock again: make lock a=--upgrade
	@scripts/lock $(a)

images: ## Build the images of all services, or of one: make images s=gateway TAG=dev
	@scripts/images $(if $(filter command line,$(origin s)),$(s))

helm-golden: setup ## Render the chart's scenarios again, and the table of its values
	@$(PY) scripts/helm_charts.py golden; $(PY) scripts/helm_charts.py table

terraform: setup ## Format Terraform, write its READMEs, run its tests with a mocked provider
	@command -v terraform > /dev/null && terraform fmt -recursive terraform; $(PY) -m scripts.terraform_checks docs && $(PY) -m scripts.terraform_checks test

deploy: ## Terraform apply, then helm upgrade: make deploy ENV=staging TAG=1.2.3; PLAN=1 only shows the plan
	@TAG="$(TAG)" PLAN="$(PLAN)" scripts/deploy "$(ENV)"

##@ Release
release-check: setup ## Check that tag, packages, charts and wire have one version: make release-check TAG=v1.2.3
	@TAG="$(TAG)" scripts/release check

sbom: setup ## Write the bill of materials of each image, CycloneDX: dist/release/sbom
	@$(PY) -m scripts.sbom dist/release/sbom

chart: ## Package the chart: make chart TAG=v1.2.3
	@TAG="$(TAG)" scripts/release chart

publish: ## Push images and chart, and note their digests
	@TAG="$(TAG)" scripts/release publish

sign: ## Sign what was pushed, and attest its bills of materials
	@TAG="$(TAG)" scripts/release sign

clean: down ## Remove what setup installed and all state of the fleet
	@rm -rf .venv .argosy .mypy_cache .ruff_cache .hypothesis .import_linter_cache tests/e2e/node/node_modules
