"""Engines against each other: time, ratio, error, and distance from what the machine can do."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import product
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fused_encoder_ros.bench.measuring import describe_machine, peak_gflops
from fused_encoder_ros.bench.subject import PLAIN, Subject, serve
from fused_encoder_ros.errors import EngineError
from fused_encoder_ros.model.engines import can_run, choose_device, relative_error
from fused_encoder_ros.model.options import ENGINES, PRECISIONS, SINGLE, THREE_STREAM

_CONV1_GFLOP = 2 * 64 * 49 * 42 * 42 * 3 / 1e9
_REST_GFLOP = 0.560
"""Arithmetic of a ResNet18 at 84x84, a multiply and an add counted as two: conv1 for one camera, and all that follows."""

PACE_S = 0.033
"""A set each frame of a 30 Hz camera."""

ROUTE = '640x480 rgb8 images to the feature'

_DTYPES = {'fp32': torch.float32, 'fp16': torch.float16, 'bf16': torch.bfloat16}
_REFERENCE = {design: f'{design} eager fp32' for design in (SINGLE, THREE_STREAM)}
_PLAIN_ROUTE = f'{THREE_STREAM} {PLAIN} fp32'

# Title, what is called, share of the rounds, pause before each call.
_TABLES = (
    ('batch 1, hot', 'batch 1', 1.0, 0.0),
    ('batch 1, paced', 'batch 1', 0.5, PACE_S),
    ('batch 64', 'batch 64', 0.1, 0.0),
    (ROUTE, 'route', 0.5, PACE_S),
)

Times = Mapping[str, NDArray[np.float64]]


def run(
    device_name: str, threads: list[int], rounds: int, cameras: tuple[str, ...], progress: Callable[[str], None]
) -> dict[str, Any]:
    """Measure every engine and precision that runs here, for both designs, and the route that one would write from tutorials.

    Each has a process of its own, as on a robot, and they take turns. Batch 1 is timed hot (right after another set) and paced
    (a set each 33 ms, the caches swept in between, as in a node). Figures are medians over the rounds; ratios are medians of
    the ratios within a round, to `eager` of the same design and to `eager` of the three-stream design.
    """
    device = choose_device(device_name)
    results: dict[str, Any] = {}
    errors: dict[str, float] = {}
    for count in threads if device.type == 'cpu' else threads[:1]:
        torch.set_num_threads(count)
        where = f'{count} thread(s)' if device.type == 'cpu' else str(device)
        progress(f'{where}: building')
        peaks = {precision: round(peak_gflops(dtype, device)) for precision, dtype in _DTYPES.items()}
        tables: dict[str, Any] = {}
        with ExitStack() as stack:
            subjects = _start(stack, str(device), count, cameras)
            errors = _errors(subjects)
            for title, call, share, pace_s in _TABLES:
                progress(f'{where}: {title}')
                times = _take_turns(subjects, call, max(round(rounds * share), 5), pace_s)
                tables[title] = (
                    _route_table(times) if call == 'route' else _table(times, int(call.split()[1]), peaks, len(cameras))
                )
        results[where] = {'peak_gflops': peaks, **tables}
    about = {'benchmark': 'engines', 'cameras': list(cameras)}
    return {**about, 'machine': describe_machine(), 'relative_error': errors, 'results': results}


def _start(stack: ExitStack, device: str, threads: int, cameras: tuple[str, ...]) -> dict[str, Any]:
    """A pipe to each process whose engine runs here."""
    context = multiprocessing.get_context('spawn')
    subjects: dict[str, Any] = {}
    able = [(PLAIN, 'fp32'), *((engine, p) for engine in ENGINES[:0:-1] for p in PRECISIONS if can_run(engine, device, p))]
    for design, (engine, precision) in product((THREE_STREAM, SINGLE), able):
        pipe, other_end = context.Pipe()
        subject = Subject(design, engine, precision, device, threads, cameras)
        process = context.Process(target=serve, args=(other_end, subject), daemon=True)
        process.start()
        other_end.close()  # so that a process that dies is noticed
        stack.callback(process.kill)
        name = f'{design} {engine} {precision}'
        if _answer(name, pipe):
            subjects[name] = pipe
    return subjects


def _answer(name: str, pipe: Any, *asked: object) -> Any:
    """What a process says; to a call and the pause before it, if given."""
    try:
        if asked:
            pipe.send(asked)
        return pipe.recv()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise EngineError(f'{name}: its process died, most often for want of memory; see dmesg') from None


def _take_turns(subjects: Mapping[str, Any], call: str, rounds: int, pace_s: float) -> Times:
    """Milliseconds of a call of each subject that knows it, in each round."""
    times: dict[str, list[float]] = {}
    for number in range(rounds + 1):  # the first builds and warms up
        for name, pipe in subjects.items():
            if (ms := _answer(name, pipe, call, pace_s)) is not None and number:
                times.setdefault(name, []).append(ms)
    return {name: np.array(values) for name, values in times.items()}


def _errors(subjects: Mapping[str, Any]) -> dict[str, float]:
    features: dict[str, Any] = {}
    for name, pipe in subjects.items():
        features[name] = _answer(name, pipe, 'features', 0.0)
    return {
        name: relative_error(values, features[_REFERENCE[name.split()[0]]])
        for name, values in features.items()
        if values is not None
    }


def _table(times: Times, batch: int, peaks: Mapping[str, float], cameras: int) -> dict[str, dict[str, float]]:
    table = {}
    for name, values in times.items():
        design, _, precision = name.split()
        ms = float(np.median(values))
        table[name] = {
            'ms': round(ms, 3),
            'times_faster_than_eager': round(float(np.median(times[_REFERENCE[design]] / values)), 2),
            'times_faster_than_three_stream_eager': round(float(np.median(times[_REFERENCE[THREE_STREAM]] / values)), 2),
            'sets_per_s': round(batch * 1e3 / ms, 1),
            'share_of_peak': round(_gflop(design, cameras) * batch / ms * 1e3 / peaks[precision], 3),
        }
    return table


def _route_table(times: Times) -> dict[str, dict[str, float]]:
    return {
        name: {
            'ms': round(float(np.median(values)), 3),
            'times_faster': round(float(np.median(times[_PLAIN_ROUTE] / values)), 2),
        }
        for name, values in times.items()
    }


def _gflop(design: str, cameras: int) -> float:
    """Arithmetic of one set."""
    return cameras * _CONV1_GFLOP + _REST_GFLOP * (1 if design == SINGLE else cameras)


def as_text(result: dict[str, Any]) -> str:
    """The tables for a person."""
    lines = []
    for where, tables in result['results'].items():
        peaks = ', '.join(f'{precision} {peak:,}' for precision, peak in tables['peak_gflops'].items())
        lines.append(f'\n{where}; peak of a large matrix product, GFLOP/s: {peaks}')
        for title, call, _, pace_s in _TABLES:
            paced = f', a set each {pace_s * 1e3:g} ms' if pace_s else ''
            lines.append(f'\n{title}{paced}')
            if call == 'route':
                lines.append(f'  {"":<30}{"ms":>9}{"x first":>9}')
                lines += [f'  {name:<30}{row["ms"]:>9.2f}{row["times_faster"]:>9.2f}' for name, row in tables[title].items()]
                continue
            lines.append(f'  {"":<30}{"ms":>9}{"sets/s":>9}{"x eager":>9}{"x 3-stream eager":>18}{"of peak":>9}{"error":>9}')
            for name, row in tables[title].items():
                lines.append(
                    f'  {name:<30}{row["ms"]:>9.2f}{row["sets_per_s"]:>9.0f}{row["times_faster_than_eager"]:>9.2f}'
                    f'{row["times_faster_than_three_stream_eager"]:>18.2f}{row["share_of_peak"]:>9.0%}'
                    f'{result["relative_error"][name]:>9.0e}'
                )
    return '\n'.join(lines)
