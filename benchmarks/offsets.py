"""How well the offset of a camera's stamps is told from motion, on the synthetic robot in its lab.

OMP_NUM_THREADS=1 nice python benchmarks/offsets.py --out benchmarks/results/offsets.json    # a quarter of an hour of a core

Each run is 30 s at 30 Hz with a true offset for each camera, even in -120 to +120 ms, and joints at 100 Hz:

- moving: the robot moves, each joint in a sine of its own; ordinary light
- reaching: each arm goes from pose to pose in 0.8 to 2.5 s, and often rests there for up to a second
- light: the same, and the exposure changes: in steps, and slowly up and down
- unrelated: the pictures are of another robot's motion
- at rest: nothing moves but the noise of pictures and encoders
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.content.offsets import Offset, OffsetMeter
from fused_encoder_ros.lab import Lab
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.synthetic import Rig

SECONDS, LARGEST_MS, START_NS = 30.0, 120.0, 10**12
# The limits of the measurement were set on runs of smaller seeds.
FIRST_SEED = 1000
RUNS = {'moving': 80, 'reaching': 20, 'light': 10, 'unrelated': 10, 'at rest': 5}


class Reaching(Rig):
    """A robot whose arms go from pose to pose, each motion of least jerk (Flash and Hogan, 1985)."""

    @cached_property
    def _ways(self) -> list[list[tuple[float, float, NDArray[np.float64], NDArray[np.float64]]]]:
        """Of each arm: when a motion begins and how long it takes, seconds, and the poses it goes between."""
        rng = np.random.default_rng((self.seed, 98))
        joints = len(self.joint_names) // 2
        ways = []
        for _ in range(2):
            begin_s, pose, way = 0.0, rng.uniform(-0.6, 0.6, joints), []
            while begin_s <= SECONDS + 1:
                takes_s = rng.uniform(0.8, 2.5)
                goal = np.clip(pose + rng.uniform(-0.8, 0.8, joints) * (rng.random(joints) < 0.7), -1.2, 1.2)
                way.append((begin_s, takes_s, pose, goal))
                begin_s += takes_s + rng.choice([0, rng.uniform(0.2, 1.0)])
                pose = goal
            ways.append(way)
        return ways

    def joint_positions(self, time_ns: int) -> NDArray[np.float64]:
        now_s, positions = max(time_ns / 1e9, 0.0), []
        for way in self._ways:
            begin_s, takes_s, pose, goal = [motion for motion in way if motion[0] <= now_s][-1]
            s = np.clip((now_s - begin_s) / takes_s, 0, 1)
            positions.append(pose + (goal - pose) * s**3 * (10 - 15 * s + 6 * s**2))
        return np.concatenate(positions)


def run(kind: str, seed: int) -> tuple[dict[str, float], dict[str, Offset]]:
    """True offsets in ms and what is told, by camera."""
    rig = (Reaching if kind == 'reaching' else Rig)(seed=seed, lab=Lab(seed=seed % 5, objects=seed), width=168, height=126)
    other = Rig(seed=seed + 10_000)
    rng = np.random.default_rng((seed, 5))
    true = {camera: float(rng.uniform(-LARGEST_MS, LARGEST_MS)) for camera in rig.cameras}
    meter = OffsetMeter(rig.cameras)
    for event in rig.events(SECONDS):
        now_ns = 0 if kind == 'at rest' else event.stamp_ns
        if event.source == JOINTS:
            positions = (other if kind == 'unrelated' else rig).joint_positions(now_ns)
            meter.see_joints(START_NS + event.stamp_ns, positions + rng.normal(0, 1e-4, positions.size))
            continue
        assert rig.lab is not None
        joints = dict(zip(rig.joint_names, rig.joint_positions(now_ns).tolist()))
        picture = rig.lab.view(event.source, (rig.height, rig.width), joints, event.stamp_ns)
        if kind == 'light':
            picture = exposed(picture, event.stamp_ns / 1e9)
        pixels = cv2.resize(picture, (84, 84), interpolation=cv2.INTER_LINEAR)
        # True is what must be added to the stamp.
        meter.see_frame(
            event.source, START_NS + event.stamp_ns - round(true[event.source] * 1e6), np.asarray(pixels, np.uint8)
        )
    return true, meter.offsets()


def exposed(picture: NDArray[np.uint8], seconds: float) -> NDArray[np.uint8]:
    """With an exposure that jumps every four seconds and goes up and down meanwhile."""
    gain = (0.7, 1.0, 1.3)[int(seconds / 4) % 3] * (1 + 0.2 * np.sin(2.1 * seconds))
    return np.clip(picture * gain, 0, 255).astype(np.uint8)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Figures of the runs of one camera, or of all."""
    told = [row for row in rows if row['told_ms'] is not None]
    figures: dict[str, Any] = {'runs': len(rows), 'told': len(told)}
    if told:
        errors = np.array([abs(row['told_ms'] - row['true_ms']) for row in told])
        holds = [row['low_ms'] <= row['true_ms'] <= row['high_ms'] for row in told]
        half = [(row['high_ms'] - row['low_ms']) / 2 for row in told]
        p50, p95 = np.percentile(errors, [50, 95])
        figures |= {'error_p50_ms': round(float(p50), 2), 'error_p95_ms': round(float(p95), 2)}
        figures |= {'error_max_ms': round(float(errors.max()), 2), 'interval_holds': round(float(np.mean(holds)), 3)}
        figures |= {'half_interval_p50_ms': round(float(np.median(half)), 1)}
    return figures


def cost_ms() -> float:
    """CPU time of a frame while the robot moves, without the making of pictures."""
    rig = Rig(lab=Lab(), width=168, height=126)
    rows = []
    for event in rig.events(5.0):
        if event.source == JOINTS:
            rows.append((event, rig.joint_positions(event.stamp_ns)))
        else:
            image = cv2.resize(rig.image(event.source, event.stamp_ns, event.number), (84, 84))
            rows.append((event, image))  # type: ignore[arg-type]
    meter = OffsetMeter(rig.cameras)
    begin = time.process_time()
    for event, content in rows:
        if event.source == JOINTS:
            meter.see_joints(START_NS + event.stamp_ns, content)
        else:
            meter.see_frame(event.source, START_NS + event.stamp_ns, content)  # type: ignore[arg-type]
    return 1e3 * (time.process_time() - begin) / sum(event.source != JOINTS for event, _ in rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--part', type=int, default=1, metavar='N', help='do only every N-th run')
    options = parser.parse_args()
    cv2.setNumThreads(1)
    rows: dict[str, list[dict[str, Any]]] = {}
    for kind, count in RUNS.items():
        rows[kind] = []
        for seed in range(FIRST_SEED, FIRST_SEED + count, options.part):
            true, offsets = run(kind, seed)
            for camera, offset in offsets.items():
                row = {'camera': camera, 'true_ms': round(true[camera], 2), 'told_ms': offset.ms}
                rows[kind].append({**row, 'low_ms': offset.low_ms, 'high_ms': offset.high_ms, 'problem': offset.problem})
        print(kind, json.dumps(summary(rows[kind])), flush=True)
    cameras = sorted({row['camera'] for found in rows.values() for row in found})
    result = {
        'part': options.part,
        'machine': f'{platform.machine()}, Python {platform.python_version()}, OpenCV {cv2.__version__}',
        'cpu_ms_a_frame': round(cost_ms(), 2),
        'summary': {
            kind: {
                'all': summary(found),
                **{camera: summary([row for row in found if row['camera'] == camera]) for camera in cameras},
            }
            for kind, found in rows.items()
        },
        'runs': rows,
    }
    options.out.write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
