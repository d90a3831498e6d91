.DEFAULT_GOAL := help
export UV_PYTHON_DOWNLOADS := never
export UV_PROJECT_ENVIRONMENT := .venv
PY := .venv/bin/python
ROOMS := config studio messaging distribution library groups accounts rows

help: ## what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-15s %s\n", $$1, $$2}'

.venv/installed: pyproject.toml uv.lock
	@test -x .venv/bin/uv || (python3 -m venv .venv && .venv/bin/pip install -q uv)
	@.venv/bin/uv sync -q --frozen --inexact
	@touch $@

check: .venv/installed ## lint, types, layers, templates, migrations, deploy check
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/djade --check --target-version 5.2 $$(git ls-files 'templates/**.html')
	$(PY) manage.py makemigrations --check --dry-run

test: .venv/installed ## the whole suite, no service needed
	.venv/bin/pytest -n auto -q

.PHONY: help check test
