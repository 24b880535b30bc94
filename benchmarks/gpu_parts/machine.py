"""What is measured on."""

from __future__ import annotations

from typing import Any

import torch

from fused_encoder_ros.bench.measuring import describe_machine
from fused_encoder_ros.model._torchvision import import_torchvision
from gpu_parts.context import Context


def run(context: Context) -> dict[str, Any]:
    """As in the other benchmarks, and the GPU in detail."""
    about = {**describe_machine(), 'torchvision': import_torchvision().__version__, 'device': str(context.device)}
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
