# Everything a contributor runs. Node 24 comes as a dev dependency; any Node from 20 on bootstraps it.
NODE := node_modules/.bin/node --disable-warning=ExperimentalWarning
REPLICAS ?= 1
# The first of them that is there.
BUILDER ?= $(notdir $(firstword $(foreach name,buildah podman docker,$(shell command -v $(name)))))
# Not empty: `make images` makes lists.
IS_LIST = $(if $(PLATFORMS),$(if $(findstring docker,$(BUILDER)),,yes))
VERSION = $(shell sed -n 's/^  "version": "\(.*\)",/\1/p' package.json)
.DEFAULT_GOAL := help
.PHONY: help install run serve test check generate bench study outage chaos soak images cluster cluster-down e2e-kind clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*## ' Makefile | sed -E 's/^([a-z0-9-]+):.*## (.*)/  make \1\t\2/' | expand -t 22

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
	@node_modules/.bin/tsc -p . --incremental --tsBuildInfoFile node_modules/.cache/tsc.tsbuildinfo
	@echo "Checking lint and format ..."
	@node_modules/.bin/oxlint --type-aware --quiet
	@node_modules/.bin/oxfmt --check
	@echo "Checking imports and dead code ..."
	@$(NODE) node_modules/.bin/depcruise --output-type err crds operator sidecar test
	@$(NODE) node_modules/.bin/knip
	@echo "Checking that generated files are fresh ..."
	@$(NODE) crds/src/generate.ts --check
	@$(NODE) crds/src/generate-catalogue.ts --check

test: check ## check, then all tests; FAREBOX_SEED=n: on other random cases
	@echo "Running the tests ..."
	@$(NODE) test/run.ts

generate: install ## write what is generated: CRDs, reference, price catalogue
	@$(NODE) crds/src/generate.ts
	@$(NODE) crds/src/generate-catalogue.ts

bench: install ## measure the sidecar beside nginx and a direct call
	@$(NODE) test/bench/main.ts

study: install ## what each rung saves on recorded conversations; CONVERSATIONS=n
	@$(NODE) test/study/main.ts $(if $(CONVERSATIONS),--conversations $(CONVERSATIONS))

outage: install ## the table of what an outage of the shared store costs; 8 minutes
	@$(NODE) test/bench/outage.ts

chaos: install ## 30 minutes of faults under three sidecars; SECONDS=n SEED=n MODE=Deny|Allowance
	@$(NODE) test/chaos/main.ts $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(MODE),--mode $(MODE))

soak: install ## a million simulated schedules, others each time, on every core; SCHEDULES=n SEED=n
	@$(NODE) test/soak/main.ts $(if $(SCHEDULES),--schedules $(SCHEDULES)) $(if $(SEED),--seed $(SEED))

# Images of several platforms are a list of them: buildah and podman make one by --manifest, add to one that is there, and push it with
# all that it lists by `manifest push --all`. Docker calls it a tag as well.
images: install ## build the images; REGISTRY=registry.example.com/team BASE=node:24-slim BUILDER=docker PLATFORMS=linux/amd64,linux/arm64
	@test -n "$(BUILDER)" || { echo "buildah, podman or docker is needed"; exit 1; }
	@$(NODE) operator/build.ts
	@$(NODE) sidecar/build.ts
	@for part in operator sidecar; do \
	  image=$(if $(REGISTRY),$(REGISTRY)/)farebox-$$part:$(VERSION); \
	  $(if $(IS_LIST),$(BUILDER) manifest rm $$image >/dev/null 2>&1 || $(BUILDER) rmi $$image >/dev/null 2>&1;) \
	  $(BUILDER) build $(if $(BASE),--build-arg BASE=$(BASE)) $(if $(PLATFORMS),--platform $(PLATFORMS)) $(if $(IS_LIST),--manifest,--tag) $$image --file $$part/Containerfile $$part/dist || exit 1; \
	done

cluster: install ## leave a real cluster standing with the charts installed, and say how to use it
	@$(NODE) test/cluster/main.ts up

cluster-down: install ## end the cluster of `make cluster`
	@$(NODE) test/cluster/main.ts down

e2e-kind: install ## the tests on a node, on a cluster by Docker and kind instead of one of our own
	@FAREBOX_TEST_NODE=kind CI=true $(NODE) test/run.ts test/e2e

clean: ## remove what was installed and left by runs
	@rm -rf node_modules .farebox
