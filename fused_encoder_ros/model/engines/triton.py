"""The fastest CUDA engine: as `cuda_graph`, but a single set runs in kernels of our own."""

from __future__ import annotations

import functools

import torch

from fused_encoder_ros.errors import EngineUnavailable
from fused_encoder_ros.model.encoder import Encoder
from fused_encoder_ros.model.engines.cuda_graph import CudaGraphEngine
from fused_encoder_ros.model.engines.network import Network
from fused_encoder_ros.spec import ObservationSpec


class TritonEngine(CudaGraphEngine):
    """Runs single sets in Triton's kernels, and batches, which fill a GPU, in cuDNN's.

    Args: as `CudaGraphEngine`.

    Raises:
        EngineUnavailable: when this device lacks the precision, or Triton is missing or cannot compile here.
    """

    name = 'triton'

    def __init__(self, encoder: Encoder, spec: ObservationSpec, device: torch.device, precision: str) -> None:
        try:
            super().__init__(encoder, spec, device, precision)
        except (EngineUnavailable, torch.cuda.OutOfMemoryError):
            raise
        except (
            Exception
        ) as error:  # no C compiler, no Python.h, a cache folder that cannot be written: it is not to be foreseen
            raise EngineUnavailable(f'Triton cannot compile here: {type(error).__name__}: {error}') from error

    def _network(self, batch: int) -> Network:
        return self._with_triton if batch == 1 else self._with_cudnn

    @functools.cached_property
    def _with_triton(self) -> Network:
        try:
            from fused_encoder_ros.model.engines.triton_kernels import TritonConvolution, triton_max_pool
        except ImportError as error:
            raise EngineUnavailable(f'the package triton is missing: {error}') from error
        return self._network_with(TritonConvolution, triton_max_pool)
