"""The parts of benchmarks/gpu.py. Each is a function `run` that takes a Context and returns what goes into the JSON."""
