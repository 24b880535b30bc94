"""Which engine runs: the one asked for, or the fastest that runs here and is exact enough."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from fused_encoder_ros.errors import CheckpointError, ConfigError, EngineUnavailable
from fused_encoder_ros.model.encoder import ImageJointEncoder, ThreeStreamEncoder
from fused_encoder_ros.model.engine import EagerEngine, Engine
from fused_encoder_ros.model.packed import PackedEngine
from fused_encoder_ros.spec import ObservationSpec

ENGINES = ('auto', 'eager', 'packed')
PRECISIONS = ('fp32', 'bf16')

ERROR_BOUNDS = {'fp32': 1e-5, 'bf16': 5e-2}
"""Largest error that an engine may show against `eager` in float32, relative to the largest value of the features."""


@dataclass(frozen=True)
class Choice:
    """An engine that has been checked.

    Attributes:
        engine: the engine.
        error: its error against `eager` in float32, relative to the largest value; 0 for `eager` itself.
        reason: why it was chosen, for the log.
    """

    engine: Engine
    error: float
    reason: str


def choose_engine(
    encoder: ImageJointEncoder | ThreeStreamEncoder, spec: ObservationSpec, device: torch.device, name: str, precision: str
) -> Choice:
    """Build the engine that was asked for and check it on fixed inputs.

    Raises:
        ConfigError: when the engine or precision asked for cannot run here; 'auto' falls back to 'eager' and says so.
        CheckpointError: when the encoder itself gives NaN or infinity.
    """
    reference = EagerEngine(encoder, spec, device)
    expected = _features(reference, spec)
    if not np.isfinite(expected).all():
        raise CheckpointError('checkpoint: the encoder gives NaN or infinity on ordinary images; its weights are damaged')
    if name == 'eager' or device.type != 'cpu':
        if name == 'packed':
            raise ConfigError(f'engine: packed runs on the CPU, but device is {device}; set engine to auto or eager')
        if precision != 'fp32':
            raise ConfigError(f'precision: {precision} is not what the engine eager runs in; set precision to fp32')
        return Choice(reference, 0.0, 'asked for' if name == 'eager' else f'the engine of {device.type}')
    try:
        packed = PackedEngine(encoder, spec, precision)
        error = float(np.abs(_features(packed, spec) - expected).max() / np.abs(expected).max())
        if not error <= ERROR_BOUNDS[precision]:
            raise EngineUnavailable(f'its error of {error:.1e} is past the bound of {ERROR_BOUNDS[precision]:.0e}')
    except EngineUnavailable as unavailable:
        if name == 'packed' or precision != 'fp32':
            raise ConfigError(
                f'engine: packed in {precision} cannot run here: {unavailable}; set engine to auto and precision to fp32'
            ) from unavailable
        return Choice(reference, 0.0, f'packed cannot run here: {unavailable}')
    return Choice(packed, error, 'asked for' if name == 'packed' else 'the fastest on a CPU')


def _features(engine: Engine, spec: ObservationSpec) -> np.ndarray:
    """Features of black, white, noise and gradients, one set at a time as in the node."""
    rng = np.random.default_rng(0)
    size, channels = spec.image_size, spec.channels
    ramp = np.linspace(0, 255, size).astype(np.uint8)
    images = np.stack(
        [
            np.zeros((size, size, channels), np.uint8),
            np.full((size, size, channels), 255, np.uint8),
            rng.integers(0, 256, (size, size, channels), dtype=np.uint8),
            np.broadcast_to(ramp[:, np.newaxis, np.newaxis], (size, size, channels)),
        ]
    )
    joints = rng.normal(size=(len(images), len(spec.joint_names))).astype(np.float32)
    return np.concatenate([engine.encode(images[i : i + 1], joints[i : i + 1]) for i in range(len(images))])
