"""Both designs against an independent construction from plain torchvision, in eval mode, to 0 difference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fused_encoder_ros.errors import CheckpointError, ConfigError
from fused_encoder_ros.model import ImageJointEncoder, ResNet18Encoder, ThreeStreamEncoder, content_hash
from fused_encoder_ros.model._torchvision import import_torchvision

torchvision = import_torchvision()


def randomise(module: nn.Module) -> nn.Module:
    """Weights and BatchNorm statistics as after training: none at its neutral value."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in module.state_dict().items():
        if name.endswith('running_var'):
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
        elif tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.05)
    return module.eval()


def plain_branch(state: dict[str, torch.Tensor], prefix: str, images: torch.Tensor) -> torch.Tensor:
    """A camera branch through torchvision's own ResNet18, its weights put in by position."""
    resnet = torchvision.models.resnet18(weights=None)
    width = images.shape[1]
    resnet.conv1 = nn.Conv2d(width, 64, 7, 2, 3, bias=False)
    resnet.fc = nn.Identity()
    ours = [tensor for key, tensor in state.items() if key.startswith(f'{prefix}.resnet.')]
    theirs = dict(zip(resnet.state_dict(), ours, strict=True))
    resnet.load_state_dict(theirs)
    pooled = resnet.eval()(images)
    return functional.relu(functional.linear(pooled, state[f'{prefix}.fc.weight'], state[f'{prefix}.fc.bias']))


def plain_rest(state: dict[str, torch.Tensor], image_features: list[torch.Tensor], joint: torch.Tensor) -> torch.Tensor:
    def linear(key: str, x: torch.Tensor) -> torch.Tensor:
        return functional.linear(x, state[f'{key}.weight'], state[f'{key}.bias'])

    joint_feature = linear('joint_fc.2', functional.relu(linear('joint_fc.0', joint)))
    hidden = functional.relu(linear('fusion_fc.0', torch.cat([*image_features, joint_feature], 1)))
    return functional.relu(linear('fusion_fc.3', hidden))


@pytest.fixture(scope='module')
def inputs() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(2, 3, 84, 84, generator=generator) for _ in range(3)]
    return (*images, torch.randn(2, 16, generator=generator))


@torch.no_grad()
@pytest.mark.parametrize('width', [128, 256])
def test_single_equals_plain_torchvision(inputs: tuple[torch.Tensor, ...], width: int) -> None:
    encoder = randomise(ImageJointEncoder(joint_dim=16, image_feature_dim=width, fusion_dim=256))
    state = encoder.state_dict()
    left, right, top, joint = inputs
    expected = plain_rest(state, [plain_branch(state, 'image_encoder', torch.cat([left, right, top], 1))], joint)
    actual = encoder(left, right, top, joint)
    assert actual.shape == (2, 256) and torch.equal(actual, expected) and actual.abs().max() > 0


@torch.no_grad()
def test_three_stream_equals_plain_torchvision(inputs: tuple[torch.Tensor, ...]) -> None:
    encoder = randomise(ThreeStreamEncoder(joint_dim=16))
    state = encoder.state_dict()
    prefixes = ('left_wrist_encoder', 'right_wrist_encoder', 'global_encoder')
    features = [plain_branch(state, prefix, image) for prefix, image in zip(prefixes, inputs)]
    assert torch.equal(encoder(*inputs), plain_rest(state, features, inputs[3]))


def expected_keys(*branches: str) -> set[str]:
    """The training code's names: Sequential positions of torchvision's children, then fc, joint_fc and fusion_fc."""
    names = {'conv1': '0', 'bn1': '1', 'layer1': '4', 'layer2': '5', 'layer3': '6', 'layer4': '7'}
    keys = set()
    for key in torchvision.models.resnet18(weights=None).state_dict():
        child, _, rest = key.partition('.')
        if child != 'fc':
            keys |= {f'{branch}.resnet.{names[child]}.{rest}' for branch in branches}
    ends = [f'{branch}.fc' for branch in branches] + ['joint_fc.0', 'joint_fc.2', 'fusion_fc.0', 'fusion_fc.3']
    return keys | {f'{end}.{kind}' for end in ends for kind in ('weight', 'bias')}


