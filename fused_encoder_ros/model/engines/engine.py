"""What every engine offers, and where it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fused_encoder_ros.errors import ConfigError, EngineUnavailable
from fused_encoder_ros.spec import ObservationSpec

Images = NDArray[np.uint8]
Joints = NDArray[np.float32]
Features = NDArray[np.float32]


ERROR_BOUNDS = {'fp32': 1e-5, 'fp16': 5e-3, 'bf16': 3e-2}
"""Largest error that an engine may show against `eager` in float32, by set, relative to the largest value of its feature."""


class Inputs:
    """The input of an engine, in memory of its own.

    What it computes then depends on the numbers alone: the strides, the alignment and the address of the caller's arrays
    made TorchScript choose other kernels, and with them other last bits.

    Attributes:
        images: uint8 [B,S,S,3*cameras].
        joints: float32 [B,J].
    """

    def __init__(self, batch: int, spec: ObservationSpec, pinned: bool = False) -> None:
        shape = (batch, spec.image_size, spec.image_size, spec.channels)
        self.images = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned)
        self.joints = torch.zeros((batch, len(spec.joint_names)), pin_memory=pinned)

    def __len__(self) -> int:
        return len(self.images)

    def fill(self, images: Images, joints: Joints) -> None:
        """Take a batch of at most this size; the rest becomes black images and joints at zero.

        Raises:
            ValueError: when the arrays are of another shape.
            TypeError: when they are of another dtype.
        """
        if len(joints) != len(images):
            raise ValueError(f'there are {len(images)} sets of images, but {len(joints)} of joints')
        for name, slot, rows in (('images', self.images, images), ('joints', self.joints, joints)):
            _copy(name, slot.numpy(), rows)


def _copy(name: str, slot: NDArray[Any], rows: NDArray[Any]) -> None:
    if rows.shape[1:] != slot.shape[1:]:  # which NumPy would broadcast
        raise ValueError(f'{name} are of shape {rows.shape}; the encoder needs {("B", *slot.shape[1:])}')
    np.copyto(slot[: len(rows)], rows, casting='equiv')
    slot[len(rows) :] = 0


class Engine(ABC):
    """What every engine offers. Its memory is used again by each call, so only one thread may call it at a time."""

    name: str
    precision: str
    device: torch.device

    @abstractmethod
    def encode(self, images: Images, joints: Joints) -> Features:
        """Sets to features; equal sets give equal bits, however the arrays lie in memory.

        Args:
            images: uint8 [B,S,S,3*cameras], in the spec's camera order.
            joints: float32 [B,J], as the spec standardises them.

        Returns:
            float32 [B,D].

        Raises:
            ValueError: when the arrays are of another shape.
        """


class _Program:
    """What encodes exactly so many sets, ready and warm, with its input."""

    def __init__(self, inputs: Inputs, run: Callable[[], Features]) -> None:
        self.inputs = inputs
        self._run = run

    def __call__(self, images: Images, joints: Joints) -> Features:
        self.inputs.fill(images, joints)
        return self._run()[: len(images)]


class FixedBatchEngine(Engine):
    """An engine that is built for a batch size: one build for a single set, one for the largest batch so far.

    Smaller batches are filled up with black images, so that a bag's last sets run in the build of the others.

    Raises:
        EngineUnavailable: from `encode` too, when a larger build does not agree with the single one.
    """

    def __init__(self, spec: ObservationSpec) -> None:
        self._spec = spec
        self._single = self._batched = self._program(1)

    @abstractmethod
    def _build(self, inputs: Inputs) -> Callable[[], Features]:
        """What encodes the sets in `inputs`, ready and warm; its answer is the caller's to keep."""

    def _program(self, batch: int) -> _Program:
        inputs = Inputs(batch, self._spec, pinned=self.device.type == 'cuda')
        return _Program(inputs, self._build(inputs))

    def _build_batched(self, images: Images, joints: Joints) -> None:
        count = len(images)
        program = self._program(count)
        features = program(images, joints)
        rows = sorted({0, count // 2, count - 1})
        expected = np.concatenate([self._single(images[i : i + 1], joints[i : i + 1]) for i in rows])
        error = relative_error(features[rows], expected)
        if not error <= ERROR_BOUNDS[self.precision]:
            raise EngineUnavailable(
                f'{self.name} gives other features in a batch of {count} than alone (error {error:.1e}); use batch size 1'
            )
        self._batched = program

    def encode(self, images: Images, joints: Joints) -> Features:
        """See `Engine.encode`."""
        if len(images) == 1:
            return self._single(images, joints)
        if len(images) > len(self._batched.inputs):
            self._build_batched(images, joints)
        return self._batched(images, joints)


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
