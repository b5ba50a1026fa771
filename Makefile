# `make demo` shows it working, `make test` checks a change, `make verify` what a release needs. All set up what they need:
# requirements/tools.mk says how.

PYTHON ?= python3
TOOLS := .tools
VENV := $(TOOLS)/venv
BIN := $(VENV)/bin
include requirements/tools.mk

# A package is for this machine's architecture unless ARCH says arm64 or x86_64.
ARCH ?= $(subst aarch64,arm64,$(shell uname -m))
TARGET = $(patsubst arm64,aarch64,$(filter arm64 x86_64,$(ARCH)))-unknown-linux-gnu
PACKAGE = target/package/purchasely-clevertap-$(ARCH).zip
# The folder of the crates is not in the binary, so that one commit gives one zip on every machine.
LAMBDA_BUILD = RUSTFLAGS="--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo" PATH="$(abspath $(BIN)):$$PATH" \
	cargo lambda build --locked --skip-target-check --target $(TARGET)
# All builds and tests select the same packages, and so the same features: what they share is compiled once.
CARGO_TEST := cargo test --locked --workspace

STACK ?= purchasely-clevertap
PARAMS ?= params.yaml
BUCKET ?=
ARGS ?=
DEPLOY = cargo --locked relay deploy --stack $(STACK) --params $(PARAMS)
DEPLOYED_ARCH = $$(sed 's/.*"Architecture":"\([^"]*\)".*/\1/' target/params.json)
DELIVERY ?= direct
MINUTES ?= 1
CASES ?= 100000

.DEFAULT_GOAL := help
.PHONY: help demo dev deploy secret doctor test verify check unit aws template vectors golden docs package packaged release cli page \
	commands workflows deployment deny advisories property fuzz soak defects bench capacity clean

help: ## Say what there is to make.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1	/' | expand -t 20
demo: ## Relay every sample webhook to a stand-in CleverTap, and show it.
	cargo --locked relay dev --once --delivery $(DELIVERY)
dev: $(VENV)/dev.done ## Run the function at http://localhost:9000, with stand-ins and a page that shows each webhook.
	cargo --locked relay dev --delivery $(DELIVERY)

# It checks the parameters before it builds. ARGS may be `--yes` and other options of `relay deploy`.
deploy: $(VENV)/deploy.done ## Build the function and deploy the stack STACK with params.yaml.
	@mkdir -p target
	$(DEPLOY) --check --json > target/params.json
	$(MAKE) --no-print-directory package ARCH="$(DEPLOYED_ARCH)"
	$(DEPLOY) --template "target/package/template-$(DEPLOYED_ARCH).yaml" $(if $(BUCKET),--bucket $(BUCKET)) $(ARGS)
secret: $(VENV)/deploy.done ## Check secret.json and store it as the secret of the stack STACK.
	cargo --locked relay secret --stack $(STACK)
doctor: $(VENV)/deploy.done ## Check the deployed stack STACK, up to CleverTap.
	cargo --locked relay doctor --stack $(STACK) --online

test: check unit aws template vectors ## Check what a change needs, in minutes.
verify: packaged cli page deny workflows commands deployment ## Check what a release needs beside `make test`.
test verify:
	@echo "make $@: all of it passed"

# `--test '*'` are the targets that `--all-targets` leaves out.
check: ## Format and lints.
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- --deny warnings
	cargo clippy --locked --workspace --test '*' -- --deny warnings
unit: ## Tests that take Rust alone.
	$(CARGO_TEST)
aws: $(VENV)/deploy.done $(VENV)/emulator.done ## What the function asks of AWS, in an emulator.
	$(CARGO_TEST) --test aws
template: $(VENV)/deploy.done ## Check template.yaml, and what AWS makes of it.
	$(BIN)/python scripts/check_template.py
	$(BIN)/sam validate --lint
vectors: ## Check the vectors and the golden uploads with Python's own implementation.
	$(PYTHON) scripts/check_vectors.py
golden: ## Write tests/golden again, to be reviewed as a diff.
	WRITE_GOLDEN=1 $(CARGO_TEST) --test it every_sample_becomes_its_golden_upload
	git diff --stat -- tests/golden
docs: $(VENV)/dev.done $(VENV)/verify.done browser ## Write tables, demo output, screenshots and the weeks of the alarms, to be reviewed as a diff.
	mkdir -p target
	cargo --locked relay dev --once > target/demo.txt
	UPDATE_DOCS=1 DEMO_OUTPUT=target/demo.txt $(CARGO_TEST) --test it -- documents:: monitoring::weeks
	UPDATE_DOCS=1 $(CARGO_TEST) --test page
	$(BIN)/python -c "import sys; from PIL import Image; [Image.open(file).convert('RGB').quantize(method=1).save(file, optimize=True) for file in sys.argv[1:]]" docs/page-*.png
	git diff --stat -- README.md docs tests

package: $(VENV)/dev.done ## Build the zip that Lambda runs; ARCH is arm64 or x86_64.
	@test -n "$(filter arm64 x86_64,$(ARCH))" || { echo "ARCH=$(ARCH): Lambda knows arm64 and x86_64" >&2; exit 1; }
	@test -d "$$(rustc --print target-libdir --target $(TARGET))" || rustup target add $(TARGET) || \
		{ echo "no Rust target for $(ARCH): install $(TARGET), or choose this machine's architecture" >&2; exit 1; }
	$(LAMBDA_BUILD) --release
	$(BIN)/python scripts/release.py package $(ARCH) target/lambda/purchasely-clevertap/bootstrap

