"""The machine in words, for results."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import numpy
import torch


def describe_machine() -> dict[str, Any]:
    """CPU, cores, versions, and the GPU if there is one; no host names."""
    model = next(
        (line.split(':')[1].strip() for line in Path('/proc/cpuinfo').read_text().splitlines() if 'model name' in line), '?'
    )
    return {
        'cpu': model,
        'cpu_capability': torch.backends.cpu.get_cpu_capability(),
        'cores': len(os.sched_getaffinity(0)),
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'numpy': numpy.__version__,
        'system': f'{platform.system()} {platform.machine()}',
    }
