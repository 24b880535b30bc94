"""Timing on noisy machines: interleaved rounds, medians, and ratios within a round."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_sweep = np.zeros(64 * 2**20, np.uint8)  # not touched, and so not there, before it is used


def sweep_caches() -> None:
    """Drive a set's weights out of the caches, as other work on a robot does between two sets."""
    np.add(_sweep, 1, out=_sweep)


def interleaved(subjects: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, NDArray[np.float64]]:
    """Milliseconds of each subject in each round; each is called once before it is timed."""
    for call in subjects.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, call in subjects.items():
            call()
            start = time.perf_counter()
            call()
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: np.array(values) for name, values in times.items()}


_PEAK_S = 0.5
"""Long enough for an idle GPU's clocks to rise."""


def peak_gflops(dtype: torch.dtype, device: torch.device) -> float:
    """What a large matrix product reaches with the threads in use: the machine's arithmetic limit, at its best call."""
    size = 8192 if device.type == 'cuda' else 2048
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    a @ b  # the first one also loads the library, which may take longer than all the others
    best = float('inf')
    until = time.perf_counter() + _PEAK_S
    while time.perf_counter() < until:
        synchronise(device)
        start = time.perf_counter()
        a @ b
        synchronise(device)
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def describe_machine() -> dict[str, Any]:
    """CPU, cores, versions, and the GPU if there is one; no host names."""
    lines = Path('/proc/cpuinfo').read_text().splitlines()
    return {
        'cpu': next((line.split(':')[1].strip() for line in lines if 'model name' in line), platform.machine()),
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'cores': len(os.sched_getaffinity(0)),
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'numpy': np.__version__,
        'system': f'{platform.system()} {platform.machine()}',
    }
