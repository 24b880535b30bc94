# make demo   sets up, then runs robot and node on real DDS and draws what came out
# make test   sets up, then checks and tests everything
# make gpu    sets up, then checks and measures the model on an NVIDIA GPU, in less than eight minutes
# make api    sets up, then builds the Python reference into build/api
# All build .venv from pinned versions and touch nothing outside this folder.
# make test-all   runs the tests on every Python and ROS 2 distribution, each in an environment of its own

VENV := .venv
ROS := jazzy
PINS := --requirement requirements/lock.txt --requirement requirements/$(ROS).txt
BIN := $(VENV)/bin
TORCH ?= torch==2.13.0
TORCHVISION ?= torchvision==0.28.0
TRITON ?= triton==3.7.1
LEROBOT := lerobot==0.4.4 accelerate==1.15.0
COLCON := build/colcon

# Tests run side by side, since most of them wait for a robot most of the time.
SIDE_BY_SIDE := -n 4 --dist loadscope

QUICK := test/test_contracts.py test/pipeline test/offline/test_bags.py

# What `test-all` covers: CPythons that wheels of rclpy exist for, and distributions that requirements/ has pins of.
PYTHONS := 3.10 3.11 3.12
DISTRIBUTIONS := jazzy kilted

# A sourced ROS must not mix with the environment's own.
unexport PYTHONPATH AMENT_PREFIX_PATH COLCON_PREFIX_PATH CMAKE_PREFIX_PATH RMW_IMPLEMENTATION
unexport LD_LIBRARY_PATH _ROS_WHEELS_BOOTSTRAP_COMPLETE
# The tests start hundreds of processes, which should not compile the sources again each time.
unexport PYTHONDONTWRITEBYTECODE
export ROS_LOG_DIR := $(CURDIR)/build/ros_log
export COLCON_HOME := $(CURDIR)/build/colcon_home
export MPLCONFIGDIR := $(CURDIR)/build/matplotlib

.PHONY: setup demo gpu api test test-all check unit quick colcon lock clean

setup: $(VENV)/.complete

$(VENV)/.complete: Makefile setup.py requirements/lock.txt requirements/$(ROS).txt
	@python=$$(PYTHON=$(PYTHON) sh requirements/find_python.sh) && rm -rf $(VENV) && "$$python" -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint requirements/lock.txt $(TORCH)
	@# torchvision's own pin of torch would replace a CPU build, which also lacks the Triton that a build for CUDA brings.
	$(BIN)/python -m pip install --quiet --no-deps $(TORCHVISION) $(PINS)
	$(BIN)/python -c 'import triton' 2> /dev/null || $(BIN)/python -m pip install --quiet --no-deps $(TRITON)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --use-pep517 --editable .
	@touch $@

demo: setup
	$(BIN)/fused-encoder demo --out demo_out

gpu: setup
	$(BIN)/python benchmarks/gpu.py --out benchmarks/results/gpu.json

api: setup
	$(BIN)/python docs/api.py --out build/api

# colcon runs the whole suite, on the package as it installs it; `unit` runs it on the sources.
test: check colcon

# What fails, a Python that is not here among it, is named at the end; the others run all the same.
test-all:
	@failed=; for ros in $(DISTRIBUTIONS); do for python in $(PYTHONS); do \
		echo "== Python $$python, ROS 2 $$ros"; \
		$(MAKE) unit ROS=$$ros PYTHON=python$$python VENV=.venv-$$python-$$ros || failed="$$failed $$python-$$ros"; \
	done; done; \
	if [ -n "$$failed" ]; then echo "failed, or could not run:$$failed" >&2; exit 1; fi

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

unit: setup
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

# For the loop of changing and testing: no DDS, no engine, no cluster.
quick: setup
	$(BIN)/python -m pytest -n 2 --dist loadscope $(QUICK)

# What `colcon build` and `colcon test` do in a workspace, with the environment's Python.
colcon: setup
	rm -rf $(COLCON)
	mkdir -p $(COLCON)
	@$(BIN)/python -m colcon --log-base $(COLCON)/log list --base-paths . | tee $(COLCON).list; grep -q '(ros.ament_python)' $(COLCON).list
	$(BIN)/python -m colcon --log-base $(COLCON)/log build --base-paths . --build-base $(COLCON)/build --install-base $(COLCON)/install
	$(BIN)/python -m colcon --log-base $(COLCON)/log test --base-paths . --build-base $(COLCON)/build --install-base $(COLCON)/install \
		--event-handlers console_direct+ --return-code-on-test-failure --pytest-args $(SIDE_BY_SIDE)
	$(BIN)/python -m colcon --log-base $(COLCON)/log test-result --test-result-base $(COLCON)/build --all

# Needs uv. torch's own needs stand at the end, since torch is pinned apart. All but ROS is pinned once, beside Jazzy.
lock:
	mkdir -p build
	(cat requirements/dev.in; printf '%s\n' filelock fsspec jinja2 networkx sympy typing-extensions pillow) > build/jazzy.in
	uv pip compile --universal --python-version 3.10 build/jazzy.in --no-header --no-annotate --quiet -o build/jazzy.txt
	grep -v '^ros-' build/jazzy.txt > build/lock.txt
	sed 's/^ros-jazzy-/ros-kilted-/' build/jazzy.in > build/kilted.in
	uv pip compile --universal --python-version 3.10 --constraint build/lock.txt build/kilted.in \
		--no-header --no-annotate --quiet -o build/kilted.txt
	printf '%s\n' $(LEROBOT) >> build/lock.txt
	for name in lock jazzy kilted; do \
		echo '# Written by `make lock` from dev.in; for CPython 3.10 to 3.12.' > requirements/$$name.txt; done
	cat build/lock.txt >> requirements/lock.txt
	for ros in jazzy kilted; do grep '^ros-' build/$$ros.txt >> requirements/$$ros.txt; done

clean:
	rm -rf $(VENV) .venv-* build install log demo_out *.egg-info
