"""The CPU engine on OpenVINO, an optional package.

The graph is built here, operation by operation: OpenVINO's own converter goes through TorchScript, which is deprecated, and
reports its use to the vendor unless the user has objected.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fused_encoder_ros.errors import EngineUnavailable
from fused_encoder_ros.model.encoder import Encoder, ImageJointEncoder
from fused_encoder_ros.model.engines.engine import Features, FixedBatchEngine, Inputs
from fused_encoder_ros.model.engines.network import Network, folded
from fused_encoder_ros.spec import ObservationSpec

_HINTS = {'fp32': 'f32', 'bf16': 'bf16'}


def _import_openvino() -> tuple[Any, Any]:
    """OpenVINO and its operations, without its telemetry.

    With that, each import writes into ~/intel and reports itself to the vendor. OpenVINO does without where it is absent.
    """
    telemetry = 'openvino_telemetry'
    found = sys.modules.get(telemetry)
    sys.modules[telemetry] = found  # type: ignore[assignment]  # None stands for a module that cannot be imported
    try:
        import openvino
        from openvino import opset13
    finally:
        if found is None:
            del sys.modules[telemetry]
    return openvino, opset13


class OpenVinoEngine(FixedBatchEngine):
    """Runs either design on the CPU.

    Args:
        encoder: in eval mode; it is left as it is.
        spec: what the images are.
        precision: 'fp32', or 'bf16' where the CPU has it.
        threads: CPU threads; OpenVINO keeps its own, apart from torch's.

    Raises:
        EngineUnavailable: when OpenVINO is not installed, or the CPU lacks the precision.
    """

    name = 'openvino'

    def __init__(self, encoder: Encoder, spec: ObservationSpec, precision: str, threads: int) -> None:
        self.device = torch.device('cpu')
        self.precision = precision
        try:
            self._openvino, self._ops = _import_openvino()
        except ImportError as error:
            raise EngineUnavailable(f'OpenVINO is not installed (pip install openvino): {error}') from error
        self._network = Network(folded(encoder), spec)
        self._core = self._openvino.Core()
        if precision == 'bf16' and 'BF16' not in self._core.get_property('CPU', 'OPTIMIZATION_CAPABILITIES'):
            raise EngineUnavailable('this CPU does not support bfloat16')
        self._options = {
            # Left alone, it would choose bf16 by itself where the CPU has it.
            'INFERENCE_PRECISION_HINT': _HINTS[precision],
            'PERFORMANCE_HINT': 'LATENCY',
            'NUM_STREAMS': 1,
            'INFERENCE_NUM_THREADS': threads,
            # Pinned threads would fight with the node's for the same cores.
            'ENABLE_CPU_PINNING': False,
        }
        super().__init__(spec)

    def _build(self, inputs: Inputs) -> Callable[[], Features]:
        arrays = inputs.images.numpy(), inputs.joints.numpy()
        images, joints = (self._ops.parameter(array.shape, array.dtype) for array in arrays)
        graph = _GraphBuilder(self._ops).network(self._network, images, joints)
        model = self._openvino.Model([graph], [images, joints], 'encoder')
        request = self._core.compile_model(model, 'CPU', self._options).create_infer_request()

        def run() -> Features:
            answer = request.infer(list(arrays), share_inputs=True)
            return np.array(answer[0], np.float32)  # a copy: the request owns what it gave

        return run


class _GraphBuilder:
    """Torch modules to OpenVINO operations; it knows the modules that the encoders are made of."""

    def __init__(self, ops: Any) -> None:
        self._ops = ops

    def network(self, network: Network, images: Any, joints: Any) -> Any:
        ops = self._ops
        x = ops.transpose(ops.convert(images, 'f32'), np.array([0, 3, 1, 2]))
        x = ops.divide(x, np.float32(network.divisor))
        if network.mean is not None and network.std is not None:
            x = ops.divide(ops.subtract(x, self._constant(network.mean)), self._constant(network.std))
        encoder = network.encoder
        if isinstance(encoder, ImageJointEncoder):
            features = [self._module(encoder.image_encoder, x)]
        else:
            given = ops.split(x, np.int64(1), len(encoder.cameras)).outputs()
            order = network.order or range(len(given))
            features = [self._module(stream, given[i]) for stream, i in zip(encoder.streams, order)]
        features.append(self._module(encoder.joint_fc, joints))
        return self._module(encoder.fusion_fc, ops.concat(features, 1))

    def _module(self, module: Any, x: Any) -> Any:
        ops = self._ops
        if isinstance(module, nn.Sequential):
            for child in module:
                x = self._module(child, x)
            return x
        if isinstance(module, nn.Conv2d):
            padding = list(module.padding)
            x = ops.convolution(x, self._constant(module.weight), list(module.stride), padding, padding, list(module.dilation))
            return x if module.bias is None else ops.add(x, self._constant(module.bias.view(1, -1, 1, 1)))
        if isinstance(module, nn.Linear):
            return ops.add(ops.matmul(x, self._constant(module.weight), False, True), self._constant(module.bias))
        if isinstance(module, nn.ReLU):
            return ops.relu(x)
        if isinstance(module, (nn.Identity, nn.Dropout)):
            return x
        if isinstance(module, nn.MaxPool2d):
            pad = [module.padding] * 2
            return ops.max_pool(x, [module.stride] * 2, [1, 1], pad, pad, [module.kernel_size] * 2).output(0)
        if isinstance(module, nn.AdaptiveAvgPool2d):
            return ops.reduce_mean(x, np.array([2, 3]), True)
        if hasattr(module, 'resnet'):
            return ops.relu(self._module(module.fc, ops.squeeze(self._module(module.resnet, x), np.array([2, 3]))))
        return self._basic_block(module, x)

    def _basic_block(self, block: Any, x: Any) -> Any:
        """torchvision's; its BatchNorms are folded away."""
        y = self._module(block.conv2, self._ops.relu(self._module(block.conv1, x)))
        shortcut = x if block.downsample is None else self._module(block.downsample, x)
        return self._ops.relu(self._ops.add(y, shortcut))

    def _constant(self, tensor: Tensor) -> Any:
        # Given the array itself, an operation copies it through a list of Python's numbers, which takes a third of a second.
        return self._ops.constant(tensor.detach().numpy())
