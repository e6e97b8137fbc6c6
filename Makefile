# Every target sets up what it needs; a second call starts in seconds. `make help` lists them.

PYTHON ?= python3

# ROS 2 itself comes as wheels: Kilted for everything, Jazzy once more for what talks over DDS.
# One environment each: both hold the same files.
VENV := .venv
JAZZY := .venv-jazzy
DEMO := .venv-demo
RELEASE := .venv-release

# Debian's C++ cv_bridge, unpacked beside wheels that it can bear.
CV_BRIDGE := .cache/cv_bridge

# Debian's OpenCV, NumPy and PyYAML, unpacked beside the ROS wheels: what a robot has.
BARE := .cache/bare

# Packages of Debian for ARM64, run by QEMU.
ARM64 := .cache/arm64

# Messages of vision_msgs and tf2_msgs, generated and compiled beside the ROS wheels.
INTERFACES := .cache/interfaces

# Test files run side by side, each worker in a ROS domain of its own (test/conftest.py).
PYTEST := -m pytest -q -n 2 --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo demo-fused original test test-first fuzz check lint types docs test-fast test-kilted test-jazzy test-cv-bridge \
    test-bare test-arm64 test-pythons release-check lock test-interfaces opengl clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-18s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# The full environment where it is there, else a small one: a node needs no torch.
demo: $(if $(wildcard $(VENV)/.installed),$(VENV),$(DEMO))/.installed  ## play the sample bag to the node over DDS and watch its verdicts
	$(<D)/bin/grasp_demo

demo-fused: $(if $(wildcard $(VENV)/.installed),$(VENV),$(DEMO))/.installed  ## the same of two cameras and the hand's joint states, fused to one verdict
	$(<D)/bin/grasp_demo --fused --output demo_fused.png

PICTURES ?=
EXPERIMENT ?= original-experiment
original: $(VENV)/.installed  ## the original experiment on two folders: make original PICTURES=folder
	$(VENV)/bin/original_experiment $(PICTURES) --out $(EXPERIMENT)

check: lint types test-fast  ## style, types and the fast tests, in less than a minute

test: test-first test-jazzy test-kilted  ## everything that must hold

# Two at a time: each keeps one core busy. The tests that follow run two at a time themselves.
test-first:
	@$(MAKE) --no-print-directory -j 2 --output-sync=line $(VENV)/.installed $(JAZZY)/.installed \
	    lint types docs test-cv-bridge test-bare test-interfaces

lint: $(VENV)/.installed  ## style: ament's rules, as far as ruff has them
	$(VENV)/bin/ruff check .

types: $(VENV)/.installed  ## types: strict for the core
	$(VENV)/bin/mypy

docs: $(VENV)/.installed  ## the documentation as a site: docs/_build/index.html
	@rm -rf docs/api
	$(VENV)/bin/sphinx-build -q -j 2 -W --keep-going -b html docs docs/_build

test-fast: $(VENV)/.installed  ## the tests that are neither slow nor over DDS
	$(VENV)/bin/python $(PYTEST) -m 'not dds and not slow'

test-kilted: $(VENV)/.installed opengl  ## all tests, on ROS 2 Kilted
	@# The five drivers differ in names and topics only: some are tested here, the others on Jazzy.
	$(VENV)/bin/python $(PYTEST) -k 'not (test_node_driver and v5)'

test-jazzy: $(JAZZY)/.installed  ## the tests over DDS, on ROS 2 Jazzy
	$(JAZZY)/bin/python $(PYTEST) -m dds -k 'not (test_node_driver and (v4 or plexus or v6))'

MINUTES ?= 60
fuzz: $(VENV)/.installed  ## damaged inputs for every parser: make fuzz MINUTES=60
	cd test && PYTHONPATH=..:. ../$(VENV)/bin/python -m fuzz --minutes $(MINUTES) --failures ../fuzz-failures

test-cv-bridge:  ## decoding compared with the real cv_bridge, where Debian or Ubuntu has it
	@if command -v apt-get >/dev/null; then \
	    test/cv_bridge_env.sh $(CV_BRIDGE) && \
	    $(CV_BRIDGE)/python -m pytest -c /dev/null --noconftest -q \
	        -p no:cacheprovider test/test_cv_bridge_parity.py; \
	else echo 'no apt-get here: the comparison with cv_bridge is left out'; fi

