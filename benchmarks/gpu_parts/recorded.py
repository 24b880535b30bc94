"""A network on the device with buffers of its own: on a GPU one recorded graph, as in `cuda_graph`; on a CPU plain calls."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from fused_encoder_ros.model.engines.eager import exact_float32
from fused_encoder_ros.model.engines.engine import Features, Images, Joints
from fused_encoder_ros.model.engines.network import Network
from gpu_parts.subjects import CPU, encoder_of, spec_of

_RUNS_TO_WARM_UP = 3


def record(call: Callable[[], Tensor], device: torch.device) -> tuple[Callable[[], object], Tensor]:
    """What repeats a call, and the tensor that it writes. Nothing waits; on a GPU the caller's stream must be the default."""
    if device.type != 'cuda':
        answer = call()

        @torch.inference_mode()
        def again() -> None:
            answer.copy_(call())

        return again, answer
    stream = torch.cuda.Stream(device)
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        for _ in range(_RUNS_TO_WARM_UP):
            call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        answer = call()
    return graph.replay, answer


class Recorded:
    """Encodes batches of one size.

    Attributes:
        replay: runs the network on what lies in the buffers, without waiting.
    """

    @torch.inference_mode()
    def __init__(self, network: Network, batch: int, device: torch.device) -> None:
        spec = spec_of()
        self._device = device
        self._network = network  # the graph reads its weights
        size = spec.image_size
        self._images = torch.zeros((batch, size, size, spec.channels), dtype=torch.uint8, device=device)
        self._joints = torch.zeros((batch, len(spec.joint_names)), device=device)
        self.replay, self._features = record(lambda: network(self._images, self._joints), device)

    @torch.inference_mode()
    def encode(self, images: Images, joints: Joints) -> Features:
        """As an engine."""
        self._images.copy_(torch.from_numpy(images))
        self._joints.copy_(torch.from_numpy(joints))
        self.replay()
        return np.array(self._features.cpu().numpy())


@contextmanager
def convolutions(deterministic: bool, benchmark: bool, tf32: bool) -> Iterator[None]:
    """How cuDNN chooses; afterwards as the engines have it."""
    torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = deterministic, benchmark
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        exact_float32()


@torch.inference_mode()
def in_float64(design: str, images: Images, joints: Joints) -> Features:
    """What the encoder gives without rounding on the way, from the same float32 pixels; on the CPU."""
    network = Network(copy.deepcopy(encoder_of(design)).double(), spec_of(), torch.contiguous_format).eval()
    assert next(network.parameters()).device == CPU
    return np.asarray(network(torch.from_numpy(images), torch.from_numpy(joints).double()).numpy(), np.float32)
