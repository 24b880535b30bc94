"""Engines: as exact as they say, on ordinary and on hostile inputs, or refused."""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from fused_encoder_ros.errors import CheckpointError, ConfigError, EngineError
from fused_encoder_ros.model import ImageJointEncoder, ModelOptions, ThreeStreamEncoder, load_model, release_memory
from fused_encoder_ros.model.engines import ERROR_BOUNDS, Engine, choose_engine, device_for
from fused_encoder_ros.model.engines.cuda_graph import CudaGraphEngine
from fused_encoder_ros.model.engines.eager import EagerEngine
from fused_encoder_ros.model.engines.engine import Inputs
from fused_encoder_ros.model.engines.network import folded
from fused_encoder_ros.model.engines.openvino import OpenVinoEngine
from fused_encoder_ros.model.engines.packed import PackedEngine
from fused_encoder_ros.model.engines.triton import TritonEngine
from fused_encoder_ros.ros.monitor import resident_bytes
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


NAMES = ('front', 'left_wrist', 'right_wrist', 'top')


def trained(kind: type[nn.Module], cameras: tuple[str, ...] = SPEC.cameras) -> nn.Module:
    """With BatchNorm statistics that folding must not get wrong."""
    torch.manual_seed(2)
    sizes = {'camera_count': len(cameras)} if kind is ImageJointEncoder else {'cameras': cameras}
    encoder = kind(**sizes).eval()
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.3, 0.3)
            module.running_var.uniform_(0.3, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.2)
    return encoder


