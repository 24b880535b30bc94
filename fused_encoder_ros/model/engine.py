"""Inference engines: uint8 sets in, float32 features out, on the device that was asked for."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.spec import CAMERAS, ObservationSpec


class Engine(Protocol):
    """What every engine offers."""

    name: str
    precision: str
    device: torch.device

    def encode(self, images: NDArray[np.uint8], joints: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images uint8 [B,S,S,9] in the spec's camera order and joints float32 [B,J] to features float32 [B,D]."""
        ...


class EagerEngine:
    """Plain torch in float32 with TF32 off: the reference that other engines are compared with."""

    name = 'eager'
    precision = 'fp32'

    def __init__(self, encoder: nn.Module, spec: ObservationSpec, device: torch.device) -> None:
        self.device = device
        self._encoder = encoder.to(device).eval()
        self._preprocess = Preprocess(spec, device)
        if device.type == 'cuda':
            torch.backends.cuda.matmul.allow_tf32 = False
            torch.backends.cudnn.allow_tf32 = False

    @torch.inference_mode()
    def encode(self, images: NDArray[np.uint8], joints: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.encode`."""
        pixels = self._preprocess.stacked(torch.from_numpy(images).to(self.device)).contiguous()
        features = self._encoder(*pixels.split(3, dim=1), torch.from_numpy(joints).to(self.device))
        return np.asarray(features.cpu().numpy(), np.float32)


class Preprocess:
    """uint8 [B,S,S,9] in the spec's camera order to float32 [B,9,S,S] in the encoder's, scaled as in training."""

    def __init__(self, spec: ObservationSpec, device: torch.device) -> None:
        order = [3 * spec.cameras.index(camera) + channel for camera in CAMERAS for channel in range(3)]
        self._order = None if order == sorted(order) else torch.tensor(order, device=device)
        self._divisor = spec.pixel_divisor
        self._mean_std: tuple[Tensor, Tensor] | None = None
        if spec.pixel_mean is not None and spec.pixel_std is not None:
            repeat = spec.channels // len(spec.pixel_mean)
            mean = torch.tensor(spec.pixel_mean * repeat, device=device)
            std = torch.tensor(spec.pixel_std * repeat, device=device)
            self._mean_std = mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)

    def stacked(self, images: Tensor) -> Tensor:
        """Channels last in memory, as the images are."""
        pixels = images.permute(0, 3, 1, 2).float() / self._divisor
        if self._mean_std is not None:
            mean, std = self._mean_std
            pixels = (pixels - mean) / std
        return pixels if self._order is None else pixels[:, self._order]


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
    elif device.type != 'cpu':
        raise ConfigError(f'device: {name!r} is not supported; use auto, cpu, cuda or cuda:N')
    return device
