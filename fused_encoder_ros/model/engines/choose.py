"""Which engine runs: the one asked for, or the fastest that runs here and is exact enough."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from fused_encoder_ros.errors import CheckpointError, ConfigError, EngineUnavailable, in_one_line
from fused_encoder_ros.model.encoder import Encoder
from fused_encoder_ros.model.engines.cuda_graph import CudaGraphEngine
from fused_encoder_ros.model.engines.eager import EagerEngine
from fused_encoder_ros.model.engines.engine import ERROR_BOUNDS, Engine, Features, choose_device, relative_error
from fused_encoder_ros.model.engines.openvino import OpenVinoEngine
from fused_encoder_ros.model.engines.packed import PackedEngine
from fused_encoder_ros.model.engines.triton import TritonEngine
from fused_encoder_ros.model.options import ENGINES, PRECISIONS
from fused_encoder_ros.spec import ObservationSpec


@dataclass(frozen=True)
class _Kind:
    """One engine: the device it runs on ('' for any), its precisions, and how to build it."""

    device: str
    precisions: tuple[str, ...]
    build: Callable[[Encoder, ObservationSpec, torch.device, str, int], Engine]


_KINDS = {
    'triton': _Kind(
        'cuda',
        ('fp32', 'fp16', 'bf16'),
        lambda encoder, spec, device, precision, threads: TritonEngine(encoder, spec, device, precision),
    ),
    'cuda_graph': _Kind(
        'cuda',
        ('fp32', 'fp16', 'bf16'),
        lambda encoder, spec, device, precision, threads: CudaGraphEngine(encoder, spec, device, precision),
    ),
    'openvino': _Kind(
        'cpu',
        ('fp32', 'bf16'),
        lambda encoder, spec, device, precision, threads: OpenVinoEngine(encoder, spec, precision, threads),
    ),
    'packed': _Kind(
        'cpu',
        ('fp32', 'bf16'),
        lambda encoder, spec, device, precision, threads: PackedEngine(encoder, spec, precision),
    ),
    'eager': _Kind('', ('fp32',), lambda encoder, spec, device, precision, threads: EagerEngine(encoder, spec, device)),
}


# What torch and OpenVINO raise when a device or a library cannot do it.
_FAILURES = (RuntimeError, MemoryError, AttributeError)


@dataclass(frozen=True)
class Choice:
    """An engine that has been checked.

    Attributes:
        engine: the engine.
        error: its error against `eager` in float32, relative to the largest value; 0 for `eager` itself.
        reason: why it was chosen, for the log.
        build: builds the same engine anew, and checks that it gives the same features bit for bit.
    """

    engine: Engine
    error: float
    reason: str
    build: Callable[[], Engine]


def choose_engine(
    encoder: Encoder, spec: ObservationSpec, device: torch.device, name: str, precision: str, threads: int
) -> Choice:
    """Build the engine that was asked for and check it on fixed inputs.

    Args:
        encoder: in eval mode, on the CPU; it is left as it is.
        spec: what the images are.
        device: where to run.
        name: one of `ENGINES`; 'auto' takes the fastest that runs here.
        precision: one of `PRECISIONS`.
        threads: CPU threads.

    Raises:
        ConfigError: when what was asked for cannot run here.
        CheckpointError: when the encoder itself gives NaN or infinity.
    """
    try:
        expected = check_features(EagerEngine(encoder, spec, device), spec)
    except _FAILURES as error:
        raise ConfigError(
            f'device: {device} cannot run the encoder: {_kind_and_text(error)}; free its memory, or use cpu'
        ) from error
    if not np.isfinite(expected).all():
        raise CheckpointError('checkpoint: the encoder gives NaN or infinity on ordinary images; its weights are damaged')
    refused: list[str] = []
    for candidate in _candidates(name, device, precision):
        try:
            choice = _checked(candidate, encoder, spec, device, precision, threads, expected)
        except EngineUnavailable as unavailable:
            refused.append(f'{candidate}: {unavailable}')
            continue
        if name == 'auto':
            reason = '; '.join([f'the fastest here on {device.type} in {precision}', *refused])
            return Choice(choice.engine, choice.error, reason, choice.build)
        return choice
    fix = 'set engine to auto' if name != 'auto' else 'set precision to fp32' if precision != 'fp32' else 'set device to cpu'
    raise ConfigError(f'engine: {name} in {precision} cannot run here: {"; ".join(refused)}; {fix}')


def device_for(engine: str, device: str) -> torch.device:
    """The device of a `device` parameter; 'auto' takes what an engine made for CPUs alone runs on.

    Raises:
        ConfigError: as `choose_device`.
    """
    on_cpu_alone = engine != 'auto' and _KINDS[engine].device == 'cpu'
    return choose_device('cpu' if device == 'auto' and on_cpu_alone else device)


def can_run(name: str, device: str, precision: str) -> bool:
    """Whether an engine is made for a device, as 'cpu' or 'cuda:0', and a precision; it may still be missing there."""
    return _KINDS[name].device in ('', torch.device(device).type) and precision in _KINDS[name].precisions


def _candidates(name: str, device: torch.device, precision: str) -> list[str]:
    if name != 'auto' and _KINDS[name].device not in ('', device.type):
        needed = _KINDS[name].device
        raise ConfigError(
            f'engine: {name} runs on {needed}, but device is {device}; set engine to auto, or device to {needed}'
        )
    asked = {key: _KINDS[key] for key in ENGINES[1:] if name in ('auto', key)}
    here = {key: kind for key, kind in asked.items() if kind.device in ('', device.type)}
    able = [key for key, kind in here.items() if precision in kind.precisions]
    if not able:
        known = sorted({p for kind in here.values() for p in kind.precisions}, key=PRECISIONS.index)
        what = f'the engine {name}' if name != 'auto' else f'{device.type}'
        raise ConfigError(f'precision: {what} does not support {precision}; set precision to {" or ".join(known)}')
    return able


def _checked(
    name: str,
    encoder: Encoder,
    spec: ObservationSpec,
    device: torch.device,
    precision: str,
    threads: int,
    expected: Features,
) -> Choice:
    kind = _KINDS[name]
    try:
        engine = kind.build(encoder, spec, device, precision, threads)
        features = check_features(engine, spec)
    except _FAILURES as error:
        raise EngineUnavailable(_kind_and_text(error)) from error
    off_by = relative_error(features, expected)
    if not off_by <= ERROR_BOUNDS[precision]:
        raise EngineUnavailable(f'its error of {off_by:.1e} is above the limit of {ERROR_BOUNDS[precision]:.0e}')

    def rebuild() -> Engine:
        anew = kind.build(encoder, spec, device, precision, threads)
        if not np.array_equal(check_features(anew, spec), features):
            raise EngineUnavailable('after it was rebuilt, it gives other features than before')
        return anew

    return Choice(engine, off_by, 'asked for', rebuild)


def _kind_and_text(error: BaseException) -> str:
    return f'{type(error).__name__}: {in_one_line(error)}'


def check_features(engine: Engine, spec: ObservationSpec) -> Features:
    """Features of black, white, noise and a gradient, one set at a time as in the node."""
    rng = np.random.default_rng(0)
    size, channels = spec.image_size, spec.channels
    ramp = np.linspace(0, 255, size)[:, np.newaxis, np.newaxis]
    shades = np.linspace(0.2, 1.0, channels)  # each channel its own, so that an exchange of any two shows
    images = np.stack(
        [
            np.zeros((size, size, channels), np.uint8),
            np.full((size, size, channels), 255, np.uint8),
            (rng.integers(0, 256, (size, size, channels)) * shades).astype(np.uint8),
            np.broadcast_to(ramp * shades, (size, size, channels)).astype(np.uint8),
        ]
    )
    joints = rng.normal(size=(len(images), len(spec.joint_names))).astype(np.float32)
    return np.concatenate([engine.encode(images[i : i + 1], joints[i : i + 1]) for i in range(len(images))])
