# `make`: environment, then the report's CNN and DNN on whatever data is found. `make test`: everything that is checked.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: all setup train lint test bench lock audit clean

all: train

setup: .venv/requirements.done

.venv/requirements.done: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo 'error: $(PYTHON) is not Python 3.11, 3.12 or 3.13, which TensorFlow needs; try: make PYTHON=python3.12' >&2; \
		exit 1; }
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet -r requirements.txt
	touch $@

.venv/requirements-dev.done: $(wildcard requirements*.txt) .venv/requirements.done
	$(PY) -m pip install --quiet -r requirements-dev.txt
	touch $@

train: setup
	$(PY) train_cnn.py
	$(PY) train_dnn.py

lint: .venv/requirements-dev.done
	$(PY) -m ruff check .

test: lint  # in two processes; a file's tests stay in one, which makes their fixtures once
	$(PY) -m pytest -n 2 --dist loadfile

bench: setup
	$(PY) -m benchmarks.load
	$(PY) -m benchmarks.train

lock: .venv/requirements-dev.done  # anew, for the running Python and platform; the tested ones are 3.11 on Linux x86_64
	$(PY) -m pip install --quiet "uv>=0.9,<1"
	$(PY) -m uv pip compile --quiet --upgrade --generate-hashes --no-emit-index-url --custom-compile-command "make lock" \
		--output-file requirements.lock requirements-dev.txt

audit: .venv/requirements-dev.done  # asks an advisory service about every pinned version
	$(PY) -m pip install --quiet "pip-audit>=2.10,<3"
	$(PY) -m pip_audit --disable-pip --require-hashes -r requirements.lock

clean:
	rm -rf .venv data/.cache
