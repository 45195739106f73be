# The menu: `make help`. Every target does its own set-up, and writes only inside this directory.
# Needs Python 3.11 or later with venv, the Rust toolchain, make and a C compiler.

PYTHON ?= python3
VENV := .venv
EXAMPLES := calc.py:calc users.py:request checksums.py:checksum pages.py:fetch_and_parse

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help build demo test test-rust test-python test-types test-libraries test-gallery test-clusters test-browser test-docs \
	test-memory test-instructions \
	test-nohang test-cpython test-joblib test-chaos test-models soak lint bench bench-quick bench-choice \
	bench-choice-quick bench-simulated bench-meter bench-meter-debian bench-joblib bench-blas docs wheel clean

# Cargo, maturin and pyo3 must agree on one interpreter and one target directory, or they build twice.
export VIRTUAL_ENV := $(CURDIR)/$(VENV)
export PATH := $(VIRTUAL_ENV)/bin:$(PATH)
export PYO3_PYTHON := $(VIRTUAL_ENV)/bin/python
export CARGO_TARGET_DIR := $(CURDIR)/target
export PIP_DISABLE_PIP_VERSION_CHECK := 1
unexport CONDA_PREFIX PYTHONHOME PYTHONDONTWRITEBYTECODE

py := $(VENV)/bin/python
pip_install := $(py) -m pip install --quiet --no-input
extension := python/forkright/_core.abi3.so
sources := $(shell find crates -path "*/src*" -o -name Cargo.toml -o -name build.rs) \
	Cargo.toml Cargo.lock pyproject.toml

# Threads take turns under it, so what tells threads that have a core from others is skipped.
valgrind := valgrind --quiet --error-exitcode=9 --fair-sched=yes

# `$(call say,what begins)`: with the seconds since make began, so that the lines tell how long each step took.
began := $(shell date +%s)
say = @printf '%s %4d s  %s\n' '==>' "$$(($$(date +%s) - $(began)))" '$(1)'

help:  ## this menu
	@echo 'make TARGET [PYTHON=python3.13 VENV=.venv-3.13]'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' Makefile | while IFS='|' read -r target what; do \
		printf '  %-18s %s\n' "$$target" "$$what"; done

build: $(extension)  ## the package with its extension, release build, into .venv

demo: build  ## the examples under every plan, side by side, with a verdict each; under two minutes
	@for example in $(EXAMPLES); do \
		printf '\n== examples/%s\n' "$$example"; \
		$(py) -m forkright compare "examples/$$example" || exit; \
	done
	$(call say,demo done)

test: test-rust test-python  ## all tests

test-rust: | $(VENV)/.made  ## the tests of the Rust crates
	$(call say,Rust tests: compiling them takes a while the first time)
	@cargo test --quiet --workspace --exclude forkright-python

test-python: build $(VENV)/.dev  ## the tests of the Python package
	$(call say,Python tests)
	@$(py) -m pytest
	$(call say,Python tests passed)

# basedpyright is pyright with a node of its own: nothing but PyPI is needed.
test-types: build $(VENV)/.dev  ## what type checkers know of the API, tests/typing included: mypy and pyright
	$(call say,types: mypy)
	@$(py) -m mypy --strict
	$(call say,types: pyright)
	@$(pip_install) -r requirements-types.txt || { echo '==> SKIPPED: pyright can not be installed' >&2; exit 0; }; \
		$(VENV)/bin/basedpyright && $(VENV)/bin/basedpyright --project tests/typing
	$(call say,types checked)

test-libraries: build $(VENV)/.dev $(VENV)/.libraries  ## that frames, tables and maps of files travel as they are
	$(call say,tests of what libraries make)
	@$(py) -m pytest -rs tests/libraries
	$(call say,library tests done)

test-gallery: build $(VENV)/.dev $(VENV)/.gallery  ## the programs of examples/gallery, run for real; half a minute
	$(call say,tests of the gallery)
	@$(py) -m pytest -rs tests/gallery
	$(call say,gallery tests done)

# Where Dask or Ray can't be installed, its tests are skipped and say so.
test-clusters: build $(VENV)/.dev  ## maps on a Dask cluster and on Ray, both started here; a minute beside the install
	@test $(VENV)/.clusters -nt requirements-clusters.txt || $(MAKE) $(VENV)/.clusters || \
		echo 'warning: the clusters are not installed' >&2
	$(call say,tests on Dask and Ray)
	@$(py) -m pytest -rs tests/clusters
	$(call say,cluster tests done)