def test_key_names_are_those_of_the_training_code() -> None:
    assert set(ImageJointEncoder().state_dict()) == expected_keys('image_encoder')
    three = expected_keys('left_wrist_encoder', 'right_wrist_encoder', 'global_encoder')
    assert set(ThreeStreamEncoder().state_dict()) == three


def test_parameter_counts_of_the_defaults() -> None:
    """By hand: a ResNet18 without its classifier has 11 176 512; six more channels add 6*64*49 to conv1."""
    trunk, linear = 11_176_512, lambda n, m: n * m + m
    fusion = linear(512, 512) + linear(512, 256)
    single = trunk + 6 * 64 * 49 + linear(512, 256) + linear(16, 128) + linear(128, 256) + fusion
    three = 3 * (trunk + linear(512, 128)) + linear(16, 128) + linear(128, 128) + fusion
    counts = [sum(p.numel() for p in kind().parameters()) for kind in (ImageJointEncoder, ThreeStreamEncoder)]
    assert counts == [single, three] == [11_755_840, 34_139_200]


@pytest.fixture(scope='module')
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('weights') / 'resnet18.pth'
    torch.save(randomise(torchvision.models.resnet18(weights=None)).state_dict(), path)
    return path


@pytest.mark.parametrize('cameras', [1, 2, 3, 4])
def test_pretrained_weights_fill_the_channels_of_every_camera(weights_file: Path, cameras: int) -> None:
    rgb = torch.load(weights_file, weights_only=True)['conv1.weight']
    copied, scaled = (
        ImageJointEncoder(pretrained=weights_file, conv1_init=init, camera_count=cameras).image_encoder.resnet[0].weight
        for init in ('copy', 'scaled')
    )
    assert copied.shape[1] == scaled.shape[1] == 3 * cameras
    for camera in range(cameras):
        assert torch.equal(copied[:, 3 * camera : 3 * camera + 3], rgb)
        assert torch.equal(scaled[:, 3 * camera : 3 * camera + 3], rgb / cameras)


@torch.no_grad()
def test_what_scaling_conv1_does(weights_file: Path) -> None:
    """The same picture in every camera: 'scaled' responds as the RGB network does, 'copy' three times as strongly."""
    picture = torch.rand(1, 3, 84, 84)
    rgb = ResNet18Encoder(pretrained=weights_file, in_channels=3).resnet[0](picture)
    for init, factor in (('copy', 3), ('scaled', 1)):
        conv1 = ResNet18Encoder(pretrained=weights_file, conv1_init=init).resnet[0]
        torch.testing.assert_close(conv1(picture.repeat(1, 3, 1, 1)), factor * rgb, rtol=1e-4, atol=1e-4)


def test_three_stream_takes_pretrained_weights(weights_file: Path) -> None:
    rgb = torch.load(weights_file, weights_only=True)['conv1.weight']
    assert torch.equal(ThreeStreamEncoder(pretrained=weights_file).global_encoder.resnet[0].weight, rgb)


def test_wrong_choices_are_named() -> None:
    with pytest.raises(ConfigError, match='conv1_init'):
        ResNet18Encoder(conv1_init='mean')
    with pytest.raises(CheckpointError, match=r"'IMAGENET_V9' is neither a file.*IMAGENET1K_V1"):
        ResNet18Encoder(pretrained='IMAGENET_V9')
    with pytest.raises(ConfigError, match='in_channels'):
        ResNet18Encoder(in_channels=4)


def test_hash_follows_the_weights_alone() -> None:
    encoder = randomise(ImageJointEncoder())
    before = content_hash(encoder)
    assert before == content_hash(randomise(ImageJointEncoder())) and len(before) == 64
    with torch.no_grad():
        encoder.fusion_fc[0].bias[0] += np.float32(1e-3)
    assert content_hash(encoder) != before
