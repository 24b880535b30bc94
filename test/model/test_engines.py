"""Engines: as exact as they say, on ordinary and on hostile inputs, or refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fused_encoder_ros.errors import CheckpointError, ConfigError
from fused_encoder_ros.model import ImageJointEncoder, ModelOptions, ThreeStreamEncoder, choose, load_model, packed
from fused_encoder_ros.model.choose import ERROR_BOUNDS, choose_engine
from fused_encoder_ros.model.engine import EagerEngine
from fused_encoder_ros.model.packed import PackedEngine
from fused_encoder_ros.spec import ObservationSpec

CPU = torch.device('cpu')
SPEC = ObservationSpec()
OTHER = ObservationSpec(
    cameras=('global', 'left_wrist', 'right_wrist'), image_size=96, pixel_mean=(0.4,) * 9, pixel_std=(0.2,) * 9
)
HAS_BF16 = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def trained(kind: type[nn.Module]) -> nn.Module:
    """With BatchNorm statistics that folding must not get wrong."""
    torch.manual_seed(2)
    encoder = kind().eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.3, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return encoder


def inputs(spec: ObservationSpec, batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(batch)
    images = rng.integers(0, 256, (batch, spec.image_size, spec.image_size, 9), dtype=np.uint8)
    images[0] = 0
    if batch > 1:
        images[1] = 255
    return images, rng.normal(size=(batch, 16)).astype(np.float32) * 3


@pytest.mark.parametrize('kind', [ImageJointEncoder, ThreeStreamEncoder])
@pytest.mark.parametrize('spec', [SPEC, OTHER])
@pytest.mark.parametrize('precision', ['fp32', pytest.param('bf16', marks=pytest.mark.skipif(not HAS_BF16, reason='no bf16'))])
def test_packed_equals_eager(kind: type[nn.Module], spec: ObservationSpec, precision: str) -> None:
    encoder = trained(kind)
    eager, fast = EagerEngine(encoder, spec, CPU), PackedEngine(encoder, spec, precision)
    for batch in (1, 5, 1):
        images, joints = inputs(spec, batch)
        expected, actual = eager.encode(images, joints), fast.encode(images, joints)
        assert actual.dtype == np.float32 and actual.shape == expected.shape and np.abs(expected).max() > 0
        assert np.abs(actual - expected).max() <= ERROR_BOUNDS[precision] * np.abs(expected).max()


def test_the_same_set_gives_the_same_bits() -> None:
    fast = PackedEngine(trained(ImageJointEncoder), SPEC)
    images, joints = inputs(SPEC, 4)
    once = [fast.encode(images[i : i + 1], joints[i : i + 1]) for i in range(4)]
    fast.encode(images, joints)
    for i in (3, 1, 0, 2):
        np.testing.assert_array_equal(fast.encode(images[i : i + 1], joints[i : i + 1]), once[i])


def test_auto_takes_packed_and_says_how_exact_it_is() -> None:
    model = load_model(ModelOptions(device='cpu'), SPEC)
    assert model.engine.name == 'packed' and 0 < model.engine_error <= 1e-5
    assert load_model(ModelOptions(device='cpu', engine='eager'), SPEC).engine_error == 0


def test_packing_leaves_the_encoder_alone() -> None:
    encoder = trained(ImageJointEncoder)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    PackedEngine(encoder, SPEC, 'fp32')
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_an_engine_past_its_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(choose.ERROR_BOUNDS, 'fp32', 0.0)
    encoder = trained(ImageJointEncoder)
    with pytest.raises(ConfigError, match=r'engine: packed in fp32 cannot run here: its error of .* is past the bound'):
        choose_engine(encoder, SPEC, CPU, 'packed', 'fp32')
    choice = choose_engine(encoder, SPEC, CPU, 'auto', 'fp32')
    assert choice.engine.name == 'eager' and 'past the bound' in choice.reason


def test_a_torch_without_the_operators_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_arguments: object) -> None:
        raise AttributeError("'_OpNamespace' 'mkldnn' object has no attribute '_reorder_convolution_weight'")

    monkeypatch.setattr(packed, '_PackedConv', absent)
    choice = choose_engine(trained(ImageJointEncoder), SPEC, CPU, 'auto', 'fp32')
    assert choice.engine.name == 'eager' and 'lacks the packing operators' in choice.reason
    with pytest.raises(ConfigError, match='cannot run here'):
        choose_engine(trained(ImageJointEncoder), SPEC, CPU, 'packed', 'fp32')


def test_damaged_weights_are_refused() -> None:
    encoder = trained(ImageJointEncoder)
    with torch.no_grad():
        encoder.image_encoder.resnet[4][0].conv1.weight[0, 0, 0, 0] = float('nan')
    with pytest.raises(CheckpointError, match='NaN or infinity'):
        choose_engine(encoder, SPEC, CPU, 'auto', 'fp32')


def test_what_an_engine_cannot_do_is_named() -> None:
    with pytest.raises(ConfigError, match='precision: bf16 is not what the engine eager runs in'):
        choose_engine(trained(ImageJointEncoder), SPEC, CPU, 'eager', 'bf16')
