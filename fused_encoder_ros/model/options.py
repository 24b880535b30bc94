"""What can be asked of the model, in names alone: torch takes seconds to import, and settings are read without it."""

from __future__ import annotations

from dataclasses import dataclass

SINGLE, THREE_STREAM = 'single', 'three_stream'
DESIGNS = (SINGLE, THREE_STREAM)

ENGINES = ('auto', 'triton', 'cuda_graph', 'openvino', 'packed', 'eager')
"""Fastest first: `auto` takes the first that runs. The order is that of benchmarks/results; a race at start would give one
robot other last bits from day to day."""

PRECISIONS = ('fp32', 'fp16', 'bf16')


@dataclass(frozen=True)
class ModelOptions:
    """Which encoder to run, and where.

    Attributes:
        checkpoint: path of a state dict or a packed checkpoint; '' runs a random encoder.
        design: 'auto', 'single' or 'three_stream'.
        seed: seed of the random encoder.
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        engine: one of `ENGINES`.
        precision: 'fp32', 'fp16' or 'bf16'.
        threads: CPU threads. The number changes the last bits of a feature, so it is never left to chance.
    """

    checkpoint: str = ''
    design: str = 'auto'
    seed: int = 0
    device: str = 'auto'
    engine: str = 'auto'
    precision: str = 'fp32'
    threads: int = 2
