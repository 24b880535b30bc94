"""Engines and designs on the CPU, interleaved in one process: time, ratio and error.

    python benchmarks/engines.py --out benchmarks/results/engines_cpu.json

Batch 1 is timed hot (right after another set) and paced (a set each 33 ms with the caches swept in between, as in a node).
Every round times each engine once; figures are medians over the rounds, ratios medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe_machine
from torch import nn

from fused_encoder_ros.errors import EngineUnavailable
from fused_encoder_ros.model import ImageJointEncoder, ThreeStreamEncoder
from fused_encoder_ros.model.engine import EagerEngine, Engine
from fused_encoder_ros.model.packed import PackedEngine
from fused_encoder_ros.spec import ObservationSpec

SPEC = ObservationSpec()
GFLOP = {'single': 0.660, 'three_stream': 1.778}
"""Arithmetic of one set, multiply and add counted apart."""


def calibrated(kind: type[nn.Module]) -> nn.Module:
    """Random weights with BatchNorm statistics of ordinary images, so that activations have ordinary sizes."""
    torch.manual_seed(0)
    encoder = kind().train()
    with torch.no_grad():
        for _ in range(10):
            encoder(*(torch.rand(8, 3, 84, 84) for _ in range(3)), torch.randn(8, 16))
    return encoder.eval()


def engines() -> dict[str, Engine]:
    """Every engine that runs here."""
    found: dict[str, Engine] = {}
    for design, kind in (('single', ImageJointEncoder), ('three_stream', ThreeStreamEncoder)):
        encoder = calibrated(kind)
        found[f'{design} eager fp32'] = EagerEngine(encoder, SPEC, torch.device('cpu'))
        for precision in ('fp32', 'bf16'):
            try:
                found[f'{design} packed {precision}'] = PackedEngine(encoder, SPEC, precision)
            except EngineUnavailable as error:
                print(f'{design} packed {precision}: {error}', file=sys.stderr)
    return found


def measure(subjects: dict[str, Engine], batch: int, rounds: int, paced: bool) -> dict[str, dict[str, float]]:
    """Milliseconds a call and ratios to eager of the same design and to three_stream eager."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, 84, 84, 9), dtype=np.uint8)
    joints = rng.normal(size=(batch, 16)).astype(np.float32)
    sweep = np.zeros(32 * 2**20, np.uint8)
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for engine in subjects.values():
        engine.encode(images, joints)
        engine.encode(images, joints)
    for _ in range(rounds):
        for name, engine in subjects.items():
            if paced:
                sweep += 1
                time.sleep(0.033)
            else:
                engine.encode(images, joints)  # its weights back into the caches, after those of the others
            start = time.perf_counter()
            engine.encode(images, joints)
            times[name].append((time.perf_counter() - start) * 1e3)
    answer = {}
    for name, values in times.items():
        design = name.split()[0]
        own, original = np.array(times[f'{design} eager fp32']), np.array(times['three_stream eager fp32'])
        answer[name] = {
            'ms': round(float(np.median(values)), 3),
            'times_faster_than_eager': round(float(np.median(own / values)), 2),
            'times_faster_than_three_stream_eager': round(float(np.median(original / values)), 2),
            'sets_per_s': round(batch * 1e3 / float(np.median(values)), 1),
        }
    return answer


def peak_gflops(rounds: int = 30) -> float:
    """What a large float32 matrix product reaches with the threads in use: the machine's arithmetic limit."""
    a, b = torch.rand(2048, 2048), torch.rand(2048, 2048)
    best = min(_timed(lambda: a @ b) for _ in range(rounds))
    return 2 * 2048**3 / best / 1e9


def _timed(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def errors(subjects: dict[str, Engine]) -> dict[str, float]:
    """Largest error against eager of the same design, relative to the largest value."""
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (16, 84, 84, 9), dtype=np.uint8)
    joints = rng.normal(size=(16, 16)).astype(np.float32)
    features = {name: engine.encode(images, joints) for name, engine in subjects.items()}
    answer = {}
    for name, values in features.items():
        expected = features[f'{name.split()[0]} eager fp32']
        answer[name] = float(np.abs(values - expected).max() / np.abs(expected).max())
    return answer


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=60)
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    subjects = engines()
    results: dict[str, Any] = {}
    for threads in (1, 2):
        torch.set_num_threads(threads)
        peak = peak_gflops()
        hot = measure(subjects, 1, options.rounds, paced=False)
        for name, row in hot.items():
            if 'fp32' in name:
                row['share_of_peak'] = round(GFLOP[name.split()[0]] / row['ms'] * 1e3 / peak, 3)
        results[f'{threads} threads'] = {
            'peak_gflops_float32': round(peak, 1),
            'batch 1 hot': hot,
            'batch 1 paced': measure(subjects, 1, options.rounds // 2, paced=True),
            'batch 64': measure(subjects, 64, max(options.rounds // 12, 3), paced=False),
        }
    result = {
        'benchmark': 'engines',
        'command': f'python benchmarks/engines.py --rounds {options.rounds}',
        'machine': describe_machine(),
        'relative_error': errors(subjects),
        'results': results,
    }
    text = json.dumps(result, indent=2)
    if options.out:
        options.out.write_text(text + '\n')
    for threads, tables in results.items():
        for title, table in tables.items():
            if isinstance(table, dict):
                print(f'\n{threads}, {title}' + f'{"ms":>24}{"x eager":>10}{"x three-stream eager":>22}')
                for name, row in table.items():
                    ratios = row['times_faster_than_eager'], row['times_faster_than_three_stream_eager']
                    print(f'  {name:<28}{row["ms"]:>10.2f}{ratios[0]:>10.2f}{ratios[1]:>22.2f}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