# The second zip is from another folder and another CARGO_HOME, whose crates come from the same cache. $(MAKE) would run
# even in a dry run, which makes no clone.
AGAIN := target/again
packaged: package ## Check the zip: what Lambda requires, its size, a webhook and a panic; and that a second build gives the same.
	PACKAGE=$(abspath $(PACKAGE)) $(CARGO_TEST) --test package
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
	$(BIN)/python scripts/release.py dist $(ARCH) target/lambda/relay/bootstrap

cli: $(VENV)/deploy.done $(VENV)/emulator.done ## Test the commands of the tool that use AWS, with the AWS CLI and an emulator.
	$(CARGO_TEST) --test cli
# First what `cargo lambda watch` would compile, so that no test waits for it.
page: $(VENV)/dev.done browser ## Test `make dev`: the function under `cargo lambda watch`, and the page in a browser.
	cargo build --locked --bin purchasely-clevertap
	$(CARGO_TEST) --test page
commands: $(VENV)/dev.done $(VENV)/deploy.done $(VENV)/emulator.done ## Run the commands of the documentation.
	cargo build --locked --workspace --bins --example relay
	$(BIN)/python scripts/commands.py
workflows: $(VENV)/deploy.done $(VENV)/verify.done ## Check .github, and what the release workflow runs.
	PATH="$(abspath $(BIN)):$$PATH" actionlint .github/workflows/*.yml
	$(BIN)/zizmor --quiet --offline --strict-collection --persona pedantic .github
	$(BIN)/python tests/release.py
# A test waits more than it works, so all run at once.
deployment: release $(VENV)/deploy.done $(VENV)/emulator.done ## Deploy the bundle into an emulator of AWS, which runs the function.
	rm -rf target/bundle && mkdir target/bundle
	tar -xzf "$$(ls -t target/dist/*-$(ARCH)-bundle.tar.gz | head -1)" --strip-components 1 -C target/bundle
	BUNDLE="$(abspath target/bundle)" $(CARGO_TEST) --test deployment -- --nocapture --test-threads 4

deny: $(TOOLS)/bin/cargo-deny ## Check licences, sources and versions of the dependencies.
	$(TOOLS)/bin/cargo-deny --locked --exclude-dev check bans
	$(TOOLS)/bin/cargo-deny --locked --workspace check licenses sources
advisories: $(TOOLS)/bin/cargo-deny ## Check the dependencies for known vulnerabilities, whose list it downloads.
	$(TOOLS)/bin/cargo-deny --locked --workspace check advisories
property: ## Map CASES random payloads and check each record against CleverTap's limits.
	PROPTEST_CASES=$(CASES) cargo test --locked --profile property --test it mapping
# The flags of `cargo fuzz` without a sanitizer, which take no nightly Rust: the function has no unsafe code of its own.
FUZZ_FLAGS := --cfg fuzzing -Cpasses=sancov-module $(addprefix -Cllvm-args=-sanitizer-coverage-,level=4 inline-8bit-counters pc-table trace-compares)
PARSERS ?= envelope signature webhook answer secret
HOST = $(shell rustc --print host-tuple)
fuzz: ## Try each of PARSERS with mutated inputs for MINUTES; takes a C++ compiler. Copy what fails into fuzz/corpus.
	RUSTFLAGS="$(FUZZ_FLAGS)" cargo build --locked --target $(HOST) --profile property --package purchasely-clevertap-fuzz --example libfuzzer
	$(foreach parser,$(PARSERS),mkdir -p target/fuzz/$(parser) && FUZZ=$(parser) target/$(HOST)/property/examples/libfuzzer \
		-max_total_time=$$(($(MINUTES) * 60)) -timeout=10 -verbosity=0 -print_funcs=0 -print_final_stats=1 \
		-artifact_prefix=target/fuzz/$(parser)- target/fuzz/$(parser) fuzz/corpus/$(parser) events &&) true
soak: ## Run simulated worlds for MINUTES, a million events in half an hour; write target/soak/report.md and a plot.
	cargo run --locked --profile property --package purchasely-clevertap-tools --example relay -- simulate --minutes $(MINUTES) --report target/soak $(if $(SEED),--seed $(SEED))
defects: $(VENV)/deploy.done ## Apply deliberate defects, one at a time, in a quarter of an hour: the simulated worlds must find each.
	$(BIN)/python scripts/defects.py
# `make bench ARGS='--quick --only nothing,relay'` measures a few and writes nothing; `ARGS=--help` lists the options.
bench: ARGS = --record
bench: ## Measure the function beside its peers; write the tables and the plot.
	cargo bench --locked --package purchasely-clevertap-benches --bench speed -- $(ARGS)
capacity: ## Count in virtual time what the function carries. `ARGS=--record` writes the table and the plot of docs/costs.md.
	cargo bench --locked --profile property --package purchasely-clevertap-benches --bench capacity -- $(ARGS)
clean: ## Remove what was built and installed.
	rm -rf target $(TOOLS) .aws-sam
