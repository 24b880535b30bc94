"""The tables of the training code: parameters, memory by part, forward and training step, both designs."""

from __future__ import annotations

from typing import Any

import torch

from fused_encoder_ros.bench import model
from fused_encoder_ros.bench.encoders import encoder_for
from fused_encoder_ros.model.options import DESIGNS
from fused_encoder_ros.spec import CAMERAS
from gpu_parts.context import Context, attempt

_MODES: dict[str, tuple[bool, torch.dtype | None]] = {
    'autocast bf16': (True, torch.bfloat16),
    'fp32': (False, None),
    'fp32 with TF32 in the convolutions, as torch has it': (True, None),
}


def run(context: Context) -> dict[str, Any]:
    """In float32, under autocast, and as torch does by itself."""
    cameras = context.pick(CAMERAS, CAMERAS[:1])
    result: dict[str, Any] = {}
    for mode, (tf32, autocast) in list(_MODES.items())[: context.pick(3, 1)]:
        torch.backends.cudnn.allow_tf32 = tf32
        rounds = context.pick(40, 1)
        table = model.run(context.device, torch.get_num_threads(), rounds, cameras, lambda text: None, autocast)
        rows = {name: {key: row[key] for key in ('three_stream', 'single', 'ratio')} for name, row in table['rows'].items()}
        peaks = {design: attempt(_peaks, context, design, autocast) for design in DESIGNS}
        result[mode] = {'cameras': len(cameras), 'table': rows, 'peak memory, MB': peaks}
        context.keep(result)
    return result


def _peaks(context: Context, design: str, autocast: torch.dtype | None) -> dict[str, Any]:
    """The most that torch had allocated during each part of a step; one design alone on the card."""
    context.need_cuda('peak memory')
    device = context.device
    torch.cuda.empty_cache()
    step = model.TrainingStep(encoder_for(design, CAMERAS), len(CAMERAS), device, autocast)
    step()
    step()
    rows = {'held between steps': round(torch.cuda.memory_allocated(device) / 1e6, 1)}

    def note(part: str) -> None:
        rows[part] = round(torch.cuda.max_memory_allocated(device) / 1e6, 1)
        torch.cuda.reset_peak_memory_stats(device)

    torch.cuda.reset_peak_memory_stats(device)
    step.on_part = note
    step()
    return rows
