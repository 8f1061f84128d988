# Two commands on a fresh machine: `make pipeline` and `make test`. Each does its own set-up.
#
#   make pipeline                          the embedded demo model
#   make pipeline MODEL=Qwen/Qwen3.5-9B    a Hub model, or a local folder
#     CONFIG=file.yaml   OUT=folder   STORE=folder   SET="a.b=c d.e=f"

MODEL  ?=
CONFIG ?=
OUT    ?=
STORE  ?=
SET    ?=
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
TORCH  ?= 2.13.0
PYTEST_ARGS ?=

RUN_ARGS = $(if $(MODEL),--model "$(MODEL)") $(if $(CONFIG),--config "$(CONFIG)") \
           $(if $(OUT),--out "$(OUT)") $(if $(STORE),--store "$(STORE)") $(foreach s,$(SET),--set "$(s)")

.PHONY: pipeline plan build test lint type unit tools schema doctor venv venv-dev clean

pipeline: $(VENV)/.ready
	@$(BIN)/llamacpp-pipeline run $(RUN_ARGS)

plan: $(VENV)/.ready
	@$(BIN)/llamacpp-pipeline plan $(RUN_ARGS)

build: $(VENV)/.ready
	@$(BIN)/llamacpp-pipeline build

doctor: $(VENV)/.ready
	@$(BIN)/llamacpp-pipeline doctor

test: lint type unit tools

lint: $(VENV)/.ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/codespell llamacpp_pipeline tests configs docs README.md CONTRIBUTING.md CHANGELOG.md

type: $(VENV)/.ready-dev
	$(BIN)/mypy

unit: $(VENV)/.ready-dev
	$(BIN)/pytest tests/unit tests/process -n auto -q $(PYTEST_ARGS)

tools: $(VENV)/.ready-dev build
	$(BIN)/pytest tests/tools --run-tools -q $(PYTEST_ARGS)

schema: $(VENV)/.ready
	$(BIN)/llamacpp-pipeline schema > configs/pipeline.schema.json

venv: $(VENV)/.ready
venv-dev: $(VENV)/.ready-dev

$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) not found: install Python 3.10 or later, or name one with PYTHON=" >&2; exit 3; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "$(PYTHON) is older than 3.10: name a newer one with PYTHON=" >&2; exit 3; }
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "no virtual environment could be made: on Debian and Ubuntu, apt-get install python3-venv" >&2; exit 3; }

# torch is needed by the converter alone. Its CPU build is a tenth of the default one: taken from
# where pip already looks if it is there, else from PyTorch's own index (uv knows it), else as it comes.
$(VENV)/.torch: | $(BIN)/pip
	$(BIN)/pip install --quiet "torch==$(TORCH)+cpu" 2>/dev/null \
	  || { $(BIN)/pip install --quiet uv && $(BIN)/uv pip install --quiet --python $(BIN)/python --torch-backend cpu "torch==$(TORCH)"; } \
	  || $(BIN)/pip install --quiet "torch==$(TORCH)"
	@touch $@

$(VENV)/.ready: pyproject.toml | $(BIN)/pip $(VENV)/.torch
	$(BIN)/pip install --quiet --editable ".[build,convert,parquet,plots]"
	@touch $@

$(VENV)/.ready-dev: pyproject.toml $(VENV)/.ready
	$(BIN)/pip install --quiet --editable ".[build,convert,parquet,plots,dev]"
	@touch $@

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache
