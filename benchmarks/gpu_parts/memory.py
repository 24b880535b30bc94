"""What stays behind when engines are built and models loaded again and again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fused_encoder_ros.model.model import load_model, release_memory
from fused_encoder_ros.model.options import SINGLE, ModelOptions
from gpu_parts.context import Context
from gpu_parts.subjects import build, fast_engines, sets_of, spec_of


def run(context: Context) -> dict[str, Any]:
    """Engine builds in one thread; rounds of loading, encoding and releasing, each on a thread that ends."""
    engine, precision = fast_engines(context.device)[0]

    def build_one() -> None:
        build(engine, precision, SINGLE, context.device).encode(*sets_of(spec_of(), 1))

    def load_one() -> None:
        threads = torch.get_num_threads()
        options = ModelOptions(device=str(context.device), engine=engine, precision=precision, threads=threads)
        model = load_model(options, spec_of())
        model.encode(*sets_of(spec_of(), 1))
        model.encode(*sets_of(spec_of(), 8))
        del model
        release_memory()

    result = {'engine builds': _repeat(context, build_one, context.pick(100, 2))}
    context.keep(result)
    result['load and release'] = _repeat(context, load_one, context.pick(10, 2))
    return result


def _repeat(context: Context, call: Callable[[], None], rounds: int) -> dict[str, Any]:
    rows = []
    for _ in range(rounds + 1):  # the first sets things up
        call()
        rows.append(_held(context.device))
    numbers = range(rounds + 1)
    return {
        'rounds': rounds,
        'first_mib': rows[1],
        'last_mib': rows[-1],
        'mib_a_round': {
            key: round(float(np.polyfit(numbers[1:], [row[key] for row in rows[1:]], 1)[0]), 3) for key in rows[0]
        },
        'mib_a_round_second_half': {
            key: round(
                float(np.polyfit(numbers[-(rounds // 2 + 1) :], [row[key] for row in rows][-(rounds // 2 + 1) :], 1)[0]), 3
            )
            for key in rows[0]
        },
    }


def _held(device: torch.device) -> dict[str, float]:
    """MiB."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    held = {'resident': pages * os.sysconf('SC_PAGE_SIZE') / 2**20}
    if device.type == 'cuda':
        free, total = torch.cuda.mem_get_info(device)
        held |= {
            'allocated': torch.cuda.memory_allocated(device) / 2**20,
            'reserved': torch.cuda.memory_reserved(device) / 2**20,
            'used on the card': (total - free) / 2**20,
        }
    return {name: round(mib, 1) for name, mib in held.items()}