test-browser: build $(VENV)/.dev $(VENV)/.browser  ## the page of `forkright why` in Chromium, where there is one
	$(call say,browser tests)
	@$(py) -m pytest tests/browser
	$(call say,browser tests done)

test-docs: build $(VENV)/.dev $(VENV)/.docs $(VENV)/.browser  ## the site: built strictly, each page in Chromium, where there is one
	$(call say,building the site and looking at its pages)
	@$(py) -m pytest -rs tests/site
	$(call say,docs tests done)

# Under valgrind one thread runs at a time, and the meter's second look at one without a core always comes too late:
# what computes beside the sampler can't be told from what waits for a core.
test-memory: build $(VENV)/.dev  ## what the meter reads of memory, under valgrind, where there is one; half a minute
	$(call say,memory tests)
	@command -v valgrind >/dev/null || { echo '==> SKIPPED: there is no valgrind; on Debian: apt install valgrind'; exit 0; }; \
		CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER='$(valgrind)' \
		CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER='$(valgrind)' PROPTEST_CASES=8 \
		cargo test --quiet --package forkright-meter --lib --tests -- --test-threads=1 \
		--skip threads_that_share_a_core --skip a_thread_that_computes_beside_the_gil \
		--skip a_thread_that_took_the_gil_last && $(py) -m pytest --quiet -rs tests/memory
	$(call say,memory tests done)

# ARGUMENTS=--keep keeps the counts, after a change that is meant to change them.
test-instructions: build $(VENV)/.dev  ## instructions of the hot paths against those that were kept, where there is valgrind
	$(call say,instructions of the hot paths)
	@PYTHONPATH=benchmarks $(py) -m instructions.count $(ARGUMENTS)
	$(call say,instructions counted)

# A peer that can't be installed is named in the table.
test-nohang: build $(VENV)/.dev  ## whatever can go wrong with a task, on forkright and its peers: docs/no-hang.md; half an hour
	$(call say,installing the peers: requirements-bench.txt)
	@$(pip_install) -r requirements-bench.txt || echo 'warning: the peers are not installed' >&2
	$(call say,the no-hang suite)
	@$(py) tests/nohang/run.py --keep
	$(call say,no-hang suite done)

# Every version of Python that lies beside this one and has the suite, see tests/cpython/README.md.
test-cpython: build $(VENV)/.dev  ## CPython's own tests on 3.11, 3.12 and 3.13: docs/cpython-suite.md; some 10 minutes
	$(call say,the tests of CPython)
	@$(py) tests/cpython/versions.py --keep
	$(call say,CPython tests done)

test-joblib: build $(VENV)/.dev  ## joblib's and scikit-learn's own tests on forkright's backend: docs/joblib.md; 13 minutes
	$(call say,the tests of joblib)
	@$(py) tests/joblib_suite/run.py --keep
	$(call say,the tests of scikit-learn: on loky and on forkright)
	@$(py) tests/joblib_suite/scikit_learn.py --keep
	$(call say,joblib tests done)

# ARGUMENTS='--seeds 3 --from 100' takes other seeds.
test-chaos: build $(VENV)/.dev  ## 16 times 10,000 tasks while workers are killed and memory is short; some minutes
	$(call say,chaos)
	@$(py) tests/chaos/run.py $(ARGUMENTS)
	$(call say,chaos done)

# The last two need a nightly toolchain. Mappings are made behind the sanitizer's back, so tests take turns under it; some
# forget an end of a ring on purpose.
sanitized := x86_64-unknown-linux-gnu
test-models: | $(VENV)/.made  ## the shared memory's protocol under loom, Miri and ThreadSanitizer; some minutes
	$(call say,loom: all interleavings of two threads)
	@LOOM_MAX_PREEMPTIONS=2 RUSTFLAGS='--cfg loom' CARGO_TARGET_DIR=target/loom \
		cargo test --quiet --release --package forkright-shm --test loom
	$(call say,Miri)
	@cargo +nightly miri --version >/dev/null 2>&1 || { echo '==> SKIPPED: there is no Miri; rustup component add \
		--toolchain nightly miri rust-src'; exit 0; }; \
		MIRIFLAGS='-Zmiri-disable-isolation -Zmiri-ignore-leaks' CARGO_TARGET_DIR=target/miri \
		cargo +nightly miri test --quiet --package forkright-shm --lib --test ring
	$(call say,ThreadSanitizer)
	@test -d "$$(rustc +nightly --print sysroot 2>/dev/null)/lib/rustlib/src/rust/library" || { echo '==> SKIPPED: \
		there is no source of the standard library; rustup component add --toolchain nightly rust-src'; exit 0; }; \
		RUSTFLAGS='-Zsanitizer=thread' CARGO_TARGET_DIR=target/sanitizer cargo +nightly test --quiet -Zbuild-std \
		--target $(sanitized) --package forkright-shm --lib --test ring -- --test-threads=1
	$(call say,models done)

