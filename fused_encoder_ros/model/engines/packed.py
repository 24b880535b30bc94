"""The fast CPU engine that needs torch alone.

At batch 1, eager torch re-orders some 45 MB of convolution weights into oneDNN's layout on every call. This engine hands the
whole network to oneDNN as graphs: BatchNorm folded, ReLU and residual sums fused into the convolutions, weights laid out once.
It goes through TorchScript, which needs no compiler at run time. TorchScript is deprecated, and oneDNN is not in every torch:
where either is missing `PackedEngine` raises `EngineUnavailable`.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch

from fused_encoder_ros.errors import EngineUnavailable
from fused_encoder_ros.model.encoder import Encoder
from fused_encoder_ros.model.engines.engine import Features, FixedBatchEngine, Inputs
from fused_encoder_ros.model.engines.network import Network, folded, with_convolutions_in
from fused_encoder_ros.spec import ObservationSpec

_DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16}

# The first run profiles, the second optimises, the third is the first as fast as the rest.
_RUNS_TO_WARM_UP = 3


class PackedEngine(FixedBatchEngine):
    """Runs either design on the CPU; see the module.

    Args:
        encoder: in eval mode; it is left as it is.
        spec: what the images are.
        precision: 'fp32', or 'bf16' for the convolutions where the CPU has it.

    Raises:
        EngineUnavailable: when this torch, or this CPU, lacks what is needed.
    """

    name = 'packed'

    def __init__(self, encoder: Encoder, spec: ObservationSpec, precision: str = 'fp32') -> None:
        self.device = torch.device('cpu')
        self.precision = precision
        if not torch.backends.mkldnn.is_available():
            raise EngineUnavailable('this torch is built without oneDNN')
        if precision == 'bf16' and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            raise EngineUnavailable('this CPU does not support bfloat16 in oneDNN')
        self._network = Network(with_convolutions_in(folded(encoder), _DTYPES[precision]), spec).eval()
        super().__init__(spec)

    @torch.inference_mode()
    def _build(self, inputs: Inputs) -> Callable[[], Features]:
        example = inputs.images, inputs.joints
        with _onednn_graphs():
            program = torch.jit.freeze(_by_itself(torch.jit.trace(self._network, example, check_trace=False)))
            for _ in range(_RUNS_TO_WARM_UP):
                program(*example)

        @torch.inference_mode()
        def run() -> Features:
            return np.asarray(program(inputs.images, inputs.joints).numpy(), np.float32)

        return run


def _by_itself(program: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    """A copy whose weights go with it: torch keeps those of a traced and frozen program until the process ends."""
    buffer = io.BytesIO()
    torch.jit.save(program, buffer)
    buffer.seek(0)
    return torch.jit.load(buffer)


@contextmanager
def _onednn_graphs() -> Iterator[None]:
    """The switch is the whole process's, and needed only while a program is built."""
    before = torch.jit.onednn_fusion_enabled()
    torch.jit.enable_onednn_fusion(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', DeprecationWarning)
            yield
    finally:
        torch.jit.enable_onednn_fusion(before)
