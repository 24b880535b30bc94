"""The CUDA engine: the whole network as one captured graph.

In eager mode some 75 kernels a set are launched one by one, and at batch 1 the launches are the cost. Here the upload, the
kernels and the download are recorded once, and a set is one replay. All engines of a device take turns on the same streams:
torch keeps a workspace of cuBLAS, 32 MiB on a Hopper GPU, for each stream that it has ever used.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from fused_encoder_ros.errors import EngineUnavailable
from fused_encoder_ros.model.encoder import Encoder
from fused_encoder_ros.model.engines.eager import exact_float32
from fused_encoder_ros.model.engines.engine import Features, FixedBatchEngine, Inputs
from fused_encoder_ros.model.engines.network import Network, folded, with_convolutions_in
from fused_encoder_ros.model.engines.resnet import CudnnConvolution, with_fused_resnets
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
            raise EngineUnavailable('this GPU does not support bfloat16')
        with torch.cuda.device(device):
            index = torch.cuda.current_device()
        self._stream, self._turn = _stream_of(index, 0), _turn_of(index)
        self._encoder = encoder
        super().__init__(spec)

    def _network(self, batch: int) -> Network:
        """What is recorded for so many sets."""
        return self._with_cudnn

    @functools.cached_property
    def _with_cudnn(self) -> Network:
        return self._network_with(CudnnConvolution, nn.MaxPool2d(3, stride=2, padding=1))

    def _network_with(self, convolution: Callable[[nn.Conv2d], nn.Module], max_pool: Callable[[Tensor], Tensor]) -> Network:
        encoder = with_convolutions_in(folded(self._encoder), _DTYPES[self.precision])
        network = Network(with_fused_resnets(encoder, convolution, max_pool), self._spec).eval()
        network.encoder = _SideBySide(network.encoder)  # type: ignore[assignment]
        return network.to(self.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]

    @torch.inference_mode()
    def _build(self, inputs: Inputs) -> Callable[[], Features]:
        stream, turn, network = self._stream, self._turn, self._network(len(inputs))
        weights_come_on = torch.cuda.current_stream(self.device)
        with turn, torch.cuda.device(self.device), torch.cuda.stream(stream):
            stream.wait_stream(weights_come_on)
            images, joints = inputs.images.to(self.device), inputs.joints.to(self.device)
            for _ in range(_RUNS_TO_WARM_UP):
                features = network(images, joints)
            host_features = torch.zeros(features.shape, pin_memory=True)
            stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            # Other threads may use the GPU meanwhile, which by default would spoil the recording.
            with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
                images.copy_(inputs.images, non_blocking=True)
                joints.copy_(inputs.joints, non_blocking=True)
                host_features.copy_(network(images, joints), non_blocking=True)

        def run() -> Features:
            with turn:
                with torch.cuda.stream(stream):
                    graph.replay()
                stream.synchronize()
            return np.array(host_features.numpy())  # a copy: the next set overwrites it

        return run


class _SideBySide(nn.Module):
    """An encoder whose branches run at the same time: at batch 1 none fills a GPU."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder

    def stacked(self, images: Tensor, joints: Tensor) -> Tensor:
        """See `FusionEncoder.stacked`."""
        first, *others = *self.encoder.image_branches(images), functools.partial(self.encoder.joint_fc, joints)
        stream = torch.cuda.current_stream(images.device)
        side_streams = [_stream_of(stream.device_index, number) for number in range(1, len(others) + 1)]
        features = []
        for branch, side_stream in zip(others, side_streams):
            side_stream.wait_stream(stream)
            with torch.cuda.stream(side_stream):
                features.append(branch())
        features.insert(0, first())
        for side_stream in side_streams:
            stream.wait_stream(side_stream)
        return self.encoder.fused(features)


@functools.cache
def _stream_of(device_index: int, number: int) -> torch.cuda.Stream:
    """The streams that every engine of a device computes on; all but the first are for branches."""
    return torch.cuda.Stream(device_index)


@functools.cache
def _turn_of(device_index: int) -> threading.Lock:
    """Whose turn it is on a device's streams."""
    return threading.Lock()
