"""The two encoder designs, with the key names of the training code's checkpoints.

`ImageJointEncoder` is the optimised design, one ResNet18 over the stacked images; `ThreeStreamEncoder` the original, one
ResNet18 a camera. Both take float32 images in the range that training used (0 to 1 by default) and share one interface.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from fused_encoder_ros.errors import CheckpointError, ConfigError
from fused_encoder_ros.model._torch import check_torch
from fused_encoder_ros.model._torchvision import import_torchvision
from fused_encoder_ros.model.state_dict import read_state_dict
from fused_encoder_ros.spec import CAMERAS

check_torch()
models = import_torchvision().models

CONV1_INITS = ('copy', 'scaled')

STREAM_SUFFIX = '_encoder'
"""Of the members of `ThreeStreamEncoder`: the training code has `left_wrist_encoder` and so on."""

_JOINT_HIDDEN = 128
_FUSION_HIDDEN = 512
_DROPOUT = 0.1


class ResNet18Encoder(nn.Module):
    """torchvision's ResNet18 without its classifier, followed by Linear(512, output_dim) and ReLU.

    Args:
        output_dim: number of values of the image feature.
        pretrained: None for random weights; the path of a torchvision ResNet18 state dict; or the name of a
            `ResNet18_Weights` entry such as 'IMAGENET1K_V1', which torchvision downloads unless it is cached.
        in_channels: number of input channels, a multiple of 3.
        conv1_init: how the three pretrained input channels become `in_channels`. 'copy' repeats them: the same picture in
            every camera then excites conv1 in_channels / 3 times as strongly, which the frozen BatchNorm statistics do not
            expect. 'scaled' also divides them by that factor, so that the response keeps its size.

    Raises:
        ConfigError: if `conv1_init` is unknown, or `in_channels` is not a multiple of 3.
        CheckpointError: if `pretrained` is neither a file nor a name of torchvision's weights.
    """

    def __init__(
        self,
        output_dim: int = 256,
        pretrained: str | os.PathLike[str] | None = None,
        in_channels: int = 9,
        conv1_init: str = 'copy',
    ) -> None:
        super().__init__()
        if conv1_init not in CONV1_INITS:
            raise ConfigError(f'conv1_init: {conv1_init!r} is unknown; use one of {list(CONV1_INITS)}')
        resnet = models.resnet18(weights=None)
        if pretrained is not None:
            resnet.load_state_dict(_resnet18_weights(pretrained))
        if in_channels != 3:
            if in_channels % 3:
                raise ConfigError(f'in_channels: {in_channels} is not a multiple of 3')
            rgb = resnet.conv1.weight.detach()
            resnet.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
            if pretrained is not None:
                cameras = in_channels // 3
                weight = rgb.repeat(1, cameras, 1, 1)
                with torch.no_grad():
                    resnet.conv1.weight.copy_(weight / cameras if conv1_init == 'scaled' else weight)
        self.resnet = nn.Sequential(*list(resnet.children())[:-1])
        self.fc = nn.Linear(512, output_dim)

    def forward(self, image: Tensor) -> Tensor:
        """Encode images float32 [B,in_channels,H,W] into features float32 [B,output_dim], none of them negative.

        The convolutions may run in another precision than the rest.
        """
        convolutions = self.resnet(image.to(next(self.resnet.parameters()).dtype))
        return torch.relu(self.fc(torch.flatten(convolutions, 1).to(self.fc.weight.dtype)))


class FusionEncoder(nn.Module):
    """What both designs share: they join the features of images and joints, and fuse them into one.

    Attributes:
        joint_dim: number J of joints.
        fusion_dim: number of values of the fused feature.
    """

    joint_dim: int
    fusion_dim: int
    joint_fc: nn.Sequential
    fusion_fc: nn.Sequential

    def image_branches(self, images: Tensor) -> list[Callable[[], Tensor]]:
        """The functions that compute `image_features`, independent of each other."""
        raise NotImplementedError

    def image_features(self, images: Tensor) -> list[Tensor]:
        """Encode stacked images float32 [B,3*N,S,S] into one feature or one per camera, each float32 [B,image_feature_dim]."""
        return [branch() for branch in self.image_branches(images)]

    def forward(self, *images_and_joint: Tensor) -> Tensor:
        """Encode one image tensor per camera, float32 [B,3,S,S], then joints float32 [B,J], into float32 [B,fusion_dim]."""
        *images, joint = images_and_joint
        return self.stacked(torch.cat(images, dim=1), joint)

    def stacked(self, images: Tensor, joint: Tensor) -> Tensor:
        """Like `forward`, for images already stacked to float32 [B,3*N,S,S]."""
        return self.fused([*self.image_features(images), self.joint_fc(joint)])

    def fused(self, features: list[Tensor]) -> Tensor:
        """Fuse the features of images and joints, float32 [B,image_feature_dim] each, into float32 [B,fusion_dim]."""
        return self.fusion_fc(torch.cat(features, dim=1))


class ImageJointEncoder(FusionEncoder):
    """The design `single`: one ResNet18 over the stacked images of all cameras.

    Call it with one image tensor per camera, float32 [B,3,S,S], then joints float32 [B,J]; it returns float32 [B,fusion_dim].
    Each camera has three channels of the stack: by default left_wrist 0-2, right_wrist 3-5, global 6-8.

    Args:
        joint_dim: number J of joints.
        image_feature_dim: number of values of the image feature, and of the joint feature.
        fusion_dim: number of values of the fused feature.
        pretrained: as in `ResNet18Encoder`.
        conv1_init: as in `ResNet18Encoder`.
        camera_count: number N of cameras.
    """

    def __init__(
        self,
        joint_dim: int = 16,
        image_feature_dim: int = 256,
        fusion_dim: int = 256,
        pretrained: str | os.PathLike[str] | None = None,
        conv1_init: str = 'copy',
        camera_count: int = len(CAMERAS),
    ) -> None:
        super().__init__()
        self.joint_dim = joint_dim
        self.fusion_dim = fusion_dim
        self.camera_count = camera_count
        self.image_encoder = ResNet18Encoder(image_feature_dim, pretrained, 3 * camera_count, conv1_init)
        self.joint_fc = _joint_branch(joint_dim, image_feature_dim)
        self.fusion_fc = _fusion(2 * image_feature_dim, fusion_dim)

    def image_branches(self, images: Tensor) -> list[Callable[[], Tensor]]:
        """One branch, over all images."""
        return [functools.partial(self.image_encoder, images)]


class ThreeStreamEncoder(FusionEncoder):
    """The design `three_stream`, the original one: a ResNet18 for each camera.

    Call it like `ImageJointEncoder`.

    Args:
        joint_dim: number J of joints.
        image_feature_dim: number of values of each camera's feature, and of the joint feature.
        fusion_dim: number of values of the fused feature.
        pretrained: as in `ResNet18Encoder`.
        cameras: names of the cameras, in the order in which their features are joined. The ResNet18 of camera `x` is the
            member `x_encoder`.
    """

    def __init__(
        self,
        joint_dim: int = 16,
        image_feature_dim: int = 128,
        fusion_dim: int = 256,
        pretrained: str | os.PathLike[str] | None = None,
        cameras: Sequence[str] = CAMERAS,
    ) -> None:
        super().__init__()
        self.joint_dim = joint_dim
        self.fusion_dim = fusion_dim
        self.cameras = tuple(cameras)
        for camera in self.cameras:
            self.add_module(camera + STREAM_SUFFIX, ResNet18Encoder(image_feature_dim, pretrained, 3))
        self.joint_fc = _joint_branch(joint_dim, image_feature_dim)
        self.fusion_fc = _fusion((len(self.cameras) + 1) * image_feature_dim, fusion_dim)

    @property
    def streams(self) -> list[ResNet18Encoder]:
        """The ResNet18 of each camera."""
        return [getattr(self, camera + STREAM_SUFFIX) for camera in self.cameras]

    def image_branches(self, images: Tensor) -> list[Callable[[], Tensor]]:
        """One branch for each camera."""
        return [functools.partial(stream, image) for stream, image in zip(self.streams, images.split(3, dim=1))]


Encoder = ImageJointEncoder | ThreeStreamEncoder
"""Either design."""


def _joint_branch(joint_dim: int, output_dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(joint_dim, _JOINT_HIDDEN), nn.ReLU(), nn.Linear(_JOINT_HIDDEN, output_dim))


def _fusion(input_dim: int, output_dim: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(input_dim, _FUSION_HIDDEN),
        nn.ReLU(),
        nn.Dropout(_DROPOUT),
        nn.Linear(_FUSION_HIDDEN, output_dim),
        nn.ReLU(),
    )


def _resnet18_weights(source: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The state dict of a local file, or of torchvision's weights enum."""
    path = Path(source)
    if path.is_file():
        return read_state_dict(path, 'conv1.weight')
    entries = list(models.ResNet18_Weights.__members__)
    if str(source) in entries:
        return dict(models.ResNet18_Weights[str(source)].get_state_dict(progress=False, check_hash=True))
    raise CheckpointError(f"pretrained: {str(source)!r} is neither a file nor one of torchvision's weights {entries}")
