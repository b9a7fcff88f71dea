# Everything a contributor runs. Node 24 comes as a dev dependency; any Node from 20 on bootstraps it.
NODE := node_modules/.bin/node --disable-warning=ExperimentalWarning
REPLICAS ?= 1
.DEFAULT_GOAL := help
.PHONY: help install run serve test check generate bench outage chaos soak clean

help: ## list the targets
	@grep -hE '^[a-z]+:.*## ' Makefile | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

install: node_modules/.installed ## install what the project needs

node_modules/.installed: package-lock.json package.json
	@command -v npm >/dev/null || { echo "npm is missing: install Node 20 or later, which brings it"; exit 1; }
	@node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 20 ? 1 : 0)' || { echo "Node 20 or later is needed; this is $$(node --version)"; exit 1; }
	@echo "Installing the packages of package-lock.json (once; about a minute) ..."
	@npm ci --no-audit --no-fund --loglevel=error
	@touch $@

run: install ## play recorded conversations through three priced plans; REPLICAS=3: so many sidecars on one Valkey
	@bin/farebox demo --replicas $(REPLICAS)

serve: install ## the same, and stay up
	@bin/farebox demo --serve

check: install ## types, lint, format, import direction, dead code, generated files
	@echo "Checking types ..."
	@node_modules/.bin/tsc -p .
	@echo "Checking lint and format ..."
	@node_modules/.bin/oxlint --type-aware --quiet
	@node_modules/.bin/oxfmt --check
	@echo "Checking imports and dead code ..."
	@$(NODE) node_modules/.bin/depcruise --output-type err crds operator sidecar test
	@$(NODE) node_modules/.bin/knip
	@echo "Checking that generated files are fresh ..."
	@$(NODE) crds/src/generate.ts --check
	@$(NODE) crds/src/generate-catalogue.ts --check

test: check ## check, then all tests
	@echo "Running the tests ..."
	@$(NODE) test/run.ts

generate: install ## write what is generated: CRDs, reference, price catalogue
	@$(NODE) crds/src/generate.ts
	@$(NODE) crds/src/generate-catalogue.ts

bench: install ## measure the sidecar beside nginx and a direct call
	@$(NODE) test/bench/main.ts

outage: install ## the table of what an outage of the shared store costs; 8 minutes
	@$(NODE) test/bench/outage.ts

chaos: install ## 30 minutes of faults under three sidecars; SECONDS=n SEED=n MODE=Deny|Allowance
	@$(NODE) test/chaos/main.ts $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(MODE),--mode $(MODE))

soak: install ## a million simulated schedules on every core; SCHEDULES=n SEED=n
	@$(NODE) test/soak/main.ts $(if $(SCHEDULES),--schedules $(SCHEDULES)) $(if $(SEED),--seed $(SEED))

clean: ## remove what was installed and left by runs
	@rm -rf node_modules .farebox
