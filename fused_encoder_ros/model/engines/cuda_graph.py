"""The CUDA engine: the whole network as one captured graph.

In eager mode some 75 kernels a set are launched one by one, and at batch 1 the launches are the cost. Here they are recorded
once, and a set is one upload, one replay and one download. All engines of a device take turns on one stream: torch keeps a
workspace of cuBLAS, 32 MiB on a Hopper GPU, for each stream that it has ever used.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

import numpy as np
import torch

from fused_encoder_ros.errors import EngineUnavailable
from fused_encoder_ros.model.encoder import Encoder
from fused_encoder_ros.model.engines.eager import exact_float32
from fused_encoder_ros.model.engines.engine import Features, FixedBatchEngine, Inputs
from fused_encoder_ros.model.engines.network import Network, folded, with_convolutions_in
from fused_encoder_ros.spec import ObservationSpec

_DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}

# cuDNN and cuBLAS set themselves up in the first runs, which must not be recorded.
_RUNS_TO_WARM_UP = 3


class CudaGraphEngine(FixedBatchEngine):
    """Runs either design on a CUDA device: BatchNorm folded, channels last, convolutions in the precision asked for.

    Args:
        encoder: in eval mode, on the CPU; it is left as it is.
        spec: what the images are.
        device: a CUDA device.
        precision: 'fp32' (TF32 off), 'fp16' or 'bf16'.

    Raises:
        EngineUnavailable: when this device lacks the precision.
    """

    name = 'cuda_graph'

    def __init__(self, encoder: Encoder, spec: ObservationSpec, device: torch.device, precision: str) -> None:
        self.device = device
        self.precision = precision
        exact_float32()
        if precision == 'bf16' and torch.cuda.get_device_capability(device) < (8, 0):
            raise EngineUnavailable('this GPU has no bfloat16 arithmetic')
        network = Network(with_convolutions_in(folded(encoder), _DTYPES[precision]), spec).eval()
        self._network = network.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.cuda.device(device):
            self._stream, self._turn = _stream_of(torch.cuda.current_device())
        self._stream.wait_stream(torch.cuda.current_stream(device))  # the weights are still on their way on that one
        super().__init__(spec)

    @torch.inference_mode()
    def _build(self, inputs: Inputs) -> Callable[[], Features]:
        stream, turn = self._stream, self._turn
        with turn, torch.cuda.device(self.device), torch.cuda.stream(stream):
            images, joints = inputs.images.to(self.device), inputs.joints.to(self.device)
            for _ in range(_RUNS_TO_WARM_UP):
                self._network(images, joints)
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the GPU meanwhile, which by default would spoil the recording.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
                features = self._network(images, joints)
            host_features = torch.zeros(features.shape, pin_memory=True)

        @torch.inference_mode()
        def run() -> Features:
            with turn:
                with torch.cuda.stream(stream):
                    images.copy_(inputs.images, non_blocking=True)
                    joints.copy_(inputs.joints, non_blocking=True)
                    graph.replay()
                    host_features.copy_(features, non_blocking=True)
                stream.synchronize()
            return np.array(host_features.numpy())  # a copy: the next set overwrites it

        return run


@functools.cache
def _stream_of(device_index: int) -> tuple[torch.cuda.Stream, threading.Lock]:
    """The stream that every engine of a device computes on, and whose turn it is."""
    return torch.cuda.Stream(device_index), threading.Lock()
