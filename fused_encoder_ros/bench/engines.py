"""Engines against each other, in one process: time, ratio, error, and distance from what the machine can do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fused_encoder_ros.bench import routes
from fused_encoder_ros.bench.measuring import describe_machine, interleaved, peak_gflops
from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.model.encoder import Encoder, ImageJointEncoder, ThreeStreamEncoder
from fused_encoder_ros.model.engines import Engine, choose_device, choose_engine, relative_error
from fused_encoder_ros.options import ENGINES, PRECISIONS, SINGLE, THREE_STREAM
from fused_encoder_ros.spec import ObservationSpec

GFLOP = {SINGLE: 0.660, THREE_STREAM: 1.778}
"""Arithmetic of one set at 84x84, a multiply and an add counted as two."""

ROUTES = 'three 640x480 rgb8 images to the feature'

PACE_S = 0.033
"""A set each frame of a 30 Hz camera."""

_DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
_SPEC = ObservationSpec()


def run(device_name: str, threads: list[int], rounds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Measure every engine and precision that runs here, for both designs.

    Batch 1 is timed hot (right after another set) and paced (a set each 33 ms, the caches swept in between, as in a node).
    Figures are medians over the rounds; ratios are medians of the ratios within a round, to `eager` of the same design and to
    `eager` of the three-stream design.
    """
    device = choose_device(device_name)
    encoders: dict[str, Encoder] = {SINGLE: calibrated(ImageJointEncoder), THREE_STREAM: calibrated(ThreeStreamEncoder)}
    results: dict[str, Any] = {}
    for count in threads if device.type == 'cpu' else threads[:1]:
        torch.set_num_threads(count)
        progress(f'{device}, {count} thread(s): building')
        engines = _engines(encoders, device, count)
        peaks = {p: peak_gflops(_DTYPES[p], device) for p in {name.split()[2] for name in engines}}
        tables: dict[str, Any] = {}
        for title, batch, share, pace_s in (
            ('batch 1, hot', 1, 1.0, 0.0),
            ('batch 1, paced', 1, 0.5, PACE_S),
            ('batch 64', 64, 0.1, 0.0),
        ):
            progress(f'{device}, {count} thread(s): {title}')
            tables[title] = _table(engines, batch, max(round(rounds * share), 5), pace_s, peaks)
        progress(f'{device}, {count} thread(s): {ROUTES}')
        tables[ROUTES] = routes.measure(encoders, engines, rounds)
        results[f'{count} thread(s)' if device.type == 'cpu' else str(device)] = {
            'peak_gflops': {precision: round(peak) for precision, peak in sorted(peaks.items())},
            **tables,
        }
    return {'benchmark': 'engines', 'machine': describe_machine(), 'relative_error': _errors(engines), 'results': results}


def calibrated(kind: type[nn.Module]) -> Any:
    """Random weights with BatchNorm statistics of ordinary images, so that activations have ordinary sizes."""
    torch.manual_seed(0)
    encoder = kind().train()
    with torch.no_grad():
        for _ in range(10):
            encoder(*(torch.rand(8, 3, 84, 84) for _ in range(3)), torch.randn(8, 16))
    return encoder.eval()


def _engines(encoders: dict[str, Encoder], device: torch.device, threads: int) -> dict[str, Engine]:
    found: dict[str, Engine] = {}
    for design, encoder in encoders.items():
        for name in reversed(ENGINES[1:]):
            for precision in PRECISIONS:
                try:
                    choice = choose_engine(encoder, _SPEC, device, name, precision, threads)
                except ConfigError:
                    continue  # not installed, or not for this device or precision
                found[f'{design} {name} {precision}'] = choice.engine
    return found


def _table(
    engines: dict[str, Engine], batch: int, rounds: int, pace_s: float, peaks: dict[str, float]
) -> dict[str, dict[str, float]]:
    images, joints = _inputs(batch)
    subjects = {name: lambda engine=engine: engine.encode(images, joints) for name, engine in engines.items()}
    times = interleaved(subjects, rounds, pace_s=pace_s)
    original = times[f'{THREE_STREAM} eager fp32']
    table = {}
    for name, values in times.items():
        design, _, precision = name.split()
        own, ms = times[f'{design} eager fp32'], float(np.median(values))
        table[name] = {
            'ms': round(ms, 3),
            'times_faster_than_eager': round(float(np.median(own / values)), 2),
            'times_faster_than_three_stream_eager': round(float(np.median(original / values)), 2),
            'sets_per_s': round(batch * 1e3 / ms, 1),
            'share_of_peak': round(GFLOP[design] * batch / ms * 1e3 / peaks[precision], 3),
        }
    return table


def _errors(engines: dict[str, Engine]) -> dict[str, float]:
    images, joints = _inputs(16)
    features = {name: engine.encode(images, joints) for name, engine in engines.items()}
    return {name: relative_error(values, features[f'{name.split()[0]} eager fp32']) for name, values in features.items()}


def _inputs(batch: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    rng = np.random.default_rng(batch)
    return rng.integers(0, 256, (batch, 84, 84, 9), dtype=np.uint8), rng.normal(size=(batch, 16)).astype(np.float32)


def as_text(result: dict[str, Any]) -> str:
    """The tables for a person."""
    lines = []
    for where, tables in result['results'].items():
        peaks = ', '.join(f'{precision} {peak:,}' for precision, peak in tables['peak_gflops'].items())
        for title in [key for key in tables if key.startswith('batch')]:
            lines.append(f'\n{where}, {title}   (peak of a large matrix product, GFLOP/s: {peaks})')
            lines.append(f'  {"":<30}{"ms":>9}{"sets/s":>9}{"x eager":>9}{"x 3-stream eager":>18}{"of peak":>9}{"error":>9}')
            for name, row in tables[title].items():
                lines.append(
                    f'  {name:<30}{row["ms"]:>9.2f}{row["sets_per_s"]:>9.0f}{row["times_faster_than_eager"]:>9.2f}'
                    f'{row["times_faster_than_three_stream_eager"]:>18.2f}{row["share_of_peak"]:>9.0%}'
                    f'{result["relative_error"][name]:>9.0e}'
                )
        lines.append(f'\n{where}, {ROUTES}')
        lines.append(f'  {"":<50}{"ms":>9}{"x first":>9}')
        lines += [f'  {name:<50}{row["ms"]:>9.2f}{row["times_faster"]:>9.2f}' for name, row in tables[ROUTES].items()]
    return '\n'.join(lines)