test-bare: $(VENV)/.installed  ## the node with the packages of Debian or Ubuntu alone
	@if command -v apt-get >/dev/null; then \
	    test/bare_env.sh $(BARE) && \
	    BARE_PYTHON='$(CURDIR)/$(BARE)/python' $(VENV)/bin/python -m pytest -q test/test_bare_machine.py; \
	else echo 'no apt-get here: the node on packages of Debian or Ubuntu is left out'; fi

PYTHONS ?= 3.10 3.11 3.12 3.13
test-pythons:  ## the fast tests and the demo on each Python, with its own pip, without torch
	test/pythons.sh .cache/pythons $(PYTHONS)

release-check: $(RELEASE)/.installed  ## sdist and wheel: complete, installable on a bare machine, built by colcon
	test/bare_env.sh $(BARE)
	test/release_check.sh .cache/release $(RELEASE)/bin $(BARE)

# uv knows every Python at once. What ROS' and torch's own packages pin is left to them.
UV ?= uv
lock:  ## write constraints.txt anew: make lock, or make lock UPGRADE=--upgrade; needs uv
	@mkdir -p .cache
	grep -v ros-jazzy constraints.txt >.cache/lock.txt
	$(UV) pip compile -q pyproject.toml --universal --python-version 3.10 $(UPGRADE) \
	    $(addprefix --extra ,bags train sim dask fast remote label openvino export ros-wheels test test-remote docs release) \
	    --no-header --no-annotate -o .cache/lock.txt
	@{ echo '# Versions that were tried together; for every Python from 3.10 on pip resolves them in seconds.'; \
	   echo '# pyproject.toml says what else should do. `make lock` writes this file.'; \
	   { grep -v -E '^(cuda|nvidia|ros|triton)(-|=)' .cache/lock.txt; grep ^ros-kilted .cache/lock.txt; \
	     grep ^ros-jazzy constraints.txt; } | LC_ALL=C sort; } >.cache/constraints.txt
	@mv .cache/constraints.txt constraints.txt

test-arm64: $(VENV)/.installed  ## the runtime on an emulated ARM64 processor; some minutes
	test/bare_env.sh $(BARE)
	test/arm64_env.sh $(ARM64)
	BARE_PYTHON='$(CURDIR)/$(BARE)/python' ARM64_PYTHON='$(CURDIR)/$(ARM64)/python' \
	    $(VENV)/bin/python -m pytest -q -rP test/test_arm64.py

test-interfaces: $(VENV)/.installed  ## verdicts with the frame's header, the hand by TF: with vision_msgs and tf2_msgs compiled
	test/interfaces_env.sh $(INTERFACES) $(VENV)/bin/python
	$(INTERFACES)/python -m pytest -q test/test_stamped.py test/test_node_tf.py test/test_evaluate_replay.py -k 'not wrong_input'

# The simulated camera renders with OpenGL; the demo and the node do not.
opengl: $(VENV)/.installed
	@$(VENV)/bin/python -c \
	    'from grasp_success_detector.simulation.rendering import SimulatedCamera; SimulatedCamera(8, 8)' 2>/dev/null || \
	    { echo 'error: no OpenGL for the simulated camera: sudo apt install libegl1 libgl1' >&2; exit 1; }

clean:  ## remove the environments and all build output
	rm -rf $(VENV) $(JAZZY) $(DEMO) $(RELEASE) .cache docs/_build docs/api build install log *.egg-info .mypy_cache .pytest_cache .ruff_cache

$(VENV)/.installed: EXTRAS := bags,label,train,sim,remote,ros-wheels,test,test-remote,docs
$(DEMO)/.installed: EXTRAS := bags,ros-wheels
$(RELEASE)/.installed: EXTRAS := release
$(JAZZY)/.installed: EXTRAS := bags,train,ros-wheels-jazzy,test

%/.installed: pyproject.toml setup.py package.xml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo 'error: Python 3.10 or later is needed; choose one: make PYTHON=python3.11' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo 'error: venv is missing: sudo apt install python3-venv' >&2; exit 1; }
	@echo 'Setting up $(@D), once (downloads; 2 GB and more of packages where torch is among them) ...'
	@$(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -c 'import pip, sys; sys.exit([int(part) for part in pip.__version__.split(".")[:2]] < [21, 3])' || \
	    { echo 'error: its pip is too old: $(@D)/bin/pip install --upgrade pip, then once more' >&2; exit 1; }
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@
