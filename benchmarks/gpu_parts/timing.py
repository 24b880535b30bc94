"""Times of calls, and what a device did meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity

from fused_encoder_ros.bench.measuring import synchronise

PERIOD_S = 1 / 30

Call = Callable[[], object]


def hot(call: Call, calls: int, warm_up: int = 20) -> list[float]:
    """Milliseconds of calls one right after the other."""
    for _ in range(warm_up):
        call()
    return [_ms(call) for _ in range(calls)]


def paced(call: Call, calls: int) -> list[float]:
    """Milliseconds of calls at 30 Hz: between two sets clocks fall and caches are others'."""
    times = []
    for _ in range(calls):
        time.sleep(PERIOD_S)
        times.append(_ms(call))
    return times


def _ms(call: Call) -> float:
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def percentiles(times_ms: list[float]) -> dict[str, Any]:
    """p50, p95 and p99, and of how many calls."""
    p50, p95, p99 = (round(float(value), 4) for value in np.percentile(times_ms, [50, 95, 99]))
    return {'p50_ms': p50, 'p95_ms': p95, 'p99_ms': p99, 'calls': len(times_ms)}


def device_us(call: Call, device: torch.device, calls: int) -> float:
    """Microseconds that the device takes for a call when it is never left waiting; median of five rounds."""
    rounds = []
    for _ in range(5):
        synchronise(device)
        start_s = time.perf_counter()
        for _ in range(calls):
            call()
        synchronise(device)
        rounds.append((time.perf_counter() - start_s) / calls * 1e6)
    return round(float(np.median(rounds)), 2)


def kernels(call: Call, device: torch.device, calls: int) -> list[dict[str, Any]]:
    """What ran on the device for a call, the longest first; on a CPU torch's operators."""
    on_cuda = device.type == 'cuda'
    call()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_cuda else [])]
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(calls):
            call()
        synchronise(device)
    rows = [
        {
            'name': event.key[:120],
            'times_a_set': round(event.count / calls, 2),
            'us_a_set': round(_us(event, on_cuda) / calls, 3),
        }
        for event in profile.key_averages()
        if event.device_type.name == ('CUDA' if on_cuda else 'CPU')
    ]
    return sorted((row for row in rows if row['us_a_set']), key=lambda row: -row['us_a_set'])


def _us(event: Any, on_cuda: bool) -> float:
    if not on_cuda:
        return float(event.self_cpu_time_total)
    older = getattr(event, 'self_cuda_time_total', 0.0) if not hasattr(event, 'self_device_time_total') else 0.0
    return float(getattr(event, 'self_device_time_total', older))
