# Everything there is to do here, by one name each. Only Python 3.11 or newer and make are needed.
.DEFAULT_GOAL := help
# Never another Python than the machine's own.
export UV_PYTHON_DOWNLOADS := never
export UV_LINK_MODE := copy
PY := .venv/bin/python
# What is set up once for a file is set up on one core; those that start whole processes come first.
EVERY_CORE := -n auto --dist loadfile --no-loadscope-reorder
# A walk over every page is one test.
E2E := -m e2e -o faulthandler_timeout=1500
# The example as somebody fills it in: where it says replace-me something of their own stands.
REAL := set -a; eval "$$(sed "s/replace-me[a-z0-9-]*/$$(od -An -N24 -tx1 /dev/urandom | tr -d ' \n')&/; s/replace-me//" .env.example)"; set +a; VAR_DIR=$$(mktemp -d); export VAR_DIR; trap 'rm -rf "$$VAR_DIR"' EXIT

help: ## these lines
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: .venv/.run ## everything at http://127.0.0.1:8000/ until Ctrl-C, with a demo; PORT=9000 elsewhere
	@exec $(PY) manage.py run

test: .venv/.all ## the suite; needs no service
	.venv/bin/pytest $(EVERY_CORE)

test-anyday: .venv/.all ## the suite on a random day of the next five years; ANYDAY=2028-02-29T23:59:00Z for one
	ANYDAY=$(or $(ANYDAY),random) .venv/bin/pytest $(EVERY_CORE)

test-services: .venv/.all ## the same on PostgreSQL and Redis, with the races, nginx and compose's services
	@services=$$(tests/services) && eval "$$services" && set -x && .venv/bin/pytest $(EVERY_CORE)

e2e: .venv/.all ## a person at a browser: the main road and every page, the road again on PostgreSQL and Redis
	env -u DATABASE_URL -u REDIS_URL .venv/bin/pytest tests/e2e $(E2E) -n auto --dist loadfile
	@services=$$(tests/services) && eval "$$services" && set -x && .venv/bin/pytest tests/e2e/test_journey.py $(E2E) -n auto

chaos: .venv/.all ## everything breaks while 200,000 are written to, on servers of its own; CHAOS_SEED, CHAOS_RECIPIENTS
	@$(PY) -m tests.chaos

chaos-short: .venv/.all ## the same in three minutes
	@$(PY) -m tests.chaos --short

check: .venv/.all ## lint, types, layers, templates, migrations, settings of the real profile, the lock
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/djade --check --target-version 5.2 $$(git ls-files 'templates/*.html')
	.venv/bin/uv lock --check --offline
	$(PY) manage.py makemigrations --check --dry-run
	@$(REAL); set -x; $(PY) manage.py check --deploy --fail-level WARNING

bench: .venv/.all ## every figure the README quotes, one JSON object a line; BENCH=fanout for one
	@services=$$(tests/services) && eval "$$services" && $(PY) -m benchmarks

screens: .venv/.all ## pictures of every page into docs/screens/
	SCREENS=docs/screens .venv/bin/pytest tests/e2e/test_pages.py $(E2E)

format: .venv/.all ## write everything the one way
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .
	.venv/bin/djade --target-version 5.2 $$(git ls-files 'templates/*.html')

clean: ## forget the environment and everything in var/, the demo's data too
	rm -rf .venv var

# What `make run` needs, and with the tools. `--inexact` keeps the tools when only the first is asked for.
.venv/.run: .venv/bin/uv pyproject.toml uv.lock
	@echo "Installing what Largesse is built of …"
	@.venv/bin/uv sync --quiet --frozen --no-dev --inexact
	@touch $@

.venv/.all: .venv/bin/uv pyproject.toml uv.lock
	@echo "Installing what Largesse is built and tested with …"
	@.venv/bin/uv sync --quiet --frozen --inexact
	@touch $@ .venv/.run

.venv/bin/uv:
	@for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then break; fi; python=; \
	done; \
	if [ -z "$$python" ]; then echo "Python 3.11 or newer is needed, and python3 is not it."; exit 1; fi; \
	if ! $$python -m venv .venv; then \
	  rm -rf .venv; echo "This Python cannot make environments. On Debian: apt-get install python3-venv"; exit 1; \
	fi
	@.venv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

.PHONY: help run test test-anyday test-services e2e chaos chaos-short check bench screens format clean
