# On a fresh clone any target sets up what it needs first: the environment .venv, and the data in data/cache/.
# Both are left alone until requirements.lock, pyproject.toml or data/registry.toml changes.

# The Python that makes .venv: the first of these that is there and is 3.11, 3.12 or 3.13.
PYTHON ?= $(shell for python in python3.11 python3.12 python3.13 python3; do \
	$$python -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$python && break; done)
VENV ?= .venv
WORKERS ?= 2
CHAPTERS ?=
PYTHONS_CHAPTER ?= 00
LAB_OPTIONS ?=
BOOK_PORT ?= 8000
LOCK_OPTIONS ?=
# What the tests on JAX leave out besides those that say nothing about the backend; .ci/run: "and not slow".
JAX_LEAVES_OUT ?=

# Some containers forbid Python to keep bytecode; without it each import of Keras takes three times as long.
unexport PYTHONDONTWRITEBYTECODE

PIP := $(VENV)/bin/uv pip install --python $(VENV)/bin/python
# Several workers share the cores, so each gets one thread: threads that wait for each other cost a sixth of the time.
ONE_THREAD := TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 OMP_NUM_THREADS=1
PYTEST := $(if $(filter 1,$(WORKERS)),,$(ONE_THREAD)) $(VENV)/bin/python -m pytest --numprocesses $(WORKERS) --dist loadfile
NBVAL := --nbval-current-env --nbval-cell-timeout 600
FIRST_PAGE := work/index.ipynb
# A number after ≈ may differ in its last digits on another machine.
SANITIZE := --nbval-sanitize-with tests/nbval_sanitize.cfg
NOTEBOOKS := $(if $(CHAPTERS),$(foreach chapter,$(CHAPTERS),$(wildcard notebooks/$(chapter)_*.ipynb)),notebooks)

.PHONY: help lab reset update book book-serve book-test book-pdf test test-tensorflow test-jax test-chapters quick pythons notebooks notebooks-jax bench accelerator parity figures lint format lock clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: $(VENV)/ready ## JupyterLab on working copies of the chapters, in work/; minutes the first time, then seconds. LAB_OPTIONS="--no-browser --port 9000"
	@$(MAKE) --silent $(VENV)/data || echo "The chapters that need what is missing will ask for it again."
	@$(VENV)/bin/python course_lib/course/working_copies.py
	$(VENV)/bin/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) \
		--LabApp.default_url=/lab/tree/$(FIRST_PAGE) $(LAB_OPTIONS)

reset: $(VENV)/ready ## restore working copies, CHAPTERS="01 08"; a changed one is kept under another name; seconds
	@test -n "$(CHAPTERS)" || { echo 'Say which: make reset CHAPTERS="01 08"'; exit 1; }
	$(VENV)/bin/python course_lib/course/working_copies.py --reset $(CHAPTERS)

update: ## the newest version of the course: pull it, set it up, and refresh the working copies that nobody has changed
	git pull --ff-only
	@$(MAKE) $(VENV)/data
	$(VENV)/bin/python course_lib/course/working_copies.py

book: $(VENV)/book ## the course as a book on the web, in build/book/; 2 minutes
	$(VENV)/bin/python -m course_lib.course.book

book-serve: book ## the book in your browser, at http://localhost:8000; BOOK_PORT=9000 for another port
	$(VENV)/bin/python -m course_lib.course.book.serving $(BOOK_PORT)

book-test: book ## the book in a real browser, which has to be Chromium; 3 minutes
	$(PYTEST) -m browser tests/course/test_book_in_browser.py

book-pdf: book ## the chapters and the glossary as one PDF in build/, printed by Chromium; 2 minutes
	$(VENV)/bin/python -m course_lib.course.book.printed

test: lint test-tensorflow test-jax test-chapters ## all that has to pass: style, both backends, every chapter; 25 minutes on two cores with AVX-512, 40 without, set-up included

test-tensorflow: $(VENV)/data ## the library's tests on TensorFlow; 9 minutes
	KERAS_BACKEND=tensorflow $(PYTEST)

test-jax: $(VENV)/data ## the library's tests on JAX; 12 minutes
	KERAS_BACKEND=jax $(PYTEST) -m "not parity and not browser and not one_backend $(JAX_LEAVES_OUT)"

