"""The whole computation of a set as one module, which each engine runs in its own way."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fused_encoder_ros.model.encoder import Encoder, ResNet18Encoder, ThreeStreamEncoder
from fused_encoder_ros.spec import ObservationSpec


class Network(nn.Module):
    """uint8 images [B,S,S,3*cameras] in the spec's camera order and float32 joints [B,J] to float32 features [B,D].

    Args:
        encoder: in eval mode.
        spec: how pixels are scaled, and the order of the cameras.
        memory_format: layout of the pixels that the encoder gets.

    Attributes:
        order: where the encoder's cameras stand in the spec's order; None when the two orders are the same.
    """

    def __init__(
        self, encoder: Encoder, spec: ObservationSpec, memory_format: torch.memory_format = torch.channels_last
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.memory_format = memory_format
        self.divisor = spec.pixel_divisor
        # A design that stacks takes the stack as in training; of one encoder a camera, each needs its own camera.
        wanted = encoder.cameras if isinstance(encoder, ThreeStreamEncoder) else spec.cameras
        self.order = None if wanted == spec.cameras else [spec.cameras.index(camera) for camera in wanted]
        self.mean: Tensor | None
        self.std: Tensor | None
        self.register_buffer('mean', _by_channel(spec.pixel_mean, spec.channels))
        self.register_buffer('std', _by_channel(spec.pixel_std, spec.channels))

    def forward(self, images: Tensor, joints: Tensor) -> Tensor:
        """See the class."""
        pixels = images.permute(0, 3, 1, 2).float() / self.divisor
        if self.mean is not None and self.std is not None:
            # Not folded into conv1: its zero padding would then stand for another value.
            pixels = (pixels - self.mean) / self.std
        if self.order is not None:
            given = pixels.split(3, dim=1)
            pixels = torch.cat([given[i] for i in self.order], dim=1)
        return self.encoder.stacked(pixels.contiguous(memory_format=self.memory_format), joints)


def _by_channel(values: tuple[float, ...] | None, channels: int) -> Tensor | None:
    if values is None:
        return None
    return torch.tensor(values * (channels // len(values))).view(1, -1, 1, 1)


def folded(encoder: Encoder) -> Encoder:
    """A copy of an encoder in eval mode with each BatchNorm folded into the convolution before it."""
    encoder = copy.deepcopy(encoder)
    for module in encoder.modules():
        if isinstance(module, ResNet18Encoder):
            _fold(module.resnet, '0', '1')
            layers: Any = module.resnet[4:8]
            for block in (block for layer in layers for block in layer):
                _fold(block, 'conv1', 'bn1')
                _fold(block, 'conv2', 'bn2')
                if block.downsample is not None:
                    _fold(block.downsample, '0', '1')
    return encoder


def _fold(parent: nn.Module, convolution: str, norm: str) -> None:
    conv: Any = getattr(parent, convolution)
    bn: Any = getattr(parent, norm)
    setattr(parent, convolution, fuse_conv_bn_eval(conv, bn))
    setattr(parent, norm, nn.Identity())


def with_convolutions_in(encoder: Encoder, dtype: torch.dtype) -> Encoder:
    """The same encoder, changed in place: its ResNets in `dtype`; what follows them stays float32."""
    for module in encoder.modules():
        if isinstance(module, ResNet18Encoder):
            module.resnet.to(dtype)
    return encoder
