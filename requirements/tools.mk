# How the tools get into .tools: Python's packages from these lists, with their hashes, and what is not on PyPI.

# Recipes and tests use these programs, and no others of the same names; `sam` does not call home.
export CARGO_LAMBDA ?= $(abspath $(BIN)/cargo-lambda)
export MINISTACK ?= $(abspath $(BIN)/ministack)
export AWS_CLI ?= $(abspath $(BIN)/aws)
export AXE ?= $(abspath $(TOOLS)/axe.min.js)
export CHROMIUM ?= $(shell command -v chromium || command -v chromium-browser || command -v google-chrome)
export CHROMEDRIVER ?= $(shell command -v chromedriver)
export SAM_CLI_TELEMETRY ?= 0

.PHONY: tools browser requirements

tools: $(patsubst %,$(VENV)/%.done,dev deploy emulator verify) $(TOOLS)/bin/cargo-deny browser ## Install the tools only.

# Ubuntu has Chromium under other names than Debian.
APT := $(if $(filter-out 0,$(shell id -u)),sudo) apt-get --quiet=2 --option APT::Install-Recommends=false
browser: $(TOOLS)/axe.min.js ## Install axe-core and, unless they are there, Chromium and its driver, for the page's test.
	@test -x "$(CHROMIUM)" -a -x "$(CHROMEDRIVER)" || \
		{ $(APT) update && { $(APT) install chromium chromium-driver || $(APT) install chromium-browser chromium-chromedriver; }; } || \
		{ echo "no browser for the page's test: install Chromium and chromedriver, or set CHROMIUM and CHROMEDRIVER to their paths" >&2; exit 1; }

# Each list refers to those before it. The browsers that axe-core's package would bring are not used.
requirements: $(VENV)/uv.done ## Write requirements/*.txt from the .in files, to be reviewed as a diff; UPGRADE=--upgrade takes newer versions.
	cd requirements && for list in uv dev deploy emulator verify; do \
		$(abspath $(BIN)/uv) pip compile --quiet $(UPGRADE) $$(test $$list != verify || echo $(addprefix --unsafe-package=,playwright greenlet pyee)) \
			--universal --python-version=3.11 --generate-hashes $$list.in --output-file $$list.txt || exit; \
	done
	git diff --stat -- requirements

# uv installs a list in a tenth of pip's time. A list is complete: --no-deps installs what is listed.
UV_INSTALL = $(BIN)/uv pip install --quiet --require-hashes --no-deps -r $< --python
$(VENV)/uv.done: requirements/uv.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	touch $@

$(VENV)/%.done: requirements/%.txt $(VENV)/uv.done
	$(UV_INSTALL) $(VENV)
	touch $@

# It has an environment of its own, because it and `sam` each name one version of a package of AWS's.
$(VENV)/emulator.done: requirements/emulator.txt $(VENV)/uv.done
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(TOOLS)/emulator
	$(UV_INSTALL) $(TOOLS)/emulator
	ln -sf $(abspath $(TOOLS)/emulator/bin/ministack) $(BIN)/ministack
	touch $@

$(TOOLS)/axe.min.js: $(VENV)/verify.done
	cp $(VENV)/lib/python3.*/site-packages/axe_playwright_python/axe.min.js $@

# An unoptimised build takes less time, and the check still takes only six seconds.
$(TOOLS)/bin/cargo-deny:
	CARGO_PROFILE_DEV_DEBUG=false cargo install --debug --locked --quiet --root $(TOOLS) --target-dir $(TOOLS)/build cargo-deny@0.20.2
	rm -rf $(TOOLS)/build
