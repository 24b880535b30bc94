"""The fast CPU engine that needs torch alone: BatchNorm folded, convolution weights packed ahead for oneDNN.

At batch 1, eager torch re-orders some 45 MB of convolution weights into oneDNN's layout on every call. Packing them once, and
fusing ReLU and the residual sums into the convolutions, is what torch's own compiler does when it freezes a model. The
operators for it are private to torch, so `PackedEngine` raises `EngineUnavailable` where they are missing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from fused_encoder_ros.errors import EngineUnavailable
from fused_encoder_ros.model.encoder import ImageJointEncoder, ResNet18Encoder, ThreeStreamEncoder
from fused_encoder_ros.model.engine import Preprocess
from fused_encoder_ros.spec import ObservationSpec

_DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}


class PackedEngine:
    """Runs either design on the CPU; see the module.

    Args:
        encoder: in eval mode; it is left as it is.
        spec: what the images are.
        precision: 'fp32', or 'bf16' for the convolutions where the CPU has it.

    Raises:
        EngineUnavailable: when this torch, or this CPU, lacks what is needed.
    """

    name = 'packed'

    def __init__(
        self, encoder: ImageJointEncoder | ThreeStreamEncoder, spec: ObservationSpec, precision: str = 'fp32'
    ) -> None:
        self.device = torch.device('cpu')
        self.precision = precision
        self._encoder = encoder
        self._size = spec.image_size
        self._preprocess = Preprocess(spec, self.device)
        if not torch.backends.mkldnn.is_available():
            raise EngineUnavailable('this torch is built without oneDNN')
        if precision == 'bf16' and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise EngineUnavailable('this CPU has no bfloat16 arithmetic that oneDNN uses')
        # Packed for the batch size in use: the best layout depends on it.
        self._packed: tuple[int, list[_PackedResNet]] = 0, []
        self._branches = _branches(encoder)
        try:
            self._pack(1)
        except (AttributeError, RuntimeError) as error:
            raise EngineUnavailable(f'this torch lacks the packing operators: {error}') from error

    @torch.inference_mode()
    def encode(self, images: NDArray[np.uint8], joints: NDArray[np.float32]) -> NDArray[np.float32]:
        """See `Engine.encode`."""
        if len(images) != self._packed[0]:
            self._pack(len(images))
        pixels = self._preprocess.stacked(torch.from_numpy(images))
        width = pixels.shape[1] // len(self._branches)
        features = [resnet(pixels[:, i * width : (i + 1) * width]) for i, resnet in enumerate(self._packed[1])]
        joint_feature = self._encoder.joint_fc(torch.from_numpy(joints))
        return np.asarray(self._encoder.fusion_fc(torch.cat([*features, joint_feature], 1)).numpy(), np.float32)

    @torch.inference_mode()
    def _pack(self, batch: int) -> None:
        channels = 9 // len(self._branches)
        shape = (batch, channels, self._size, self._size)
        self._packed = batch, [_PackedResNet(branch, shape, _DTYPES[self.precision]) for branch in self._branches]


def _branches(encoder: ImageJointEncoder | ThreeStreamEncoder) -> list[ResNet18Encoder]:
    if isinstance(encoder, ImageJointEncoder):
        return [encoder.image_encoder]
    return [encoder.left_wrist_encoder, encoder.right_wrist_encoder, encoder.global_encoder]


class _PackedResNet:
    """A `ResNet18Encoder` for one input shape."""

    def __init__(self, encoder: ResNet18Encoder, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        children: list[Any] = list(encoder.resnet)
        conv1, bn1, _, self._pool, *layers, _ = children
        self._fc = encoder.fc
        self._dtype = dtype
        sample = torch.zeros(shape, dtype=dtype).contiguous(memory_format=torch.channels_last)
        self._stem = _PackedConv(conv1, bn1, sample)
        sample = self._pool(self._stem(sample))
        self._blocks: list[Callable[[Tensor], Tensor]] = []
        for layer in layers:
            for block in layer:
                self._blocks.append(_PackedBlock(block, sample))
                sample = self._blocks[-1](sample)

    def __call__(self, pixels: Tensor) -> Tensor:
        x = self._pool(self._stem(pixels.to(self._dtype)))
        for block in self._blocks:
            x = block(x)
        return torch.relu(self._fc(x.float().mean((2, 3))))


class _PackedBlock:
    """torchvision's BasicBlock."""

    def __init__(self, block: Any, sample: Tensor) -> None:
        self._conv1 = _PackedConv(block.conv1, block.bn1, sample)
        self._conv2 = _PackedConv(block.conv2, block.bn2, self._conv1(sample))
        downsample = block.downsample
        self._shortcut = None if downsample is None else _PackedConv(downsample[0], downsample[1], sample)

    def __call__(self, x: Tensor) -> Tensor:
        shortcut = self._shortcut(x, 'none') if self._shortcut is not None else x
        return self._conv2.add_relu(self._conv1(x), shortcut)


class _PackedConv:
    """A convolution with its BatchNorm folded in, its weight in the layout that oneDNN wants for this input."""

    def __init__(self, conv: nn.Conv2d, bn: nn.BatchNorm2d, sample: Tensor) -> None:
        fused: Any = fuse_conv_bn_eval(conv, bn)
        self._geometry = list(fused.padding), list(fused.stride), list(fused.dilation), fused.groups
        self._bias = fused.bias.detach().to(sample.dtype)
        self._weight = torch.ops.mkldnn._reorder_convolution_weight(
            fused.weight.detach().to(sample.dtype), *self._geometry, list(sample.shape)
        )

    def __call__(self, x: Tensor, activation: str = 'relu') -> Tensor:
        return torch.ops.mkldnn._convolution_pointwise(x, self._weight, self._bias, *self._geometry, activation, [], '')

    def add_relu(self, x: Tensor, other: Tensor) -> Tensor:
        """relu(conv(x) + other), in one operation."""
        return torch.ops.mkldnn._convolution_pointwise.binary(
            x, other, self._weight, self._bias, *self._geometry, 'add', 1.0, 'relu', [], ''
        )
