"""What else could run the same network: torch.compile, ONNX Runtime, TensorRT. Missing ones are named."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fused_encoder_ros.model.engines import relative_error
from fused_encoder_ros.model.engines.eager import EagerEngine, exact_float32
from fused_encoder_ros.model.engines.engine import Features, Inputs
from fused_encoder_ros.model.options import DESIGNS, PRECISIONS, SINGLE
from gpu_parts.context import Context, Skipped, attempt
from gpu_parts.subjects import CPU, encoder_of, network_of, sets_of, spec_of
from gpu_parts.timing import hot, paced, percentiles

Encode = Callable[[Inputs], Features]

_COMPILING_S = 40.0


def run(context: Context) -> dict[str, Any]:
    """Single sets, host array to host array, with the error against eager on the CPU."""
    exact_float32()
    result: dict[str, Any] = {}
    designs = context.pick(DESIGNS, (SINGLE,))
    cases = list(product(designs, context.pick(PRECISIONS, ('fp32',))))
    for provider in ('CUDAExecutionProvider', 'TensorrtExecutionProvider') if context.on_cuda else ('CPUExecutionProvider',):
        for design in designs:
            result[f'{design} onnxruntime {provider} fp32'] = attempt(_onnx_runtime, context, design, provider)
            context.keep(result)
    for name, backend in (('torch.compile', None), ('torch_tensorrt', 'tensorrt')):
        for design, precision in cases:
            result[f'{design} {name} {precision}'] = attempt(_compiled, context, design, precision, backend)
            context.keep(result)
    return result


def _compiled(context: Context, design: str, precision: str, backend: str | None) -> dict[str, Any]:
    if backend == 'tensorrt':
        context.need_cuda('TensorRT')
        import torch_tensorrt  # noqa: F401  # it registers the backend
    if not context.reduced and context.left_s < _COMPILING_S:
        raise Skipped('no time is left to compile')
    torch._dynamo.reset()
    network = network_of(design, precision, context.device)
    options: dict[str, Any] = {'backend': backend} if backend else {'mode': 'max-autotune'}
    if context.reduced and not backend:
        options = {'backend': 'aot_eager'}  # a compiler would take minutes
    compiled: Any = torch.compile(network, **options)

    @torch.inference_mode()
    def encode(inputs: Inputs) -> Features:
        images = inputs.images.to(context.device, non_blocking=True)
        joints = inputs.joints.to(context.device, non_blocking=True)
        return np.asarray(compiled(images, joints).cpu().numpy(), np.float32)

    return {'options': str(options), **_measured(context, design, encode)}


def _onnx_runtime(context: Context, design: str, provider: str) -> dict[str, Any]:
    try:
        import onnxruntime
    except ImportError as error:
        raise Skipped(str(error)) from error
    if provider not in onnxruntime.get_available_providers():
        raise Skipped(f'this onnxruntime {onnxruntime.__version__} has no {provider}')
    inputs = Inputs(1, spec_of())
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / 'network.onnx')
        network = network_of(design, 'fp32', CPU)
        torch.onnx.export(
            network, (inputs.images, inputs.joints), path, input_names=['images', 'joints'], output_names=['features']
        )
        given: Any = (provider, {'use_tf32': '0'}) if provider.startswith('CUDA') else provider
        session = onnxruntime.InferenceSession(path, providers=[given])
    if provider not in session.get_providers():
        raise Skipped(f'onnxruntime fell back to {session.get_providers()}')

    def encode(inputs: Inputs) -> Features:
        given = {'images': inputs.images.numpy(), 'joints': inputs.joints.numpy()}
        return np.asarray(session.run(None, given)[0], np.float32)

    return _measured(context, design, encode)


def _measured(context: Context, design: str, encode: Encode) -> dict[str, Any]:
    images, joints = sets_of(spec_of(), 1)
    inputs = Inputs(1, spec_of(), pinned=context.on_cuda)

    def call() -> Features:
        inputs.fill(images, joints)
        return encode(inputs)

    expected = EagerEngine(encoder_of(design), spec_of(), CPU).encode(images, joints)
    for _ in range(3):
        call()
    return {
        'hot': percentiles(hot(call, context.pick(2000, 5))),
        'paced at 30 Hz': percentiles(paced(call, context.pick(60, 2))),
        'error': float(f'{relative_error(call(), expected):.2e}'),
    }
