"""Engines: as exact as they say, on ordinary and on hostile inputs, or refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from fused_encoder_ros.errors import CheckpointError, ConfigError, EngineError
from fused_encoder_ros.model import ImageJointEncoder, ModelOptions, ThreeStreamEncoder, load_model
from fused_encoder_ros.model.engines import ERROR_BOUNDS, Engine, choose_engine, device_for
from fused_encoder_ros.model.engines.cuda_graph import CudaGraphEngine
from fused_encoder_ros.model.engines.eager import EagerEngine
from fused_encoder_ros.model.engines.engine import Inputs
from fused_encoder_ros.model.engines.network import folded
from fused_encoder_ros.model.engines.openvino import OpenVinoEngine
from fused_encoder_ros.model.engines.packed import PackedEngine
from fused_encoder_ros.spec import ObservationSpec

CPU = torch.device('cpu')
SPEC = ObservationSpec()
OTHER = ObservationSpec(
    cameras=('global', 'left_wrist', 'right_wrist'),
    image_size=96,
    pixel_mean=tuple(0.1 * i for i in range(9)),
    pixel_std=tuple(0.2 + 0.05 * i for i in range(9)),
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


BUILDERS: dict[str, Callable[[nn.Module, ObservationSpec, str], Engine]] = {
    'packed': PackedEngine,
    'openvino': lambda encoder, spec, precision='fp32': OpenVinoEngine(encoder, spec, precision, 2),
    'cuda_graph': lambda encoder, spec, precision='fp32': CudaGraphEngine(encoder, spec, torch.device('cuda'), precision),
}
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA here')
NEEDS_BF16 = pytest.mark.skipif(not HAS_BF16, reason='this CPU has no bfloat16')
CASES = [
    pytest.param('packed', 'fp32'),
    pytest.param('packed', 'bf16', marks=NEEDS_BF16),
    pytest.param('openvino', 'fp32'),
    pytest.param('openvino', 'bf16', marks=NEEDS_BF16),
    *(pytest.param('cuda_graph', precision, marks=NEEDS_CUDA) for precision in ('fp32', 'fp16', 'bf16')),
]


@pytest.mark.parametrize('kind', [ImageJointEncoder, ThreeStreamEncoder])
@pytest.mark.parametrize('spec', [SPEC, OTHER])
@pytest.mark.parametrize(('engine', 'precision'), CASES)
def test_engines_equal_eager(kind: type[nn.Module], spec: ObservationSpec, engine: str, precision: str) -> None:
    encoder = trained(kind)
    fast = BUILDERS[engine](encoder, spec, precision)
    eager = EagerEngine(encoder, spec, fast.device)
    for batch in (1, 5, 3, 1):
        images, joints = inputs(spec, batch)
        expected, actual = eager.encode(images, joints), fast.encode(images, joints)
        assert actual.dtype == np.float32 and actual.shape == expected.shape and np.abs(expected).max() > 0
        assert np.abs(actual - expected).max() <= ERROR_BOUNDS[precision] * np.abs(expected).max()


@pytest.mark.parametrize('engine', ['packed', 'openvino', pytest.param('cuda_graph', marks=NEEDS_CUDA)])
def test_the_same_set_gives_the_same_bits(engine: str) -> None:
    """Whatever came before, in whatever place of a batch, and in an engine built anew."""
    encoder = trained(ImageJointEncoder)
    fast = BUILDERS[engine](encoder, SPEC)
    images, joints = inputs(SPEC, 4)
    once = [fast.encode(images[i : i + 1], joints[i : i + 1]) for i in range(4)]
    batch = fast.encode(images, joints)
    for i in (3, 1, 0, 2):
        np.testing.assert_array_equal(fast.encode(images[i : i + 1], joints[i : i + 1]), once[i])
    np.testing.assert_array_equal(fast.encode(images[:3], joints[:3]), batch[:3])
    np.testing.assert_array_equal(BUILDERS[engine](encoder, SPEC).encode(images[:1], joints[:1]), once[0])


@pytest.mark.parametrize('engine', ['packed', 'openvino', pytest.param('cuda_graph', marks=NEEDS_CUDA)])
def test_a_feature_stays_what_it_was(engine: str) -> None:
    """An engine's buffers are used again, so what it has given must be its own."""
    fast = BUILDERS[engine](trained(ImageJointEncoder), SPEC)
    images, joints = inputs(SPEC, 2)
    first = fast.encode(images[:1], joints[:1])
    kept = first.copy()
    fast.encode(images[1:], joints[1:])
    np.testing.assert_array_equal(first, kept)


def test_folding_leaves_the_encoder_alone() -> None:
    encoder = trained(ImageJointEncoder)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded(encoder).modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_auto_takes_the_fastest_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(ModelOptions(device='cpu'), SPEC)
    assert model.engine.name == 'openvino' and 0 < model.engine_error <= 1e-5
    monkeypatch.setitem(sys.modules, 'openvino', None)  # as where it is not installed
    model = load_model(ModelOptions(device='cpu'), SPEC)
    assert model.engine.name == 'packed' and 0 < model.engine_error <= 1e-5
    assert 'OpenVINO is not installed' in model.engine_reason
    with pytest.raises(ConfigError, match='engine: openvino in fp32 cannot run here: openvino: OpenVINO is not installed'):
        load_model(ModelOptions(device='cpu', engine='openvino'), SPEC)
    assert load_model(ModelOptions(device='cpu', engine='eager'), SPEC).engine_error == 0