def inputs(spec: ObservationSpec, batch: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(batch)
    images = rng.integers(0, 256, (batch, spec.image_size, spec.image_size, spec.channels), dtype=np.uint8)
    images[0] = 0
    if batch > 1:
        images[1] = 255
    return images, rng.normal(size=(batch, 16)).astype(np.float32) * 3


BUILDERS: dict[str, Callable[..., Engine]] = {
    'eager': lambda encoder, spec: EagerEngine(encoder, spec, CPU),
    'packed': PackedEngine,
    'openvino': lambda encoder, spec, precision='fp32': OpenVinoEngine(encoder, spec, precision, 2),
    'cuda_graph': lambda encoder, spec, precision='fp32': CudaGraphEngine(encoder, spec, torch.device('cuda'), precision),
    'triton': lambda encoder, spec, precision='fp32': TritonEngine(encoder, spec, torch.device('cuda'), precision),
}
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA here')
CUDA_ENGINES = [pytest.param(engine, marks=NEEDS_CUDA) for engine in ('cuda_graph', 'triton')]
NEEDS_BF16 = pytest.mark.skipif(not HAS_BF16, reason='this CPU has no bfloat16')
CASES = [
    pytest.param('packed', 'fp32'),
    pytest.param('packed', 'bf16', marks=NEEDS_BF16),
    pytest.param('openvino', 'fp32'),
    pytest.param('openvino', 'bf16', marks=NEEDS_BF16),
    *(
        pytest.param(engine, precision, marks=NEEDS_CUDA)
        for engine in ('cuda_graph', 'triton')
        for precision in ('fp32', 'fp16', 'bf16')
    ),
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


@pytest.mark.parametrize('kind', [ImageJointEncoder, ThreeStreamEncoder])
@pytest.mark.parametrize('count', [1, 2, 4])
@pytest.mark.parametrize('engine', ['packed', 'openvino', *CUDA_ENGINES])
def test_any_number_of_cameras(kind: type[nn.Module], count: int, engine: str) -> None:
    """The encoder's own order of cameras is not that of the spec, and each encoder of a camera gets its own picture."""
    spec = ObservationSpec(cameras=NAMES[:count], pixel_mean=(0.4, 0.5, 0.6) * count, pixel_std=(0.2, 0.25, 0.3) * count)
    encoder = trained(kind, spec.cameras[::-1])
    images, joints = inputs(spec, 3)
    expected = EagerEngine(encoder, spec, CPU).encode(images, joints)
    pixels = (torch.from_numpy(images).permute(0, 3, 1, 2) / 255 - torch.tensor((0.4, 0.5, 0.6) * count).view(1, -1, 1, 1)) / (
        torch.tensor((0.2, 0.25, 0.3) * count).view(1, -1, 1, 1)
    )
    views = list(pixels.split(3, dim=1))
    with torch.inference_mode():
        plain = encoder(*(views if kind is ImageJointEncoder else views[::-1]), torch.from_numpy(joints)).numpy()
    np.testing.assert_allclose(expected, plain, atol=1e-6 * np.abs(plain).max())
    actual = BUILDERS[engine](encoder, spec).encode(images, joints)
    assert np.abs(actual - expected).max() <= ERROR_BOUNDS['fp32'] * np.abs(expected).max()


ENGINES = ['eager', 'packed', 'openvino', *CUDA_ENGINES]


@st.composite
def laid_out(draw: st.DrawFn, rows: np.ndarray) -> np.ndarray:
    """The same numbers with other strides, at another offset and alignment."""
    rows = rows.copy()
    way = draw(st.sampled_from(('unaligned', 'new axis', 'broadcast', 'gaps', 'backwards', 'other order', 'other bytes')))
    if way == 'unaligned':
        offset = draw(st.integers(0, 67))
        memory = np.zeros(rows.nbytes + 67, np.uint8)
        memory[offset : offset + rows.nbytes] = np.frombuffer(rows.tobytes(), np.uint8)
        return np.ndarray(rows.shape, rows.dtype, memory, offset)
    if way == 'new axis':
        return rows[0][np.newaxis]  # a stride of zero
    if way == 'broadcast':
        return np.broadcast_to(rows[0], rows.shape)
    if way == 'gaps':
        step = draw(st.integers(2, 5))
        return np.repeat(rows, step, axis=-1)[..., ::step]
    if way == 'backwards':
        return np.ascontiguousarray(rows[..., ::-1])[..., ::-1]
    if way == 'other order':
        return np.asfortranarray(rows)
    return rows.astype(rows.dtype.newbyteorder('>'))


@pytest.fixture(scope='module')
def built() -> Callable[[str], Engine]:
    return functools.cache(lambda engine: BUILDERS[engine](trained(ImageJointEncoder), SPEC))


@pytest.mark.parametrize('engine', ENGINES)
def test_how_the_arrays_lie_in_memory_makes_no_difference(engine: str, built: Callable[[str], Engine]) -> None:
    """The node hands over one set, the bag encoder a stack of them: the numbers alone may count."""
    fast = built(engine)
    images, joints = inputs(SPEC, 2)
    images, joints = images[1:] // 3, joints[1:]
    expected = fast.encode(images, joints)

    @given(laid_out(images), laid_out(joints))
    @settings(max_examples=40, deadline=None)
    def check(other_images: np.ndarray, other_joints: np.ndarray) -> None:
        np.testing.assert_array_equal(fast.encode(other_images, other_joints), expected)

    check()


@pytest.mark.parametrize('engine', ENGINES)
def test_other_shapes_and_types_are_refused(engine: str, built: Callable[[str], Engine]) -> None:
    """NumPy would broadcast one channel to nine, and cut floats off."""
    fast = built(engine)
    images, joints = inputs(SPEC, 2)
    with pytest.raises(ValueError, match=r"images are of shape \(\d, 84, 84, 1\); the encoder needs \('B', 84, 84, 9\)"):
        fast.encode(images[..., :1], joints)
    with pytest.raises(ValueError, match=r'joints are of shape \(\d, 15\)'):
        fast.encode(images, joints[:, 1:])
    with pytest.raises(ValueError, match='2 sets of images, but 1 of joints'):
        fast.encode(images, joints[:1])
    with pytest.raises(TypeError):
        fast.encode(images.astype(np.float32), joints)
    with pytest.raises(TypeError):
        fast.encode(images, joints.astype(np.float64))


@pytest.mark.parametrize('engine', ['packed', 'openvino', *CUDA_ENGINES])
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


@pytest.mark.parametrize('engine', ['packed', 'openvino', *CUDA_ENGINES])
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
        ConfigError, match=r'engine: packed in fp32 cannot run here: packed: its error of .* is above the limit'
    ):
        choose_engine(encoder, SPEC, CPU, 'packed', 'fp32', 2)
    choice = choose_engine(encoder, SPEC, CPU, 'auto', 'fp32', 2)
    assert choice.engine.name == 'eager' and choice.reason.count('above the limit') == 2


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
        ('eager', 'bf16', 'precision: the engine eager does not support bf16; set precision to fp32'),
        ('packed', 'fp16', 'precision: the engine packed does not support fp16; set precision to fp32 or bf16'),
        ('auto', 'fp16', 'precision: cpu does not support fp16; set precision to fp32 or bf16'),
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
    with pytest.raises(EngineError, match='cannot be rebuilt: after it was rebuilt, it gives other features than before'):
        model.rebuild()


def test_a_packed_engine_lets_go_of_its_weights() -> None:
    """45 MB each time that a node is configured would fill a robot's memory."""
    encoder = trained(ImageJointEncoder)
    PackedEngine(encoder, SPEC)  # what torch keeps once
    release_memory()
    before = resident_bytes()
    for _ in range(4):
        PackedEngine(encoder, SPEC)
    release_memory()
    assert resident_bytes() - before < 80e6
