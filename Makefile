# Each target stands on its own: it makes and fills .venv first if that is not there.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check clean

demo: .venv/ready
	$(BIN)/python examples/demo.py

test: .venv/ready
	$(BIN)/python -m pytest -m "not slow"

check: .venv/ready
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	@# mypy cannot see that adapters/ is sdc_ext.adapters, so it gets the tree as installed.
	rm -rf build/types && mkdir -p build/types && cp -r sdc_ext build/types
	cp -r adapters build/types/sdc_ext/adapters
	cd build/types && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p sdc_ext

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -e ".[dev]"
	touch $@

clean:
	rm -rf .venv
