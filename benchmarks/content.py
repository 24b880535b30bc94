"""How well faults in what the data show are found: share found, named rightly, seconds until then, and false alarms.

python benchmarks/content.py --hours 10 --out benchmarks/results/content.json

A reference is learnt from sixteen episodes of the synthetic lab. Each fault is put into each of the test episodes, which have
other objects, other motion, light that is brighter or darker by up to a fifth, sensor noise, and JPEG. Sound episodes give the
false alarms; they are as long together as --hours says. The observations come at 5 Hz, which is what the watcher looks at.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / 'test' / 'content')]

import cv2  # noqa: E402
import numpy as np  # noqa: E402
import scenes  # noqa: E402

from fused_encoder_ros.bench.measuring import describe_machine  # noqa: E402
from fused_encoder_ros.content.profile import merge  # noqa: E402
from fused_encoder_ros.content.reference import Reference  # noqa: E402
from fused_encoder_ros.content.watch import Watcher  # noqa: E402
from fused_encoder_ros.pipeline.data import JOINTS, Observation  # noqa: E402

_TRAINING, _LENGTH_S = 16, 20.0
_TEST_FROM, _SOUND_FROM = 5000, 50_000


def faults() -> Iterator[tuple[str, str, str, scenes.Change]]:
    """Name, the source and the fault that is right, and the change."""
    for name, change in scenes.FAULTS_OF_PICTURES.items():
        for camera in scenes.SPEC.cameras:
            yield f'{name}: {camera}', camera, name, change(camera)
    for one, other in (('left_wrist', 'right_wrist'), ('left_wrist', 'global'), ('right_wrist', 'global')):
        yield f'exchanged: {one} and {other}', one, 'exchanged', scenes.exchanged(one, other)
    for name, joint_change in scenes.FAULTS_OF_JOINTS.items():
        yield f'{name}: joints', JOINTS, name, joint_change
    yield 'stuck: joints', JOINTS, 'stuck', scenes.stuck(2)


def compressed(observation: Observation) -> Observation:
    """With the losses of JPEG."""
    pictures = []
    for number in range(len(scenes.SPEC.cameras)):
        picture = np.ascontiguousarray(observation.images[..., 3 * number : 3 * number + 3])
        _, data = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 85])
        pictures.append(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8))
    return replace(observation, images=np.concatenate(pictures, axis=2))


def learn() -> Reference:
    """What the training episodes teach."""
    return Reference(merge([scenes.profile_of(scenes.episode(seed, _LENGTH_S)) for seed in range(_TRAINING)]))


_reference: Reference | None = None


def reference() -> Reference:
    """Learnt once by each process."""
    global _reference
    _reference = _reference or learn()
    return _reference


def of_episode(seed: int) -> dict[str, tuple[bool, bool, float]]:
    """What `recognised` says of each fault in one episode."""
    observations = [compressed(o) for o in scenes.episode(seed, _LENGTH_S)]
    return {
        name: recognised(reference(), [change(o) for o in observations], name, source, right)
        for name, source, right, change in faults()
    }


def recognised(
    learned: Reference,
    observations: list[Observation],
    name: str,
    source: str,
    right: str,
    sound: Collection[tuple[str, str, str]] = (),
) -> tuple[bool, bool, float]:
    """Whether a fault was found, was named rightly in time, and after how many seconds it was found.

    In time is within five seconds, and within ten for a moved camera.

    Args:
        learned: what the training episodes taught.
        observations: with the fault.
        name, source, right: of the fault, as in `faults`.
        sound: keys of faults that are told without it too; they do not count.
    """
    limit_s = 10 if right == 'moved' else 5
    allowed = {(source, right)}
    if right == 'exchanged':
        allowed.add((name.rpartition(' ')[2], right))
    watcher, begin_ns = Watcher(learned), observations[0].stamp_ns
    first_s, early = math.inf, set[tuple[str, str]]()
    for observation in observations:
        now = {fault.key[:2] for fault in watcher.see(observation) if fault.key not in sound}
        seconds = (observation.stamp_ns - begin_ns) / 1e9
        first_s = min(first_s, seconds if now else math.inf)
        early |= now if seconds <= limit_s else set()
    return math.isfinite(first_s), bool(early) and early <= allowed, first_s


def sound(seeds: list[int]) -> tuple[float, Counter[str], list[float]]:
    """Seconds of sound episodes, the false alarms in them, and the watcher's CPU time a second of data."""
    seconds, alarms, costs = 0.0, Counter[str](), []
    for seed in seeds:
        observations = scenes.episode(seed, _LENGTH_S)
        watcher = Watcher(reference())
        begin_s = time.process_time()
        for observation in observations:
            watcher.see(observation)
        costs.append((time.process_time() - begin_s) / _LENGTH_S)
        alarms.update(f'{told.source}: {told.fault}' for told in watcher.told.values())
        seconds += _LENGTH_S
    return seconds, alarms, costs


def main() -> None:
    """Measure, print, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--episodes', type=int, default=40, help='episodes that each fault is put into (default: 40)')
    parser.add_argument('--hours', type=float, default=10.0, help='hours of sound episodes (default: 10)')
    parser.add_argument('--processes', type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument('--out', type=Path, help='file for the results, JSON')
    options = parser.parse_args()
    cv2.setNumThreads(1)
    by_fault: dict[str, list[tuple[bool, bool, float]]] = defaultdict(list)
    seeds = range(_SOUND_FROM, _SOUND_FROM + int(options.hours * 3600 / _LENGTH_S))
    chunks = [list(seeds[i : i + 30]) for i in range(0, len(seeds), 30)]
    with ProcessPoolExecutor(options.processes) as pool:
        for results in pool.map(of_episode, range(_TEST_FROM, _TEST_FROM + options.episodes)):
            for name, result in results.items():
                by_fault[name].append(result)
        sounds = list(pool.map(sound, chunks))
    table = {name: _summary(results) for name, results in by_fault.items()}
    for name, row in table.items():
        print(f'{name:40} found {row["found"]:.1%}  named in 5 s {row["named_in_5_s"]:.1%}  after {row["seconds_p50"]} s')
    hours = sum(seconds for seconds, _, _ in sounds) / 3600
    alarms: Counter[str] = sum((counts for _, counts, _ in sounds), Counter())
    costs = [cost for _, _, of_chunk in sounds for cost in of_chunk]
    print(f'{sum(alarms.values())} false alarms in {hours:.1f} h of sound data: {dict(alarms)}')
    print(f'watching takes {1e3 * float(np.median(costs)):.1f} ms of CPU a second of data')
    if options.out:
        result: dict[str, Any] = {
            'machine': describe_machine(),
            'training_episodes': _TRAINING,
            'episode_s': _LENGTH_S,
            'test_episodes': options.episodes,
            'faults': table,
            'sound_hours': hours,
            'false_alarms': dict(alarms),
            'cpu_ms_per_s': 1e3 * float(np.median(costs)),
        }
        options.out.write_text(json.dumps(result, indent=2) + '\n')


def _summary(results: list[tuple[bool, bool, float]]) -> dict[str, float]:
    found, named, seconds = zip(*results)
    return {
        'found': float(np.mean(found)),
        'named_in_5_s': float(np.mean(named)),
        'seconds_p50': float(np.median(seconds)) if any(found) else float('nan'),
    }


if __name__ == '__main__':
    main()