test-chapters: $(VENV)/data ## the chapters on TensorFlow, their outputs compared, CHAPTERS="01 08" or all; 13 minutes
	KERAS_BACKEND=tensorflow $(PYTEST) --nbval $(NBVAL) $(SANITIZE) $(NOTEBOOKS)

quick: $(VENV)/data ## what fails first: the library's tests on TensorFlow alone, no chapters
	KERAS_BACKEND=tensorflow $(PYTEST) -m "not parity and not browser and not slow"

pythons: $(VENV)/data ## on each other Python there is: it installs, the records load, chapter PYTHONS_CHAPTER passes; 2 minutes each
	.ci/pythons $(VENV) notebooks/$(PYTHONS_CHAPTER)_*.ipynb

notebooks: $(VENV)/data ## run the chapters and save them with outputs and times, CHAPTERS="01 08" or all; up to 20 minutes
	$(VENV)/bin/python -m course_lib.course.chapters execute $(CHAPTERS)

notebooks-jax: $(VENV)/data ## the chapters' assertions on JAX, CHAPTERS="01 08" or all; up to 20 minutes
	KERAS_BACKEND=jax $(PYTEST) --nbval-lax $(NBVAL) $(NOTEBOOKS)

bench: $(VENV)/parity $(VENV)/data ## our speed beside that of KerasHub and Hugging Face; 25 minutes, and 4 to install PyTorch first
	for script in encoder pretraining decoding finetuning attribution; do $(VENV)/bin/python benchmarks/$$script.py || exit 1; done

accelerator: $(VENV)/ready ## right and fast on this machine's GPU or TPU, PyTorch and KerasHub beside it where installed; 6 minutes
	$(VENV)/bin/python benchmarks/accelerator.py

parity: $(VENV)/parity $(VENV)/data ## live against transformers and KerasHub; 5 minutes, and 4 to install PyTorch first
	KERAS_BACKEND=tensorflow $(VENV)/bin/python -m pytest -m parity

figures: $(VENV)/ready ## draw the chapters' schematics into docs/figures/; seconds
	$(VENV)/bin/python -m course_lib.course.figures

lint: $(VENV)/ready ## Ruff's rules and format, notebooks included; seconds
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

format: $(VENV)/ready ## mend what Ruff can mend; seconds
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

lock: $(VENV)/ready ## write requirements.lock from pyproject.toml; seconds. LOCK_OPTIONS=--upgrade for newer versions
	$(VENV)/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
		--extra course --extra test --extra jax --extra scale $(LOCK_OPTIONS) --output-file requirements.lock pyproject.toml

clean: ## remove .venv and what tools left behind; what was fetched into data/cache/ stays
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find course_lib tests benchmarks -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/ready: requirements.lock pyproject.toml
	@test -x $(VENV)/bin/python || test -n "$(PYTHON)" || { echo "Python 3.11, 3.12 or 3.13 is needed: make PYTHON=…"; exit 1; }
	@echo "Setting up $(VENV): some 160 packages, 3 GB on disk"
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check uv
	$(PIP) --require-hashes --requirement requirements.lock
	$(PIP) --quiet --no-deps --no-build-isolation --editable .
	# TensorFlow writes to descriptor 2 as it starts; kernels would show that to the reader, in red.
	@mkdir -p $(VENV)/etc/ipython
	@echo "c.IPKernelApp.capture_fd_output = False" > $(VENV)/etc/ipython/ipython_kernel_config.py
	@touch $@

$(VENV)/data: $(VENV)/ready data/registry.toml
	$(VENV)/bin/python -m course_lib.assets --all
	@touch $@

# As constraints, the lock keeps its versions, and their hashes; what it lacks comes as pyproject.toml allows.
$(VENV)/book: $(VENV)/ready
	$(PIP) --quiet --constraints requirements.lock --requirement pyproject.toml --extra book
	@touch $@

# PyTorch comes through pip, which heeds the user's own configuration of it: to get the build for a CPU (0.2 GB), name
# PyTorch's index for it there; otherwise Linux gets the one for CUDA (3 GB).
$(VENV)/parity: $(VENV)/ready
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[parity,onnx]'
	@touch $@
