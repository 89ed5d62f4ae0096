# The two commands of the README are `make demo` and `make test`; `make help` lists the rest.
PYTHON ?= python3
BIN    := .venv/bin
GOLDEN ?= ../shared/golden
ASSETS := stableavatar_jax/demo/assets
IMAGE  ?= $(ASSETS)/character.png
AUDIO  ?= $(ASSETS)/speech.flac
OUTPUT ?= outputs/demo.mp4
# What is imported is compiled then: compiling all that is installed takes most of a minute.
PIP    := --no-compile -c constraints.txt
# A file is run by one process: what its tests share is made once.
SHARED := -n 2 --dist loadfile --no-loadscope-reorder
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test golden parity tpu docs lint clean
help:    ## this list
	@grep -hE '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

.venv/stamp: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "Installing into .venv; it takes minutes, and about 2 GB of disk."
	$(BIN)/pip install $(PIP) -e '.[dev,training]'
	touch $@

# torch stays out of .venv: it lives where the comparisons with PyTorch run, and nowhere else. The rest is read from .venv.
.venv-parity/stamp: .venv/stamp
	$(PYTHON) -m venv .venv-parity
	@echo "Installing PyTorch into .venv-parity."
	echo "import site; site.addsitedir('$$(realpath .venv/lib/python*/site-packages)')" \
		> $$(realpath .venv-parity/lib/python*/site-packages)/from_venv.pth
	.venv-parity/bin/pip install $(PIP) torch==2.13.0 diffusers==0.42.1 peft==0.21.2
	touch $@

setup: .venv/stamp ## make .venv with all that the tests and the commands of README and docs need

demo: .venv/stamp ## a drawn character speaks a recording (IMAGE=, AUDIO=, OUTPUT= for your own)
	@mkdir -p "$$(dirname "$(OUTPUT)")"
	$(BIN)/stableavatar-demo --image "$(IMAGE)" --audio "$(AUDIO)" --output "$(OUTPUT)"

test: lint ## all tests but the reference numbers and the comparisons with PyTorch
	$(BIN)/python -m pytest -q $(SHARED) tests --ignore tests/golden --ignore tests/parity \
		--jaxtyping-packages=stableavatar_jax,beartype.beartype

golden: .venv/stamp ## the reference numbers in GOLDEN (default ../shared/golden)
	$(BIN)/python -m pytest -q -n 2 tests/golden --golden $(GOLDEN)

parity: .venv-parity/stamp ## against PyTorch and transformers, in an environment of its own
	.venv-parity/bin/python -m pytest -q tests/parity

tpu:     ## the transformer compiled for a TPU, on this machine's CPU (0.7 GB to install)
	$(PYTHON) -m venv .venv-tpu
	.venv-tpu/bin/pip install -q -c constraints.txt -e '.[dev,tpu]'
	TPU_SKIP_MDS_QUERY=1 JAX_PLATFORMS=cpu .venv-tpu/bin/python -m pytest -q -s tests/tpu

docs: .venv/stamp ## write docs/options.md, the reference of all options, from the code
	$(BIN)/python docs/options.py

lint: .venv/stamp ## ruff, import layers, types
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

clean:   ## remove the environments
	rm -rf .venv .venv-parity .venv-tpu