def test_an_engine_past_its_bound_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ERROR_BOUNDS, 'fp32', 1e-9)
    encoder = trained(ImageJointEncoder)
    with pytest.raises(
        ConfigError, match=r'engine: packed in fp32 cannot run here: packed: its error of .* is past the bound'
    ):
        choose_engine(encoder, SPEC, CPU, 'packed', 'fp32', 2)
    choice = choose_engine(encoder, SPEC, CPU, 'auto', 'fp32', 2)
    assert choice.engine.name == 'eager' and choice.reason.count('past the bound') == 2


def test_a_torch_without_onednn_falls_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: False)
    monkeypatch.setitem(sys.modules, 'openvino', None)
    choice = choose_engine(trained(ImageJointEncoder), SPEC, CPU, 'auto', 'fp32', 2)
    assert choice.engine.name == 'eager' and 'without oneDNN' in choice.reason
    with pytest.raises(ConfigError, match='cannot run here'):
        choose_engine(trained(ImageJointEncoder), SPEC, CPU, 'packed', 'fp32', 2)


def test_building_an_engine_leaves_torch_as_it_was() -> None:
    PackedEngine(trained(ImageJointEncoder), SPEC)
    assert not torch.jit.onednn_fusion_enabled()


@pytest.mark.parametrize('engine', ['eager', 'packed', 'openvino'])
def test_joints_that_are_not_finite_give_no_feature(engine: str) -> None:
    model = load_model(ModelOptions(device='cpu', engine=engine), SPEC)
    images, joints = inputs(SPEC, 3)
    joints[0, 3], joints[2, 0] = np.nan, np.inf
    features = model.encode(images, joints)
    assert np.isnan(features[[0, 2]]).all() and np.isfinite(features[1]).all()


def test_a_failing_engine_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    model = load_model(ModelOptions(device='cpu'), SPEC)
    images, joints = inputs(SPEC, 1)
    expected = model.encode(images, joints)
    program = model.engine._single
    monkeypatch.setattr(program, '_run', lambda: torch.zeros(2) @ torch.zeros(3))  # what torch raises is no invention of ours
    with pytest.raises(EngineError, match=r'the engine openvino failed: RuntimeError'):
        model.encode(images, joints)
    model.rebuild()
    np.testing.assert_array_equal(model.encode(images, joints), expected)


def test_damaged_weights_are_refused() -> None:
    encoder = trained(ImageJointEncoder)
    with torch.no_grad():
        encoder.image_encoder.resnet[4][0].conv1.weight[0, 0, 0, 0] = float('nan')
    with pytest.raises(CheckpointError, match='NaN or infinity'):
        choose_engine(encoder, SPEC, CPU, 'auto', 'fp32', 2)


@pytest.mark.parametrize(
    ('engine', 'precision', 'says'),
    [
        ('eager', 'bf16', 'precision: bf16 is not what the engine eager runs in; set precision to fp32'),
        ('packed', 'fp16', 'precision: fp16 is not what the engine packed runs in; set precision to fp32 or bf16'),
        ('auto', 'fp16', 'precision: fp16 is not what cpu runs in; set precision to fp32 or bf16'),
        ('cuda_graph', 'fp32', 'engine: cuda_graph runs on cuda, but device is cpu; set engine to auto, or device to cuda'),
    ],
)
def test_what_an_engine_cannot_do_is_named(engine: str, precision: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        choose_engine(trained(ImageJointEncoder), SPEC, CPU, engine, precision, 2)


@pytest.mark.parametrize('engine', ['packed', 'openvino'])
def test_an_engine_for_cpus_runs_on_one_also_where_cuda_is(monkeypatch: pytest.MonkeyPatch, engine: str) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    assert device_for(engine, 'auto') == CPU
    assert device_for('auto', 'auto') == device_for('eager', 'auto') == torch.device('cuda')
    assert load_model(ModelOptions(engine=engine), SPEC).engine.device == CPU


def test_loading_leaves_no_threads_behind() -> None:
    """They would fight with the encoding thread's for the cores."""
    code = """
import os, time
from fused_encoder_ros.model import ModelOptions, load_model
from fused_encoder_ros.spec import ObservationSpec

def loaded(threads):
    load_model(ModelOptions(device='cpu', engine='eager', threads=threads), ObservationSpec())
    time.sleep(1)  # ending threads take a moment
    return len(os.listdir('/proc/self/task'))

one, four = loaded(1), loaded(4)
assert one == four, (one, four)
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_an_engine_built_anew_is_checked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device that is failing may come back with other numbers."""
    model = load_model(ModelOptions(device='cpu', engine='packed'), SPEC)
    build = PackedEngine._build

    def other(self: PackedEngine, inputs: Inputs) -> Callable[[], np.ndarray]:
        run = build(self, inputs)
        return lambda: run() * np.float32(1.000001)

    monkeypatch.setattr(PackedEngine, '_build', other)
    with pytest.raises(EngineError, match='cannot be built anew: built anew it gives other features than before'):
        model.rebuild()
