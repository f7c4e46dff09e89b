# make demo    vanilla T5 and HyperGrid on the embedded mixture, compared
# make test    the whole test suite
# make benchmark    HyperGrid compared with vanilla T5, by steps of T5-base
# More targets for developers are below. Everything runs in .venv, which is made
# from requirements.txt if it is missing, and updated if it is older.

.DELETE_ON_ERROR:
.PHONY: demo test benchmark tables kill-test resume-test modes-test serving-test \
  parity-test coverage lint format lock upstream-test tpu-compiler test-tpu \
  pod-test install-tpu docs clean

SHELL := /bin/bash
PY := .venv/bin/python
# Where `make demo` writes.
DEMO_DIR ?= runs/demo
# Where `make benchmark` writes, and what it measures.
BENCHMARK_DIR ?= runs/benchmark
BENCHMARK ?= --size=base --cases=train,train_packed,eval,decode

demo: .venv/installed
	$(PY) -m tools.demo --output_dir=$(DEMO_DIR)

# Files in order: xdist's own order, by number of tests, leaves slow files with few
# tests to the end.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder

test: .venv/installed
	$(PY) -m pytest $(PARALLEL) --durations=40

lint: .venv/installed
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-cache

format: .venv/installed
	.venv/bin/ruff check --fix .
	.venv/bin/ruff format .

# The lines that the tests run, including in the processes that they start.
coverage: .venv/installed
	$(PY) -m coverage erase
	$(PY) -m coverage run -m pytest $(PARALLEL)
	$(PY) -m coverage combine --quiet
	$(PY) -m coverage report

# Time and memory of a step, compared with vanilla T5.
benchmark: .venv/installed
	$(PY) -m tools.benchmark $(BENCHMARK) --output_dir=$(BENCHMARK_DIR)

