# Everything below works on a bare machine with Python 3.11 or newer; the first use makes .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

FUZZ_SECONDS ?= 20
# Of the tests: one for each core, at most four, as each holds torch; WORKERS=0 runs them in one process.
WORKERS ?= logical

.PHONY: test test-all test-browser fuzz lint format demo docs man model-wheel dist clean

test: $(VENV)/dev
	OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --maxprocesses 4 --dist worksteal

test-all: $(VENV)/dev
	$(BIN)/pytest -m "slow or not slow"

test-browser: $(VENV)/browser
	$(BIN)/pytest -m browser tests/browser

fuzz: $(VENV)/fuzz
	PYTHONPATH=tests $(BIN)/python -m fuzz.fuzz_container --seconds $(FUZZ_SECONDS)
	PYTHONPATH=tests $(BIN)/python -m fuzz.fuzz_decoder --seconds $(FUZZ_SECONDS)

lint: $(VENV)/dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict src/rdeic benchmarks scripts

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: $(VENV)/core
	$(BIN)/python scripts/demo.py

man: $(VENV)/core
	$(BIN)/python scripts/man_page.py

# A model folder, or the name of an installed model, as a wheel in dist/.
MODEL ?= mini

model-wheel: $(VENV)/dev
	$(BIN)/python scripts/model_wheel.py $(MODEL)

# The sdist and the wheel, and the wheel tried on every Python from 3.11 to 3.14 that is here.
dist: $(VENV)/dev
	$(BIN)/python scripts/release.py

docs: $(VENV)/dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo build/site/index.html

clean:
	rm -rf $(VENV) build dist demo.png

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/core: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/dev: $(VENV)/core
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,train,eval,ray,serve,docs]'
	touch $@

$(VENV)/fuzz: $(VENV)/dev
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[fuzz]' || echo 'no atheris for this Python: fuzzing by chance'
	touch $@

# Chromium is Debian's; RDEIC_CHROMIUM names another one.
$(VENV)/browser: $(VENV)/dev
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[browser]'
	test -n "$$RDEIC_CHROMIUM" || command -v chromium || apt-get install --yes --no-install-recommends chromium
	touch $@
