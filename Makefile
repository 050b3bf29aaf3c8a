# `make demo` and `make test` are each enough on a fresh machine with Python >= 3.11 and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What is installed is remembered in a stamp: a second call installs nothing.
STAMP := $(VENV)/.installed

# The CPU build of torch, unless this machine has an NVIDIA GPU. Only Linux and Windows wheels carry the +cpu tag.
TORCH := $(shell sed -n 's/^torch==//p' constraints.txt)
ifeq ($(shell uname -s),Linux)
ifeq ($(shell command -v nvidia-smi),)
TORCH := $(TORCH)+cpu
endif
endif

.PHONY: setup demo test slow bench clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "latente needs Python >= 3.11, this is " + sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q torch==$(TORCH) 2>/dev/null \
	  || $(BIN)/python -m pip install -q --index-url https://download.pytorch.org/whl/cpu torch==$(TORCH)
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[frames,dev]'
	touch $(STAMP)

demo: setup
	$(BIN)/latente demo

test: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest

# The long campaigns: run before an issue is resolved.
slow: setup
	$(BIN)/pytest -m slow -n 0

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info
