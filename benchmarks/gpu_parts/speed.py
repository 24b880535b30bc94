"""Host array to host array: single sets hot and at 30 Hz, and batches."""

from __future__ import annotations

import time
from itertools import product
from typing import Any

from fused_encoder_ros.model.engines import Engine
from fused_encoder_ros.model.options import DESIGNS, SINGLE
from gpu_parts.context import Context, attempt
from gpu_parts.subjects import build, fast_engines, sets_of, spec_of
from gpu_parts.timing import Call, hot, paced, percentiles


def run(context: Context) -> dict[str, Any]:
    """Each engine and precision, both designs; hot times in two rounds, whose difference is what the machine is worth."""
    subjects = list(product(context.pick(DESIGNS, (SINGLE,)), [('eager', 'fp32'), *fast_engines(context.device)]))
    engines = {
        f'{design} {engine} {precision}': build(engine, precision, design, context.device)
        for design, (engine, precision) in subjects
    }
    result: dict[str, Any] = {'hot': {}, 'paced at 30 Hz': {}, 'batches, sets/s': {}}
    rounds: dict[str, list[list[float]]] = {name: [] for name in engines}
    for _ in range(2):
        for name, engine in engines.items():
            rounds[name].append(hot(_encode(engine, 1), context.pick(1000, 5), context.pick(50, 2)))
    for name, times in rounds.items():
        medians = [percentiles(one)['p50_ms'] for one in times]
        result['hot'][name] = {**percentiles([ms for one in times for ms in one]), 'p50_ms by round': medians}
    context.keep(result)
    for name, engine in engines.items():
        if engine.precision == 'fp32':
            result['paced at 30 Hz'][name] = percentiles(paced(_encode(engine, 1), context.pick(100, 3)))
    context.keep(result)
    for name, engine in engines.items():
        if engine.name == 'triton':
            continue  # its batches are those of cuda_graph
        result['batches, sets/s'][name] = attempt(_batches, engine, context)
        context.keep(result)
    return result


def _encode(engine: Engine, batch: int) -> Call:
    images, joints = sets_of(spec_of(), batch)
    return lambda: engine.encode(images, joints)


def _batches(engine: Engine, context: Context) -> dict[str, Any]:
    """Rising, as each is built anew. Few calls each: a third of a second, or five."""
    rates = {}
    for batch in context.pick((16, 64, 256, 512), (4,)):
        call = _encode(engine, batch)
        call()
        times: list[float] = []
        until = time.monotonic() + context.pick(0.3, 0.0)
        while len(times) < 5 or time.monotonic() < until:
            times += hot(call, 1, warm_up=0)
        rates[str(batch)] = round(batch * 1e3 / percentiles(times)['p50_ms'], 1)
    return rates
