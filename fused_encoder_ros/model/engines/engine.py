"""What every engine offers, and where it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fused_encoder_ros.errors import ConfigError, EngineUnavailable

Images = NDArray[np.uint8]
Joints = NDArray[np.float32]
Features = NDArray[np.float32]


ERROR_BOUNDS = {'fp32': 1e-5, 'fp16': 5e-3, 'bf16': 3e-2}
"""Largest error that an engine may show against `eager` in float32, by set, relative to the largest value of its feature."""


class Engine(Protocol):
    """What every engine offers."""

    name: str
    precision: str
    device: torch.device

    def encode(self, images: Images, joints: Joints) -> Features:
        """Images uint8 [B,S,S,9] in the spec's camera order and joints float32 [B,J] to features float32 [B,D]."""
        ...


class FixedBatchEngine(ABC):
    """An engine that is built for a batch size: one build for a single set, one for the largest batch so far.

    Smaller batches are filled up with black images, so that a bag's last sets run in the build of the others.

    Raises:
        EngineUnavailable: from `encode` too, when a larger build does not agree with the single one.
    """

    name: str
    precision: str

    def __init__(self) -> None:
        self._single = self._build(1)
        self._batched: tuple[int, Callable[[Images, Joints], Features]] = 1, self._single

    @abstractmethod
    def _build(self, batch: int) -> Callable[[Images, Joints], Features]:
        """What encodes exactly `batch` sets, ready and warm."""

    def _build_batched(self, images: Images, joints: Joints) -> None:
        count = len(images)
        run = self._build(count)
        rows = sorted({0, count // 2, count - 1})
        expected = np.concatenate([self._single(images[i : i + 1], joints[i : i + 1]) for i in rows])
        error = relative_error(run(images, joints)[rows], expected)
        if not error <= ERROR_BOUNDS[self.precision]:
            raise EngineUnavailable(
                f'{self.name} gives other features in a batch of {count} than alone (error {error:.1e}); use batch size 1'
            )
        self._batched = count, run

    def encode(self, images: Images, joints: Joints) -> Features:
        """See `Engine.encode`."""
        count = len(images)
        if count == 1:
            return self._single(images, joints)
        if count > self._batched[0]:
            self._build_batched(images, joints)
        size, run = self._batched
        return run(_filled(images, size), _filled(joints, size))[:count]


def _filled(rows: NDArray, size: int) -> NDArray:
    if len(rows) == size:
        return rows
    return np.concatenate([rows, np.zeros((size - len(rows), *rows.shape[1:]), rows.dtype)])


def relative_error(features: Features, expected: Features) -> float:
    """Largest difference of any set, relative to the largest expected value of that set; infinite where that is zero."""
    difference, scale = np.abs(features - expected).max(axis=1), np.abs(expected).max(axis=1)
    scale[(scale == 0) & (difference == 0)] = 1
    with np.errstate(divide='ignore'):
        return float((difference / scale).max())


def choose_device(name: str) -> torch.device:
    """The device of a `device` parameter: 'auto', 'cpu', 'cuda' or 'cuda:N'.

    Raises:
        ConfigError: when it is unknown, or CUDA is asked for and cannot be used; there is no silent fallback.
    """
    if name == 'auto':
        return torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ConfigError(f'device: {name!r} is unknown; use auto, cpu, cuda or cuda:N') from None
    if device.type == 'cuda':
        if not torch.cuda.is_available():
            build = 'is a build without CUDA' if torch.version.cuda is None else 'finds no usable NVIDIA GPU and driver'
            raise ConfigError(f'device: {name} was asked for, but torch {torch.__version__} {build}; use auto or cpu')
        if (device.index or 0) >= torch.cuda.device_count():
            raise ConfigError(f'device: {name} does not exist; this machine has {torch.cuda.device_count()} CUDA device(s)')
    elif device.type != 'cpu' or device.index is not None:
        raise ConfigError(f'device: {name!r} is not supported; use auto, cpu, cuda or cuda:N')
    return device
