"""Encoders, engines and inputs to measure."""

from __future__ import annotations

import functools
import importlib.util

import numpy as np
import torch

from fused_encoder_ros.bench.encoders import calibrated, encoder_for
from fused_encoder_ros.model.encoder import Encoder
from fused_encoder_ros.model.engines import Engine
from fused_encoder_ros.model.engines.cuda_graph import CudaGraphEngine
from fused_encoder_ros.model.engines.eager import EagerEngine
from fused_encoder_ros.model.engines.engine import Features, Images, Joints
from fused_encoder_ros.model.engines.network import Network, folded, with_convolutions_in
from fused_encoder_ros.model.engines.packed import PackedEngine
from fused_encoder_ros.model.engines.triton import TritonEngine
from fused_encoder_ros.model.options import PRECISIONS
from fused_encoder_ros.spec import ObservationSpec

CPU = torch.device('cpu')
DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
_CUDA_ENGINES = {'triton': TritonEngine, 'cuda_graph': CudaGraphEngine}
_CAMERAS = ('left_wrist', 'right_wrist', 'global', 'top')


def spec_of(cameras: int = 3) -> ObservationSpec:
    """The usual spec, with so many cameras."""
    return ObservationSpec(cameras=_CAMERAS[:cameras])


@functools.cache
def encoder_of(design: str, cameras: int = 3) -> Encoder:
    """The same weights each time, in this process and in others; on the CPU."""
    names = _CAMERAS[:cameras]
    return calibrated(encoder_for(design, names), names, rounds=3)


def fast_engines(device: torch.device) -> list[tuple[str, str]]:
    """Those of a GPU in each precision that it has, the fastest first; on a CPU `packed`, in float32 alone."""
    if device.type != 'cuda':
        return [('packed', 'fp32')]
    has_bf16 = torch.cuda.get_device_capability(device) >= (8, 0)
    engines = ['triton'] * (importlib.util.find_spec('triton') is not None) + ['cuda_graph']
    return [(name, precision) for name in engines for precision in PRECISIONS if precision != 'bf16' or has_bf16]


def build(engine: str, precision: str, design: str, device: torch.device, cameras: int = 3) -> Engine:
    """An engine, not compared with eager."""
    encoder, spec = encoder_of(design, cameras), spec_of(cameras)
    if engine == 'eager':
        return EagerEngine(encoder, spec, device)
    if engine in _CUDA_ENGINES:
        return _CUDA_ENGINES[engine](encoder, spec, device, precision)
    return PackedEngine(encoder, spec, precision)


def network_of(design: str, precision: str, device: torch.device) -> Network:
    """Plain torch, folded, channels last."""
    network = Network(with_convolutions_in(folded(encoder_of(design)), DTYPES[precision]), spec_of()).eval().to(device)
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def sets_of(spec: ObservationSpec, batch: int, seed: int = 0) -> tuple[Images, Joints]:
    """Noise, each camera of its own brightness."""
    rng = np.random.default_rng([seed, batch])
    shades = np.linspace(0.3, 1.0, spec.channels)
    images = rng.integers(0, 256, (batch, spec.image_size, spec.image_size, spec.channels)) * shades
    return images.astype(np.uint8), rng.normal(size=(batch, len(spec.joint_names))).astype(np.float32)


def same_bits(actual: Features, expected: Features) -> None:
    """Raises AssertionError when a bit differs."""
    if not np.array_equal(actual, expected):
        raise AssertionError(f'{int((actual != expected).sum())} of {expected.size} numbers are others')
