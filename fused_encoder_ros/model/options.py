"""The options of the model. This module does not import torch, which takes seconds, so that settings are read quickly."""

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
    """Which encoder runs, and where.

    Attributes:
        checkpoint: path of a state dict or packed checkpoint; '' means random weights.
        design: 'auto' (as the checkpoint says), 'single' or 'three_stream'.
        seed: seed of the random weights.
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        engine: 'auto' (the fastest that runs here), 'triton', 'cuda_graph', 'openvino', 'packed' or 'eager'.
        precision: 'fp32', 'fp16' or 'bf16'.
        threads: number of CPU threads. It changes the last bits of a feature, so it does not depend on the machine.
    """

    checkpoint: str = ''
    design: str = 'auto'
    seed: int = 0
    device: str = 'auto'
    engine: str = 'auto'
    precision: str = 'fp32'
    threads: int = 2
