# Everything from a bare checkout: each target sets up what it needs and what has changed, and nothing else.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help
# Where it is set (images of build machines do), each of the thousands of processes that tests start would compile all it imports.
unexport PYTHONDONTWRITEBYTECODE

# Which packages live in .venv (Airflow's side has an environment of its own), and what is looked at.
DEMO_PACKAGES := packages/aiflow-sdk packages/aiflow-service
DEV_PACKAGES := $(DEMO_PACKAGES) $(wildcard packages/aiflow-example-plugin)
PYTHON_FOLDERS := $(wildcard packages tests examples benchmarks scripts)
TYPED_FOLDERS := $(foreach package,$(DEV_PACKAGES),$(package)/src) tests $(wildcard benchmarks)

BIN := .venv/bin
# Three on two cores: much of what tests do is waiting.
PYTEST_OPTIONS ?= -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help demo airflow test compose soak fuzz check bench format lock setup spark clean

help: ## Show this list.
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

demo: ## Run the flights demo: a feature table from a lake, in two minutes, with nothing prepared.
	@scripts/environment.sh demo $(DEMO_PACKAGES)
	$(BIN)/python examples/flights/demo.py

airflow: ## Start an Airflow with the examples deployed to it, at http://127.0.0.1:8080, until Ctrl-C.
	@[ -f .venv/.installed-dev ] || scripts/environment.sh demo $(DEMO_PACKAGES)
	scripts/airflow_environment.sh
	$(BIN)/python scripts/airflow_demo.py $(AIRFLOW)

test: check ## Set up, check and run all tests (one: make test TESTS=tests/unit/test_x.py; in all combinations: WHOLE=1).
	@scripts/servers.sh
	scripts/airflow_environment.sh
	if [ -n "$(TESTS)" ]; then $(BIN)/python -m pytest $(PYTEST_OPTIONS) $(TESTS); exit; fi
	# Those that talk to a live Airflow wait most of the time: all others run meanwhile, and give way to them, since
	# they count seconds. What a shell puts into the background is deaf to Ctrl-C unless it is told otherwise, and so is
	# all of this where it was put there itself.
	mkdir -p build
	env --default-signal=INT $(BIN)/python -m pytest tests/airflow/live >build/tests-live.log 2>&1 & live=$$!
	env --default-signal=INT nice -n 5 .venv-airflow/bin/python -m pytest tests/airflow >build/tests-airflow.log 2>&1 & inside=$$!
	env --default-signal=INT nice -n 5 $(BIN)/python -m pytest $(PYTEST_OPTIONS) --ignore tests/airflow && code=0 || code=$$?
	wait $$live || code=$$((code | $$?))
	wait $$inside || code=$$((code | $$?))
	cat build/tests-live.log build/tests-airflow.log
	exit $$code

compose: setup ## Start the services of deploy/compose.yaml as processes and run pipelines in them, on Celery.
	@scripts/celery_environment.sh
	$(BIN)/python scripts/try_compose.py

soak: setup ## Send the service a million events, kill writers of the lake 5,000 times; EVENTS=100000 SOAK="--kills 500" for less.
	@scripts/servers.sh
	$(BIN)/python benchmarks/soak.py --events $(or $(EVENTS),1000000)
	PYTHONPATH=tests/lib $(BIN)/python -m cells.soak $(SOAK)

fuzz: setup ## Send the service what its OpenAPI document allows, and what it does not, for an hour; FUZZ=20 for less.
	API_EXAMPLES=$(or $(FUZZ),200) $(BIN)/python -m pytest tests/service/test_sent.py

check: setup ## Lint, format, types, layers.
	@scripts/airflow_environment.sh
	$(BIN)/ruff check $(PYTHON_FOLDERS)
	$(BIN)/ruff format --check $(PYTHON_FOLDERS)
	# Two of them at once: one in the other's cache ends with an internal error.
	.venv-airflow/bin/mypy --cache-dir .mypy_cache/airflow packages/aiflow-airflow/src tests/airflow/*.py benchmarks/airflow/*.py & inside=$$!
	$(BIN)/mypy $(TYPED_FOLDERS) && code=0 || code=$$?
	wait $$inside || code=$$?
	[ $$code = 0 ]
	$(BIN)/lint-imports

bench: setup ## Measure against the bare engines; prints a table of ratios.
	@scripts/airflow_environment.sh
	$(BIN)/python benchmarks/run.py $(BENCHMARKS)

format: setup ## Let ruff repair and format what it can.
	@$(BIN)/ruff check --fix --quiet $(PYTHON_FOLDERS) || true
	$(BIN)/ruff format $(PYTHON_FOLDERS)

setup: ## Bring .venv up to date (skipped while nothing has changed).
	@scripts/environment.sh dev $(DEV_PACKAGES)

spark: ## Bring .venv-spark up to date: Spark on the JVM with Delta, for foreign tables and a benchmark.
	@scripts/spark_environment.sh

COMPILE = .venv-uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-annotate --no-emit-index-url --no-emit-find-links $(if $(UPGRADE),--upgrade)

lock: ## Write locks/*.txt anew from locks/*.in; pins stay unless UPGRADE=1.
	@scripts/environment.sh uv
	$(COMPILE) locks/bootstrap.in -o locks/bootstrap.txt
	$(COMPILE) $(addprefix --no-emit-package ,$(notdir $(DEV_PACKAGES))) locks/dev.in -o locks/dev.txt
	$(COMPILE) $(addprefix --no-emit-package ,$(notdir $(DEMO_PACKAGES))) -c locks/dev.txt locks/demo.in -o locks/demo.txt
	$(COMPILE) $(addprefix --no-emit-package ,aiflow-sdk aiflow-airflow) locks/airflow.in -o locks/airflow.txt
	$(COMPILE) $(addprefix --no-emit-package ,aiflow-sdk aiflow-airflow) -c locks/airflow.txt locks/celery.in -o locks/celery.txt
	$(filter-out --generate-hashes,$(COMPILE)) --no-emit-package aiflow-sdk locks/examples.in -o examples/flights/requirements.txt
	for example in hourly_daily user_features; do cp examples/flights/requirements.txt examples/$$example; done
	$(COMPILE) locks/servers.in -o locks/servers.txt
	scripts/environment.sh dev $(DEV_PACKAGES)
	scripts/servers.sh lock
	$(COMPILE) locks/spark.in -o locks/spark.txt

clean: ## Remove environments, caches and what runs left behind.
	@rm -rf .venv .venv-uv .venv-servers .venv-spark .venv-airflow .venv-celery .aiflow build dist .pytest_cache .mypy_cache .ruff_cache \
		.import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
