# `make`: environment, then the report's CNN and DNN on whatever data is found. `make test`: everything that is checked.
PYTHON ?= python3
PY := .venv/bin/python

.PHONY: all setup train lint test bench clean

all: train

setup: .venv/requirements.done

.venv/requirements.done: requirements.txt
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet -r requirements.txt
	touch $@

.venv/requirements-dev.done: requirements-dev.txt .venv/requirements.done
	$(PY) -m pip install --quiet -r requirements-dev.txt
	touch $@

train: setup
	$(PY) train_cnn.py
	$(PY) train_dnn.py

lint: .venv/requirements-dev.done
	$(PY) -m ruff check .

test: lint
	$(PY) -m pytest -n 2

bench: setup
	$(PY) -m benchmarks.load
	$(PY) -m benchmarks.train

clean:
	rm -rf .venv data/.cache
