# make setup     the two environments: .venv (the backend, development tools) and .venv-label-studio
# make demo      Label Studio, the backend and a project to label, until Ctrl-C
# make demo ORACLE=1 [ROUNDS=3 BUDGET=100 SAMPLER=dast-al]    the same, labeled by its own ground truth
# make demo TASK=multilabel|segmentation [ORACLE=1 ...]    the same with scenes whose items are ticked, or painted
# make curves    learning curves on frozen features, ten trials of each; goes on where it was interrupted
# make curves-scratch    every sampler's curve with a network that is trained from scratch, likewise
# make curves-segmentation    some samplers' curves of mean IoU, likewise
# make fuzz [REQUESTS=10000]    every endpoint gets requests that no client would send
# make soak [MINUTES=10] [SOAK_ARGS="--database sqlite"]    labels at speed while every part is killed, two workers and
#                PostgreSQL among them, and Label Studio fails; counts what is lost, and what is there twice
# make test-compat LABEL_STUDIO=1.20.0 [TOKENS=legacy]    the loop against another version of Label Studio
# make test-machines    workers on machines of their own, one of which is cut off; nodes of Ray, one of which is killed
# make test | test-long | lint | bench | audit | test-gpu
#
# Everything depends on setup, which runs again only when a requirement file changed.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Any Python from 3.11 to 3.13; `make setup PYTHON=python3.12` chooses one.
PYTHON ?= $(shell .ci/find-python.sh)
VENV := .venv
STUDIO := .venv-label-studio
RUN := $(VENV)/bin/python
# Threads that wait for each other sleep: these commands run several programs on few cores.
export OMP_WAIT_POLICY ?= PASSIVE
# Some environments set it. Then every Python process that inherits it compiles torch again, for ten seconds or more.
unexport PYTHONDONTWRITEBYTECODE

REQUIREMENTS := requirements-uv.txt requirements.txt requirements-dev.txt
INSTALL = $(RUN) -m uv pip sync --quiet
# torch's parts are hundreds of megabytes each
export UV_HTTP_TIMEOUT ?= 300

.PHONY: help setup demo test test-long test-machines test-gpu test-compat fuzz soak bench lint audit lock
.PHONY: curves curves-scratch curves-segmentation

help:
	@sed -n 's/^# \?//p' Makefile | sed -n '1,/^$$/p'

setup: $(VENV)/.system $(VENV)/.installed $(STUDIO)/.installed

# Made by whatever Python was found; a half-made one (no ensurepip on a fresh Debian) is not left behind.
$(VENV)/bin/python:
	.ci/python-venv.sh "$(PYTHON)" $(VENV)

$(STUDIO)/bin/python: | $(VENV)/.installed
	$(RUN) -m uv venv --quiet --allow-existing --python $(RUN) $(STUDIO)

# Chromium, Fashion-MNIST and PostgreSQL come from the system's packages.
$(VENV)/.system: .ci/system-packages.sh | $(VENV)/bin/python
	.ci/system-packages.sh
	@touch $@

# The Dockerfile installs with these commands too; a test keeps the two in step.
$(VENV)/.installed: $(REQUIREMENTS) | $(VENV)/bin/python
	$(RUN) -m pip --version >/dev/null 2>&1 || $(RUN) -m ensurepip
	$(RUN) -m pip install --quiet -r requirements-uv.txt
	$(INSTALL) --python $(RUN) $(REQUIREMENTS)
	@touch $@

$(STUDIO)/.installed: requirements-label-studio.txt | $(STUDIO)/bin/python
	$(INSTALL) --python $(STUDIO)/bin/python requirements-label-studio.txt
	@rm -f $(STUDIO)/migrated.sqlite3 $(STUDIO)/migrated-*.dump
	$(RUN) -c "from tests.rig.servers import migrated_database; migrated_database()"
	@touch $@

DEMO_OPTIONS = $(if $(filter-out 0,$(ORACLE)),--oracle) $(if $(ROUNDS),--rounds $(ROUNDS)) \
	$(if $(BUDGET),--budget $(BUDGET)) $(if $(SAMPLER),--sampler $(SAMPLER)) $(if $(TASKS),--tasks $(TASKS)) \
	$(if $(TASK),--task $(TASK)) $(if $(HELD_OUT),--held-out $(HELD_OUT)) \
	$(if $(PORT),--port $(PORT)) $(if $(filter-out 0,$(KEEP)),--keep)

demo: setup
	@$(RUN) -m demo $(DEMO_OPTIONS)

# More test processes than cores, since many wait for servers; at most six. A file stays in one of them, and
# tests/conftest.py says in which order.
PYTEST_PROCESSES ?= $(shell cores=$$(nproc 2>/dev/null || echo 1); echo $$((cores < 4 ? cores + 2 : 6)))

