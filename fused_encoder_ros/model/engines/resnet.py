"""ResNet18 for a GPU: each convolution with its bias, residual and ReLU in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from fused_encoder_ros.model.encoder import Encoder, ResNet18Encoder


class Convolution(Protocol):
    """What convolves, adds the bias and `residual`, and takes what is positive; images are channels last."""

    def __call__(self, x: Tensor, residual: Tensor | None = None, relu: bool = True) -> Tensor: ...


class CudnnConvolution(nn.Module):
    """One call of cuDNN. See `Convolution`.

    In float16 ReLU is torch's: what overflows becomes NaN in the next layer, and a ReLU that turns NaN into 0 would hide it.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution = convolution

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = True) -> Tensor:
        """Channels last, [B,C,H,W] to [B,O,HO,WO]."""
        own = self.convolution
        if not relu or own.weight.dtype == torch.float16:
            y = own(x) if residual is None else own(x).add_(residual)
            return y.relu_() if relu else y
        shape: Any = own.bias, own.stride, own.padding, own.dilation, own.groups
        if residual is None:
            return torch.cudnn_convolution_relu(x, own.weight, *shape)
        return torch.cudnn_convolution_add_relu(x, own.weight, residual, 1.0, *shape)


class FusedResNet(nn.Module):
    """torchvision's ResNet18 without its classifier, BatchNorm folded; float [B,C,H,W] to [B,512,1,1].

    Args:
        resnet: the members of torchvision's, as `ResNet18Encoder` has them.
        convolution: makes a `Convolution` of a convolution.
        max_pool: of 3x3, every other pixel.
    """

    def __init__(
        self, resnet: nn.Sequential, convolution: Callable[[nn.Conv2d], nn.Module], max_pool: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        stem: Any = resnet[0]
        layers: Any = resnet[4:8]
        self.stem = convolution(stem)
        self.max_pool = max_pool
        self.blocks = nn.ModuleList(_Block(block, convolution) for layer in layers for block in layer)

    def forward(self, images: Tensor) -> Tensor:
        """See the class."""
        x = self.max_pool(self.stem(images.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            x = block(x)
        return x.mean((2, 3), keepdim=True)


class _Block(nn.Module):
    def __init__(self, block: Any, convolution: Callable[[nn.Conv2d], nn.Module]) -> None:
        super().__init__()
        self.first, self.second = convolution(block.conv1), convolution(block.conv2)
        self.shortcut = None if block.downsample is None else convolution(block.downsample[0])

    def forward(self, x: Tensor) -> Tensor:
        residual = x if self.shortcut is None else self.shortcut(x, relu=False)
        return self.second(self.first(x), residual)


def with_fused_resnets(
    encoder: Encoder, convolution: Callable[[nn.Conv2d], nn.Module], max_pool: Callable[[Tensor], Tensor]
) -> Encoder:
    """The same encoder, its BatchNorms folded before, changed in place."""
    for module in encoder.modules():
        if isinstance(module, ResNet18Encoder):
            module.resnet = FusedResNet(module.resnet, convolution, max_pool)  # type: ignore[assignment]
    return encoder