MINUTES ?= 60
soak: build $(VENV)/.dev  ## all kinds of work for an hour, or MINUTES=5: memory, descriptors, threads stay what they are
	$(call say,soak of $(MINUTES) minutes)
	@$(py) tests/chaos/soak.py --minutes $(MINUTES)
	$(call say,soak done)

lint: build $(VENV)/.dev  ## rustfmt, clippy, ruff, mypy --strict, and the stubs against the binary
	$(call say,rustfmt)
	@cargo fmt --all --check
	$(call say,clippy)
	@cargo clippy --quiet --workspace --all-targets -- -D warnings
	$(call say,ruff)
	@$(py) -m ruff check --quiet
	@$(py) -m ruff format --check --quiet
	$(call say,mypy)
	@$(py) -m mypy --strict
	$(call say,stubtest)
	@$(py) -m mypy.stubtest forkright._core --mypy-config-file pyproject.toml
	$(call say,lint passed)

# A peer that can't be installed is named below the table. ARGUMENTS='--only NAME... --merge' takes some of the contests
# into today's run.
bench: build $(VENV)/.dev  ## beside the alternatives; an hour by estimate, run nothing beside
	$(call say,installing the peers: requirements-bench.txt)
	@$(pip_install) -r requirements-bench.txt || echo 'warning: the peers are not installed' >&2
	$(call say,benchmarks beside peers)
	@$(py) benchmarks/run.py $(ARGUMENTS)
	$(call say,benchmarks done)

bench-quick:  ## the same with few rounds, in five minutes: a trial of the benchmarks, not figures to quote
	@$(MAKE) bench ARGUMENTS='--quick $(ARGUMENTS)'

# What can't be installed is named below the table. ARGUMENTS='--only NAME...' takes some of the workloads.
bench-choice: build $(VENV)/.dev  ## auto beside every fixed plan and beside peers, over many workloads; takes hours
	$(call say,installing the peers: requirements-bench.txt)
	@$(pip_install) -r requirements-bench.txt || echo 'warning: the peers are not installed' >&2
	$(call say,the suite of the choice)
	@PYTHONPATH=benchmarks $(py) -m choice.regret $(ARGUMENTS)
	$(call say,benchmarks of the choice done)

bench-choice-quick:  ## the same with few rounds and few plans, in ten minutes: a trial, not figures to quote
	@$(MAKE) bench-choice ARGUMENTS='--quick $(ARGUMENTS)'

# ARGUMENTS='--against RUN.json' shows what the simulation makes of the fixed plans of a run of bench-choice.
bench-simulated: build  ## the choice on simulated machines of 1 to 256 cores, beside an oracle; some minutes
	$(call say,building the simulator)
	@cargo build --quiet --release --package forkright-simulator
	$(call say,the choice on simulated machines)
	@PYTHONPATH=benchmarks $(py) -m simulated.regret $(ARGUMENTS)
	$(call say,simulated)

# A peer that can't be installed is named in the table.
bench-meter: build $(VENV)/.dev  ## the meter against an exact count, and its cost beside peers; 35 minutes
	$(call say,installing the peers: requirements-bench.txt)
	@$(pip_install) -r requirements-bench.txt || echo 'warning: the peers are not installed' >&2
	$(call say,the meter against the oracle: every Python here)
	@PYTHONPATH=benchmarks $(py) -m meter.accuracy --pythons found
	$(call say,what the meter costs)
	@PYTHONPATH=benchmarks $(py) -m meter.overhead
	$(call say,benchmarks of the meter done)

