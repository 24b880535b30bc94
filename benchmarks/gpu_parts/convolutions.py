"""What cuDNN's choices cost and gain: error, time and determinism of each."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from fused_encoder_ros.model.engines import ERROR_BOUNDS, relative_error
from fused_encoder_ros.model.engines.engine import Features
from fused_encoder_ros.model.options import SINGLE
from gpu_parts.context import Context, attempt
from gpu_parts.recorded import Recorded, convolutions, in_float64
from gpu_parts.subjects import fast_engines, network_of, sets_of, spec_of
from gpu_parts.timing import device_us, kernels

_BATCH = 64


def run(context: Context) -> dict[str, Any]:
    """Each precision with deterministic and benchmark off and on, float32 also with TF32; errors are against float64."""
    result: dict[str, Any] = {}
    precisions = list(dict.fromkeys(precision for _, precision in fast_engines(context.device)))
    switches = list(product((True, False), (False, True))) if context.on_cuda else [(True, False)]
    batch = context.pick(_BATCH, 2)
    truths = {design: in_float64(design, *sets_of(spec_of(), batch)) for design in (SINGLE,)}
    for design, precision in product(truths, precisions):
        for tf32 in (False, True) if precision == 'fp32' and context.on_cuda else (False,):
            for deterministic, benchmark in switches:
                name = f'{design} {precision}{" TF32" * tf32}, deterministic {deterministic}, benchmark {benchmark}'
                with convolutions(deterministic, benchmark, tf32):
                    result[name] = attempt(_choice, context, design, precision, truths[design])
                context.keep(result)
    return result


def _choice(context: Context, design: str, precision: str, truth: Features) -> dict[str, Any]:
    network, batch = network_of(design, precision, context.device), len(truth)
    single, batched = (Recorded(network, size, context.device) for size in (1, batch))
    images, joints = sets_of(spec_of(), batch)
    rows = range(min(batch, 16))
    alone = np.concatenate([single.encode(images[i : i + 1], joints[i : i + 1]) for i in rows])
    together = batched.encode(images, joints)
    again = [single.encode(images[:1], joints[:1]) for _ in range(context.pick(50, 2))]
    ran = kernels(single.replay, context.device, 5)
    return {
        'error alone': float(f'{relative_error(alone, truth[: len(alone)]):.2e}'),
        f'error in a batch of {batch}': float(f'{relative_error(together, truth):.2e}'),
        'bound': ERROR_BOUNDS[precision],
        'same bits each time': all(np.array_equal(one, alone[:1]) for one in again),
        'us a set alone': device_us(single.replay, context.device, context.pick(100, 2)),
        f'us a set in a batch of {batch}': round(device_us(batched.replay, context.device, context.pick(20, 1)) / batch, 2),
        'kernels': round(sum(kernel['times_a_set'] for kernel in ran)),
        'winograd': any('winograd' in kernel['name'].lower() for kernel in ran),
    }