# The tables of docs/results.md, from the results in the repository.
tables: .venv/installed
	for name in $(sort $(notdir $(patsubst %/,%,$(dir $(wildcard results/*/*.json))))); do \
	  $(PY) -m tools.tables --results=results/$$name \
	    --output_dir=runs/tables/$$name --update=docs/results.md || exit; done

# Sweeps that are killed, restarted and compared with uninterrupted ones.
kill-test: .venv/installed
	$(PY) -m pytest -m slow tests/tools/sweep_kill_test.py

# A full disk; a training on real GLUE that is killed 30 times and stopped 10
# times.
resume-test: .venv/installed
	$(PY) -m pytest -m slow tests/hypergrid_mtf/full_disk_test.py \
	  tests/hypergrid_mtf/resume_kill_test.py

# Every mode of t5, and a table of them; t5's model from Python; the commands of the
# documents in their order.
modes-test: .venv/installed
	$(PY) -m pytest -m slow -s tests/hypergrid_mtf/modes_test.py \
	  tests/hypergrid_mtf/python_test.py tests/quickstart_test.py \
	  tests/hypergrid_mtf/mesh_test.py tests/hypergrid_mtf/decoding_test.py \
	  tests/tools/submit_test.py tests/docs_commands_test.py

# All variants, and a SavedModel in its own process, compared with t5's MtfModel
# on real GLUE.
serving-test: .venv/installed
	$(PY) -m pytest -m slow -s tests/tools/serving/export_test.py \
	  tests/tools/serving/glue_export_test.py

# Plain and folded models, compared with Hugging Face's TensorFlow T5 on real GLUE.
parity-test: .venv/installed
	$(PY) -m pytest -m slow -s tests/tools/serving/parity_test.py

# mesh_tensorflow's and t5's installed tests, on the patched libraries.
upstream-test: .venv/installed
	$(PY) -m tools.dev.upstream_test

# .venv on a TPU VM, around the TensorFlow of its image (docs/cloud_tpu.md).
install-tpu:
	$(or $(PYTHON),python3) -m tools.cloud.install_tpu

# The site of the documents, in site/. A broken link or anchor is an error.
docs: .venv-docs/installed
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

# The compiler of the TPU (docs/dev/tpu_compiler.md), in .venv-tpu; nothing else
# needs it.
tpu-compiler: .venv-tpu/installed

# The tests that need the compiler, and those of a described TPU.
test-tpu: .venv/installed .venv-tpu/installed
	$(PY) -m pytest -m tpu tests/tools/tpu_compile_test.py \
	  tests/tools/plan_test.py tests/tools/cost/tpu_estimator_test.py \
	  tests/tools/dev/tpu_layer_test.py tests/tools/dev/tpu_execute_test.py

# Every variant on a mesh of eight virtual devices, compared with one core.
pod-test: .venv/installed .venv-tpu/installed
	$(PY) -m pytest -m slow -s tests/tools/dev/tpu_execute_test.py

# $(call make_venv,FOLDER,LOCK,PYTHON VERSIONS,REASON): an existing folder is kept,
# and only changes of the lock are installed. For a new one, a PYTHON given on the
# command line is tried first. A name on PATH may be a shim that does not run, so each
# candidate is asked for its version.
define make_venv
@set -e; \
is_one='import sys, ensurepip; \
  sys.exit("%d.%d" % sys.version_info[:2] not in "$(3)".split())'; \
if $(1)/bin/python -c "import pip; $$is_one" >/dev/null 2>&1; then \
  echo "updating $(1) from $(2)"; \
else \
  found=; \
  for python in $(PYTHON) python3.11 python3.10 python3 python; do \
    if "$$python" -c "$$is_one" >/dev/null 2>&1; then found=$$python; break; fi; \
  done; \
  if [ -z "$$found" ]; then \
    echo "error: Python $(subst $() , or ,$(strip $(3))) with venv is needed" \
      "($(4)); name one with: make PYTHON=/path/to/python3.11" >&2; \
    exit 2; \
  fi; \
  echo "making $(1) with $$("$$found" --version) from $(2)"; \
  "$$found" -m venv --clear $(1); \
fi; \
$(1)/bin/python -m pip install --quiet --disable-pip-version-check \
  --no-deps --require-hashes -r $(2); \
touch $(1)/installed
endef

# If it was made around an image's TensorFlow, it is made so again.
ifneq ($(wildcard .venv/tpu_vm.txt),)
.venv/installed: requirements.txt
	$(or $(PYTHON),python3) -m tools.cloud.install_tpu
else
.venv/installed: requirements.txt
	$(call make_venv,.venv,$<,3.10 3.11,TensorFlow 2.15 runs on nothing newer)
endif

.venv-tpu/installed: requirements-tpu-compiler.txt
	$(call make_venv,.venv-tpu,$<,3.11,the compiler of the TPU is locked for it)

.venv-docs/installed: requirements-docs.txt
	$(call make_venv,.venv-docs,$<,3.10 3.11,the site's tools are locked for them)

# Resolves requirements.in again: one lock, with hashes, for Python 3.10 and 3.11,
# that of the compiler of the TPU, for Python 3.11 and Linux, what pods need
# besides, and what makes the site. The date holds back releases that need protobuf 5 (requirements.in says why).
LOCK_DATE := 2025-09-01
lock:
	python3 -m venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv
	.venv-lock/bin/uv pip compile requirements.in --override overrides.txt \
	  --universal --python-version 3.10 --exclude-newer $(LOCK_DATE) \
	  --generate-hashes --quiet --custom-compile-command "make lock" \
	  --output-file requirements.txt
	.venv-lock/bin/uv pip compile requirements-tpu-compiler.in \
	  --python-version 3.11 --python-platform x86_64-manylinux_2_31 \
	  --generate-hashes --quiet --custom-compile-command "make lock" \
	  --output-file requirements-tpu-compiler.txt
	.venv-lock/bin/uv pip compile requirements-tpu-pod.in \
	  --python-version 3.10 --python-platform x86_64-manylinux_2_31 \
	  --exclude-newer $(LOCK_DATE) \
	  --generate-hashes --quiet --custom-compile-command "make lock" \
	  --output-file requirements-tpu-pod.txt
	.venv-lock/bin/uv pip compile requirements-docs.in \
	  --universal --python-version 3.10 \
	  --generate-hashes --quiet --custom-compile-command "make lock" \
	  --output-file requirements-docs.txt
	rm -rf .venv-lock

clean:
	rm -rf .venv .venv-docs .venv-lock .venv-tpu runs site build *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
