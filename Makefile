# make demo   sets up, then runs robot and node on real DDS and draws what came out
# make test   sets up, then checks and tests everything
# Both build .venv from pinned versions and touch nothing outside this folder.

VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
TORCHVISION ?= torchvision==0.28.0
COLCON := build/colcon

# A sourced ROS must not mix with the environment's own.
unexport PYTHONPATH AMENT_PREFIX_PATH COLCON_PREFIX_PATH CMAKE_PREFIX_PATH RMW_IMPLEMENTATION
unexport LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
export ROS_LOG_DIR := $(CURDIR)/build/ros_log
export COLCON_HOME := $(CURDIR)/build/colcon_home
export MPLCONFIGDIR := $(CURDIR)/build/matplotlib

.PHONY: setup demo test check unit colcon lock clean

setup: $(VENV)/.complete

$(VENV)/.complete: Makefile setup.py requirements/lock.txt
	@python=$$(PYTHON=$(PYTHON) sh requirements/find_python.sh) && rm -rf $(VENV) && "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements/lock.txt $(TORCH)
	@# torchvision's own pin of torch would replace a CPU build.
	$(BIN)/python -m pip install --quiet --no-deps $(TORCHVISION) --requirement requirements/lock.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	$(BIN)/python -m fused_encoder_ros.demo --out demo_out

# colcon runs the whole suite, on the package as it installs it; `unit` runs it on the sources.
test: check colcon

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: setup
	$(BIN)/python -m pytest

# What `colcon build` and `colcon test` do in a workspace, with the environment's Python.
colcon: setup
	rm -rf $(COLCON)
	mkdir -p $(COLCON)
	@$(BIN)/python -m colcon --log-base $(COLCON)/log list --base-paths . | tee $(COLCON).list; grep -q '(ros.ament_python)' $(COLCON).list
	$(BIN)/python -m colcon --log-base $(COLCON)/log build --base-paths . --build-base $(COLCON)/build --install-base $(COLCON)/install
	$(BIN)/python -m colcon --log-base $(COLCON)/log test --base-paths . --build-base $(COLCON)/build --install-base $(COLCON)/install \
		--event-handlers console_direct+ --return-code-on-test-failure
	$(BIN)/python -m colcon --log-base $(COLCON)/log test-result --test-result-base $(COLCON)/build --all

# Needs uv. torch's own needs stand at the end, since torch is pinned apart.
lock:
	mkdir -p build
	(cat requirements/dev.in; printf '%s\n' filelock fsspec jinja2 networkx sympy typing-extensions pillow) > build/lock.in
	uv pip compile --universal --python-version 3.10 build/lock.in --no-header --no-annotate --quiet -o build/lock.txt
	(echo '# Written by `make lock` from dev.in; for CPython 3.10 to 3.12.'; cat build/lock.txt) > requirements/lock.txt

clean:
	rm -rf $(VENV) build install log demo_out *.egg-info
