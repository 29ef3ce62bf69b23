# Each target that needs .venv makes and fills it first.
PYTHON ?= python3
BIN := .venv/bin
FAST := -m "not slow" -n logical --maxprocesses 4 --dist worksteal

.PHONY: demo test check docs lowest gpu wheels package clean

demo: .venv/ready
	$(BIN)/python examples/demo.py

test: .venv/ready
	$(BIN)/python -m pytest $(FAST)

# What gates a change beside the tests; the pages are built without executing the tutorials.
check: .venv/ready build/tree
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/codespell
	cd build/tree && ../../$(BIN)/mypy --config-file ../../pyproject.toml -p sdc_ext
	$(BIN)/python -m pytest -q tests/test_layers.py tests/test_surface.py tests/cli/test_page.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# The whole site with the results of the tutorials, which gain nothing from threads, in build/site.
docs: .venv/ready build/tree
	OMP_NUM_THREADS=1 DOCS_EXECUTE=true NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# The packages as they are installed, since adapters/ is sdc_ext.adapters: mypy and the API pages
# read them so.
.PHONY: build/tree
build/tree:
	rm -rf $@ && mkdir -p $@ && cp -r sdc_ext $@ && cp -r adapters $@/sdc_ext/adapters

# The tests with the lowest versions that pyproject.toml allows.
lowest:
	$(PYTHON) -m pip install --quiet --target build/uv uv
	PYTHONPATH=build/uv $(PYTHON) -m uv venv --clear --seed --python $(PYTHON) build/lowest
	PYTHONPATH=build/uv $(PYTHON) -m uv pip install --python build/lowest/bin/python \
		--resolution lowest-direct -e ".[dev]"
	build/lowest/bin/python -m pytest $(FAST)

# Checks the GPU at hand in under ten minutes and writes docs/gpu.md. DC and MTT are checkouts of the
# originals; PYTHON is not .venv's, since a GPU's machine may have a torch of its own and no network.
gpu:
	$(PYTHON) benchmarks/gpu.py $(if $(DC),--dc $(DC)) $(if $(MTT),--mtt $(MTT))

# What gpu needs beside torch, in build/wheels, to be carried to a machine without a network.
wheels: .venv/ready
	mkdir -p build/wheels && $(BIN)/python benchmarks/gpu_wheels.py > build/wheels/list.txt
	$(BIN)/python -m pip download --quiet --no-deps --only-binary=:all: -d build/wheels \
		$(if $(FOR),--python-version $(FOR)) -r build/wheels/list.txt

# Wheel and sdist in dist/, of which the wheel is tried in a bare environment, away from here.
package: .venv/ready
	rm -rf dist build/bare && $(BIN)/python -m build
	$(PYTHON) -m venv build/bare && build/bare/bin/python -m pip install --quiet dist/*.whl
	cd build && bare/bin/python ../tests/readme_example.py ../README.md

.venv/ready: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -e ".[dev]"
	touch $@

clean:
	rm -rf .venv build dist
