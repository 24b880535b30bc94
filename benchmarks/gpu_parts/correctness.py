"""Every engine of the device against eager in float32 on the CPU."""

from __future__ import annotations

import importlib.util
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from fused_encoder_ros.model.engines import ERROR_BOUNDS, Engine, relative_error
from fused_encoder_ros.model.engines.eager import EagerEngine
from fused_encoder_ros.model.engines.engine import Features
from fused_encoder_ros.model.model import load_model
from fused_encoder_ros.model.options import DESIGNS, ModelOptions
from fused_encoder_ros.model.packed_checkpoint import read_packed, write_packed
from fused_encoder_ros.spec import ObservationSpec
from gpu_parts.context import Checks, Context, Skipped
from gpu_parts.subjects import CPU, build, encoder_of, fast_engines, sets_of, spec_of


def run(context: Context) -> dict[str, Any]:
    """Both designs, one to four cameras, single sets and batches; packed checkpoints whose golden pair is of the CPU."""
    checks = Checks(context)
    batches = context.pick((1, 7, 64), (1, 3))
    for design, (engine, precision) in product(context.pick(DESIGNS, DESIGNS[:1]), fast_engines(context.device)):
        checks.run(f'{design}, packed checkpoint, {engine} {precision}', _golden, context, design, engine, precision)
    for design, cameras in product(DESIGNS, context.pick((3, 1, 2, 4), (2,))):
        spec = spec_of(cameras)
        reference = EagerEngine(encoder_of(design, cameras), spec, CPU)
        expected = {batch: reference.encode(*sets_of(spec, batch)) for batch in batches}
        for engine, precision in [('eager', 'fp32'), *fast_engines(context.device)]:
            arguments = context, design, cameras, engine, precision, expected
            checks.run(f'{design}, {cameras} camera(s), {engine} {precision}', _errors, *arguments)
    if context.checkpoint:
        checks.run(f'checkpoint {context.checkpoint}', _given_checkpoint, context)
    return checks.rows


def _errors(
    context: Context, design: str, cameras: int, engine: str, precision: str, expected: dict[int, Features]
) -> dict[str, Any]:
    fast = build(engine, precision, design, context.device, cameras)
    return _within(
        {f'batch {batch}': _error(fast, spec_of(cameras), batch, features) for batch, features in expected.items()}, precision
    )


def _error(engine: Engine, spec: ObservationSpec, batch: int, expected: Features) -> float:
    return relative_error(engine.encode(*sets_of(spec, batch)), expected)


def _golden(context: Context, design: str, engine: str, precision: str) -> dict[str, Any]:
    if importlib.util.find_spec('safetensors') is None:
        raise Skipped('the package safetensors is missing')
    spec = ObservationSpec(
        cameras=spec_of().cameras[::-1],
        pixel_mean=(0.4,) * 3,
        pixel_std=(0.25,) * 3,
        joint_mean=(0.1,) * 16,
        joint_std=(2.0,) * 16,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'packed.safetensors'
        write_packed(path, encoder_of(design), spec)
        options = ModelOptions(checkpoint=str(path), device=str(context.device), engine=engine, precision=precision)
        model = load_model(options, spec)
        packed = read_packed(path)
    assert packed is not None
    return _within({'golden': packed.golden_error(model.engine), 'when loaded': model.engine_error}, precision)


def _given_checkpoint(context: Context) -> dict[str, Any]:
    packed = read_packed(context.checkpoint)
    spec = packed.spec if packed else spec_of()
    model = load_model(ModelOptions(checkpoint=context.checkpoint, device=str(context.device)), spec)
    features = model.encode(*sets_of(spec, 1))
    if not np.isfinite(features).all():
        raise AssertionError('its feature is not finite')
    return {'engine': model.engine.name, 'error': model.engine_error}


def _within(errors: dict[str, float], precision: str) -> dict[str, Any]:
    bound = ERROR_BOUNDS[precision]
    if not all(error <= bound for error in errors.values()):  # NaN is past it too
        raise AssertionError(f'past the bound of {bound:.0e}: {errors}')
    return {**{name: float(f'{error:.2e}') for name, error in errors.items()}, 'bound': bound}