test: setup
	$(RUN) -m pytest -m "not long" -n $(PYTEST_PROCESSES) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# What would make `make test` too long: what tests of single steps hold as well, whole demos, benchmarks and kills with
# masks, and repetitions with other samplers, sizes and databases.
test-long: setup
	$(RUN) -m pytest -m long $(PYTEST_ARGS)

# Workers on machines of their own, of which one is cut off, and a cluster of Ray that loses a node. The first needs root.
test-machines: setup
	$(RUN) -m pytest -m machines $(PYTEST_ARGS)

# Another version of Label Studio, in an environment of its own, with what it asks for today; TOKENS=legacy uses no
# personal access token, which older versions do not have anyway.
COMPAT_TESTS ?= tests/integration/test_loop.py tests/integration/test_connecting.py tests/integration/test_changes.py

test-compat: setup
	$(if $(LABEL_STUDIO),,$(error make test-compat LABEL_STUDIO=<version>))
	test -x $(STUDIO)-$(LABEL_STUDIO)/bin/label-studio || \
		{ $(RUN) -m uv venv --quiet --allow-existing --python $(RUN) $(STUDIO)-$(LABEL_STUDIO) && \
		$(RUN) -m uv pip install --quiet --python $(STUDIO)-$(LABEL_STUDIO)/bin/python label-studio==$(LABEL_STUDIO); }
	LABEL_STUDIO_PROGRAM=$(CURDIR)/$(STUDIO)-$(LABEL_STUDIO)/bin/label-studio LABEL_STUDIO_TOKENS=$(TOKENS) \
		$(RUN) -m pytest $(COMPAT_TESTS) $(PYTEST_ARGS)

fuzz: setup
	FUZZ_REQUESTS=$(or $(REQUESTS),10000) $(RUN) -m pytest tests/fuzz -s $(PYTEST_ARGS)

soak: setup
	@$(RUN) -m tests.soak --minutes $(or $(MINUTES),10) $(SOAK_ARGS)

bench: setup
	@$(RUN) -m benchmarks bench $(BENCH_ARGS)

# The suite of benchmarks/curves/suite.py; CURVES_ARGS="--dataset ..." is another experiment.
curves: setup
	@$(RUN) -m benchmarks curves $(CURVES_ARGS)

# All samplers in about 80 minutes of processor time, so 40 minutes on two idle cores. The papers' sizes want a GPU.
CURVES_SCRATCH_ARGS ?= --dataset fashion-mnist --samplers all --pool 5000 --test 2000 --initial 200 --budget 200 \
	--cycles 4 --trials 3 --first chance --one-pool --set task_width=8 --set vaal_width=16 --set vaal_batch_size=64 \
	--set vaal_iterations=40

curves-scratch: setup
	@$(RUN) -m benchmarks curves $(CURVES_SCRATCH_ARGS)

# Scenes of 64 px: about 45 minutes of processor time.
CURVES_SEGMENTATION_ARGS ?= --dataset fashion-scenes --samplers random,entropy,dast-al,vaal --image-size 64 --pool 3000 \
	--test 500 --initial 200 --budget 200 --cycles 4 --trials 3 --first chance --one-pool

curves-segmentation: setup
	@$(RUN) -m benchmarks curves --task segmentation $(CURVES_SEGMENTATION_ARGS)

lint: setup
	$(RUN) -m ruff check .
	$(RUN) -m mypy

# Not after setup: it also runs on a machine that has its own torch (2.11 or later) and only pytest besides; what that
# torch warns of is no error.
PYTHON_GPU ?= $(firstword $(wildcard $(RUN)) python3)

test-gpu:
	$(PYTHON_GPU) -m pytest -W default -m gpu $(or $(PYTEST_ARGS),$(shell grep -rlE 'mark\.gpu' tests --include='test_*.py'))

audit: setup
	$(RUN) .ci/audit.py requirements.txt requirements-dev.txt

# Exact versions for everything that requirements*.in ask for; `make lock LOCK_ARGS=--upgrade` takes newer ones.
COMPILE = $(RUN) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--custom-compile-command 'make lock' $(LOCK_ARGS)

# requirements-cpu.txt is made from requirements.txt, so that both images run the same versions.
lock: $(VENV)/.installed
	$(COMPILE) requirements-uv.in -o requirements-uv.txt
	$(COMPILE) --override requirements-overrides.txt requirements.in -o requirements.txt
	$(RUN) .ci/cpu_lock.py < requirements.txt > requirements-cpu.txt
	$(COMPILE) requirements-ray.in -o requirements-ray.txt
	$(COMPILE) --override requirements-overrides.txt requirements-dev.in -o requirements-dev.txt
	$(COMPILE) requirements-label-studio.in -o requirements-label-studio.txt