bench-meter-debian: build  ## the same against the exact count on Debian sid's Pythons, 3.14 and 3.15; needs root and apt
	$(call say,unpacking Debian sid)
	@PYTHONPATH=benchmarks $(py) -m meter.debian
	$(call say,benchmarks of the meter on Debian done)

bench-joblib: build $(VENV)/.dev  ## scikit-learn and joblib on forkright's workers and on loky's; 4 minutes
	$(call say,joblib on forkright and on loky)
	@$(py) benchmarks/estimators.py --keep
	$(call say,benchmarks of joblib done)

bench-blas: build $(VENV)/.dev  ## BLAS in worker processes and threads, with the cores shared and without; a minute
	$(call say,BLAS within the budget of cores)
	@$(py) benchmarks/blas.py
	$(call say,BLAS done)

# The builders of MkDocs and of its theme differ, and the theme says so on every run.
docs: export NO_MKDOCS_2_WARNING := 1
docs: build $(VENV)/.docs  ## the site in site/ and the Rust documentation in target/doc; a dead link is an error
	$(call say,mkdocs)
	@$(py) -m mkdocs build --quiet --strict
	$(call say,rustdoc)
	@RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps --document-private-items
	$(call say,docs are in site/ and target/doc/)

# Zig links for a C library as old as the wheel's tag says. WHEEL_TARGET=aarch64-unknown-linux-gnu crosses over, after
# `rustup target add`; what can't run here is not tried.
WHEEL_TARGET ?= $(shell uname -m)-unknown-linux-gnu
wheel: | $(VENV)/.wheel  ## wheel (manylinux2014, any Python from 3.11 on) and sdist in dist/, tried in fresh environments
	$(call say,building the wheel: a few minutes the first time)
	@rm -rf dist
	@PIP_QUIET=1 $(py) -m maturin build --quiet --release --strip --zig --compatibility manylinux2014 --target $(WHEEL_TARGET) --out dist
	@$(py) -m maturin sdist --out dist 2>&1 | tail -1
	$(call say,trying what was built)
	@$(py) tests/packaging/trial.py dist
	$(call say,done: dist/)

clean:  ## removes everything that was built, .venv too
	rm -rf $(VENV) target site dist build $(extension) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find python tests examples benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.made:
	$(call say,making $(VENV) with $(PYTHON))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'error: `$(PYTHON)` is not Python 3.11 or later' >&2; \
		echo 'hint: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)' >&2; exit 1; }
	@cargo --version >/dev/null || { \
		echo 'error: `cargo` was not found' >&2; \
		echo 'hint: install the Rust toolchain, see https://rustup.rs' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
		echo 'error: `$(PYTHON) -m venv` failed' >&2; \
		echo 'hint: on Debian and Ubuntu, apt install python3-venv' >&2; exit 1; }
	@touch $@

$(VENV)/.dev: requirements-dev.txt | $(VENV)/.made
	$(call say,installing the tools: $<)
	@$(pip_install) -r $<
	@touch $@

$(VENV)/.libraries: requirements-libraries.txt | $(VENV)/.made
	$(call say,installing the libraries: $<)
	@$(pip_install) -r $<
	@touch $@

$(VENV)/.gallery: requirements-gallery.txt | $(VENV)/.made
	$(call say,installing the libraries: $<)
	@$(pip_install) -r $<
	@touch $@

$(VENV)/.clusters: requirements-clusters.txt | $(VENV)/.made
	$(call say,installing the clusters: $<)
	@$(pip_install) -r $<
	@touch $@

$(VENV)/.browser: requirements-browser.txt | $(VENV)/.made
	$(call say,installing the tools: $<)
	@$(pip_install) -r $<
	@touch $@

$(VENV)/.wheel: requirements-wheel.txt | $(VENV)/.made
	$(call say,installing the tools: $<)
	@$(pip_install) -r $<
	@touch $@

$(VENV)/.docs: requirements-docs.txt | $(VENV)/.made
	$(call say,installing the tools: $<)
	@$(pip_install) -r $<
	@touch $@

# The extension gets the time at which its build began: a file edited meanwhile is newer, and builds again.
$(extension): $(sources) $(VENV)/.made $(VENV)/.dev
	$(call say,building the extension: a few minutes the first time)
	@touch $(VENV)/.began
	@PIP_QUIET=1 $(py) -m maturin develop --release --quiet
	@$(py) -m compileall -q python/forkright
	@touch -r $(VENV)/.began $@
	$(call say,built)
