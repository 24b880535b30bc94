"""What is measured on."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

import torch

from fused_encoder_ros.bench.measuring import describe_machine
from gpu_parts.context import Context


def run(context: Context) -> dict[str, Any]:
    """As in the other benchmarks, and the GPU in detail."""
    about = {**describe_machine(), 'torchvision': version('torchvision'), 'device': str(context.device)}
    if not context.on_cuda:
        return about
    properties = torch.cuda.get_device_properties(context.device)
    return about | {
        'gpu': properties.name,
        'compute_capability': f'{properties.major}.{properties.minor}',
        'multiprocessors': properties.multi_processor_count,
        'gpu_memory_gib': round(properties.total_memory / 2**30, 1),
        'cuda': torch.version.cuda,
        'cudnn': torch.backends.cudnn.version(),
    }
