# `make` alone lists the targets. They need make and Python 3.12 or newer; all else goes into .venv, from uv.lock.

PYTHON := .venv/bin/python
STAMP := .venv/.installed

# The uv in .venv, if there had to be one. UV_PYTHON, or uv would look for the very version in .python-version.
UV := UV_PROJECT_ENVIRONMENT=.venv UV_PYTHON=$(PYTHON) PATH="$(CURDIR)/.venv/bin:$$PATH" uv

.DEFAULT_GOAL := help
.PHONY: help dev test check fix revision bench bench-check vercel-build

help:
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# `exec`: no shell stands between make and the server, so the signal that ends make ends the server.
dev: $(STAMP) ## run the endpoint here, with a database of its own (PORT=8001, DATA=folder)
	@exec $(PYTHON) -m app dev $(if $(PORT),--port "$(PORT)") $(if $(DATA),--data "$(DATA)")

test: $(STAMP) ## run the tests (ARGS="-k name" goes to pytest)
	@exec $(PYTHON) -m pytest $(ARGS)

check: $(STAMP) ## lint, format, types, layers, workflows, lock file: looks, changes nothing
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	.venv/bin/lint-imports
	$(PYTHON) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(PYTHON) -m check_jsonschema --builtin-schema vendor.github-actions .github/actions/*/action.yml
	@echo uv lock --check; $(UV) lock --check

fix: $(STAMP) ## repair what ruff can repair, and format
	$(PYTHON) -m ruff check --fix
	$(PYTHON) -m ruff format

# "$$M", from the environment, and not "$(M)": a quote in the message is then only a quote.
revision: $(STAMP) ## write a new migration (M="add email")
	@if [ -z "$$M" ]; then echo 'What does it do? make revision M="add email"' >&2; exit 1; fi
	@exec $(PYTHON) -m alembic revision -m "$$M"

# Where npm is, its tools are measured too; if it cannot install them, each says why it is missing.
bench: $(STAMP) ## measure beside other tools (ARGS="apply cold" for parts; an hour; into bench/results)
	@if npm --version >/dev/null 2>&1; then $(MAKE) --no-print-directory bench/peers/node_modules || true; fi
	@exec $(PYTHON) -m bench $(ARGS)

bench/peers/node_modules: bench/peers/package-lock.json
	@cd bench/peers && npm ci --no-audit --no-fund
	@touch $@

bench-check: $(STAMP) ## see that no ratio or count is worse than on record (minutes; ARGS="crowd memory" for parts)
	@exec $(PYTHON) -m bench.check $(ARGS)

vercel-build: $(STAMP) ## build as Vercel does, and run what comes out (needs npm; downloads 360 MB once)
	@exec $(PYTHON) -m pytest -n 0 --vercel-build tests/journeys/test_vercel_build.py $(ARGS)


# --- .venv -----------------------------------------------------------------------------------------------------------

# The stamp says that the last installation reached its end. Without it .venv is made anew: an interrupted one is
# not worth repairing, and neither is one whose Python was uninstalled.
$(shell test -x $(PYTHON) || rm -f $(STAMP))

# --inexact where uv is in .venv: uv.lock does not name uv, so an exact sync would remove it.
$(STAMP): uv.lock pyproject.toml .python-version
	@if [ ! -e $@ ] || [ .python-version -nt $@ ]; then rm -rf .venv; $(make_venv); fi
	@rm -f $@
	@$(UV) sync --frozen $$(test ! -x .venv/bin/uv || echo --inexact)
	@touch $@

# `python3` if it is new enough. If not: uv, which obeys .python-version and can download, or else what there is.
# PYENV_VERSION, because pyenv's commands refuse every version but the one in .python-version.
make_venv = \
	path_if_new='import sys; sys.version_info < (3, 12) and sys.exit(1); print(sys.executable)'; \
	python=$$(python3 -c "$$path_if_new" 2>/dev/null); \
	if uv --version >/dev/null 2>&1; then \
		uv venv $${python:+--python "$$python"} .venv && exit; \
	fi; \
	for version in 3.12 3.13 3.14; do \
		for run in "python$$version" "pyenv exec python$$version"; do \
			test -n "$$python" || python=$$(PYENV_VERSION=$$version $$run -c "$$path_if_new" 2>/dev/null); \
		done; \
	done; \
	if [ -z "$$python" ]; then \
		echo "This needs Python 3.12 or newer, and python3 is: $$(python3 --version 2>&1 | head -n 1)" >&2; \
		echo "Install Python 3.12 (or uv, which brings it), then run make again." >&2; \
		exit 1; \
	fi; \
	echo "Making .venv with $$python"; \
	"$$python" -m venv .venv && $(PYTHON) -m pip install --quiet --disable-pip-version-check uv
