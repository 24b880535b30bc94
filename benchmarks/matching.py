"""What each way of matching costs and gives: the wait for the followers, the skew, and how often a set is another one.

Streams of stamps are made in memory and pushed through the synchroniser in the order in which they arrive: an anchor and two
followers, free-running, each with a period a little off so that phases drift, and joints at 500 Hz. The wait of a set counts
from the arrival of its anchor to the arrival of the message that completed it. `expected` learns; `declared` is `nearest`
with camera_period_ms at the true period. A set differs when a follower's frame is not the nearest of all that were sent.

    python benchmarks/matching.py --out benchmarks/results/matching.json
"""

from __future__ import annotations

import argparse
import heapq
import json
import shlex
import sys
from pathlib import Path
from typing import Any

import numpy as np

from fused_encoder_ros.bench.measuring import describe_machine
from fused_encoder_ros.pipeline.data import JOINTS, Frame, JointSample, Observation
from fused_encoder_ros.pipeline.options import SyncOptions
from fused_encoder_ros.pipeline.sync import Synchroniser
from fused_encoder_ros.spec import ObservationSpec

SPEC = ObservationSpec(image_size=8, joint_names=('joint',))
FOLLOWERS = [camera for camera in SPEC.cameras if camera != SPEC.default_anchor]
PIXELS = np.zeros((8, 8, 3), np.uint8)
T0_NS = 1_700_000_000 * 10**9
DELAY_MS = 7.0
"""From stamp to arrival, of each camera."""

WAYS = ('nearest', 'expected', 'declared', 'soonest')


def stamps_of(rng: np.random.Generator, rate_hz: float, jitter_ms: float, loss: float, duration_s: float) -> np.ndarray:
    """Stamps of one camera, ns."""
    period_ms = 1e3 / (rate_hz * (1 + rng.normal(0, 1e-3)))
    ms = rng.uniform(0, period_ms) + np.arange(int(duration_s * rate_hz)) * period_ms
    ms = np.maximum.accumulate(ms + rng.normal(0, jitter_ms, ms.size))
    return np.unique(T0_NS + (ms[rng.random(ms.size) >= loss] * 1e6).astype(np.int64))


def run(way: str, cameras: dict[str, np.ndarray], duration_s: float, rate_hz: float) -> dict[str, np.ndarray]:
    """Wait, largest skew and largest skew of the nearest frames, ms, of each set of one way of matching."""
    options = SyncOptions(
        match='nearest' if way == 'declared' else way,
        camera_period_ns=round(1e9 / rate_hz) if way == 'declared' else 0,
        tolerance_ns=round(3e9 / rate_hz),
    )
    sync = Synchroniser(SPEC, options)
    streams = [[(stamp + DELAY_MS * 1e6, name, stamp) for stamp in stamps.tolist()] for name, stamps in cameras.items()]
    joints = [(stamp + 1e6, JOINTS, stamp) for stamp in range(T0_NS, T0_NS + int(duration_s * 1e9), 2_000_000)]
    arrived: dict[int, float] = {}
    rows = []
    for at_ns, source, stamp_ns in heapq.merge(*streams, joints):
        if source == JOINTS:
            outcomes = sync.push_joints(JointSample(stamp_ns, np.zeros(1)))
        else:
            if source == SPEC.default_anchor:
                arrived[stamp_ns] = at_ns
            outcomes = sync.push_frame(source, Frame(stamp_ns, PIXELS))
        rows += [(at_ns - arrived[o.stamp_ns], o) for o in outcomes if isinstance(o, Observation)]
    rows = rows[5:]  # the followers have begun by then
    at = np.array([o.stamp_ns for _, o in rows])
    skew = np.array([[abs(o.skew_ns[camera]) for camera in FOLLOWERS] for _, o in rows])
    true = np.stack([nearest(cameras[camera], at) for camera in FOLLOWERS], axis=1)
    return {
        'wait_ms': np.array([wait_ns for wait_ns, _ in rows]) / 1e6,
        'skew_ms': skew.max(1) / 1e6,
        'true_skew_ms': true.max(1) / 1e6,
        'differs': (skew != true).any(1),
        'excess_ms': (skew - true).ravel() / 1e6,
    }


def nearest(stamps: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Distance of the nearest stamp to each time, ns."""
    after = np.clip(np.searchsorted(stamps, at), 1, stamps.size - 1)
    return np.minimum(np.abs(stamps[after] - at), np.abs(stamps[after - 1] - at))


def figures(parts: list[dict[str, np.ndarray]]) -> dict[str, float]:
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    row: dict[str, Any] = {}
    for name in ('wait_ms', 'skew_ms', 'true_skew_ms'):
        row |= {f'{name} {p}': float(np.percentile(joined[name], q)) for p, q in (('p50', 50), ('p99', 99))}
    row['share of sets that differ'] = float(joined['differs'].mean())
    row['excess_ms p99'] = float(np.percentile(joined['excess_ms'], 99))
    row['sets'] = int(joined['wait_ms'].size)
    return {name: round(value, 4) for name, value in row.items()}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument('--duration', type=float, default=30.0, metavar='S', help='of each stream (default: 30)')
    options.add_argument('--seeds', type=int, default=10, help='streams of each kind, with other phases (default: 10)')
    options.add_argument('--out', type=Path, metavar='JSON')
    arguments = options.parse_args()
    results: dict[str, Any] = {}
    for rate_hz in (15.0, 30.0, 60.0):
        for jitter_ms in (0.5, 2.0, 5.0):
            for loss in (0.0, 0.02, 0.1):
                parts: dict[str, list[dict[str, np.ndarray]]] = {way: [] for way in WAYS}
                for seed in range(arguments.seeds):
                    rng = np.random.default_rng((seed, int(rate_hz)))
                    cameras = {c: stamps_of(rng, rate_hz, jitter_ms, loss, arguments.duration) for c in SPEC.cameras}
                    for way in WAYS:
                        parts[way].append(run(way, cameras, arguments.duration, rate_hz))
                kind = f'{rate_hz:g} Hz, jitter {jitter_ms:g} ms, {loss:.0%} lost'
                results[kind] = {way: figures(parts[way]) for way in WAYS}
                print(f'\n{kind}')
                for way, row in results[kind].items():
                    true = f'{row["true_skew_ms p50"]:.2f} / {row["true_skew_ms p99"]:.2f}'
                    print(
                        f'  {way:<10} wait {row["wait_ms p50"]:6.1f} /{row["wait_ms p99"]:6.1f} ms   '
                        f'skew {row["skew_ms p50"]:6.2f} /{row["skew_ms p99"]:6.2f} ms (nearest {true})   '
                        f'differ {row["share of sets that differ"]:6.2%}   '
                        f'excess p99 {row["excess_ms p99"]:.2f} ms',
                        flush=True,
                    )
    if arguments.out:
        command = shlex.join(['python', 'benchmarks/matching.py', *sys.argv[1:]])
        content = {'command': command, 'benchmark': 'matching', 'machine': describe_machine(), 'results': results}
        arguments.out.write_text(json.dumps(content, indent=2) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
