"""The synchroniser against message_filters' ApproximateTimeSynchronizer, on the same recorded streams.

    python benchmarks/sync_vs_message_filters.py --out benchmarks/results/sync_vs_message_filters.json

Needs a ROS 2 with message_filters. The streams are made in memory: three free-running cameras, whose images come 35 ms
after their stamps, and one or three joint publishers, 1 ms after. Every subject gets the same messages in the same order.
`usual` is queue_size 10 and slop 0.1 s; `tuned` is the best of a grid for the case at hand: the most sets within the
tolerance, then the smallest skew. A setting that takes longer than the recording lasts is no setting.

Sets are looked at whose anchor (the global camera's frame) lies in the middle of the recording. They are `good` if both
other cameras are within the tolerance of 20 ms and of the same lap, and every joint is there and within 100 ms, else
`wrong`. `possible` is how many good ones there are, by brute force. Time is CPU time of the thread.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import message_filters
import numpy as np
from sync_streams import CASES, DURATION_S, Case, Sent, record

from fused_encoder_ros.bench.measuring import describe_machine
from fused_encoder_ros.pipeline.data import JOINTS, Frame, Observation, stamp_to_ns
from fused_encoder_ros.pipeline.joints import JointReader
from fused_encoder_ros.pipeline.options import SyncOptions
from fused_encoder_ros.pipeline.pipeline import Pipeline
from fused_encoder_ros.pipeline.sync import Synchroniser
from fused_encoder_ros.ros.filters import ObservationFilter
from fused_encoder_ros.spec import CAMERAS, ObservationSpec

MS = 1_000_000
SOURCES = (*CAMERAS, JOINTS)
ANCHOR = 'global'
FOLLOWERS = [camera for camera in CAMERAS if camera != ANCHOR]
TOLERANCE_MS, JOINT_MAX_AGE_MS = 20.0, 100.0
SPEC = ObservationSpec()
QUEUES = (5, 10, 20, 50, 100, 200, 500)
SLOPS_S = (0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1)
POLICIES = {
    'ours, nearest': {'match': 'nearest'},
    'ours, expected': {'match': 'expected'},
    'ours, nearest, camera_period_ms 33.3': {'match': 'nearest', 'camera_period_ns': 33_333_333},
    'ours, soonest': {'match': 'soonest'},
}

Push = Callable[[str, Any], None]
Set = dict[str, Any]
"""One set: `anchor_ns`, `numbers` of the camera messages, `skew_ms` by source, `positions` of the joints."""


def stock(queue_size: int, slop_s: float, sets: list[Set], fail_at: int = -1) -> Push:
    """message_filters as its users write it."""
    filters = {source: message_filters.SimpleFilter() for source in SOURCES}
    sync = message_filters.ApproximateTimeSynchronizer(list(filters.values()), queue_size, slop_s)

    def on_set(*messages: Any) -> None:
        if len(sets) == fail_at:
            sets.append({})
            raise RuntimeError('a fault in the callback')
        by_source = dict(zip(SOURCES, messages))
        stamps = {source: stamp_to_ns(message.header.stamp) for source, message in by_source.items()}
        anchor_ns, joints = stamps[ANCHOR], by_source[JOINTS]
        sets.append(
            {
                'anchor_ns': anchor_ns,
                'numbers': {camera: by_source[camera].number for camera in CAMERAS},
                'skew_ms': {source: (stamp - anchor_ns) / MS for source, stamp in stamps.items()},
                'positions': np.array([dict(zip(joints.name, joints.position)).get(n, np.nan) for n in SPEC.joint_names]),
            }
        )

    sync.registerCallback(on_set)
    return lambda source, message: filters[source].signalMessage(message)


def described(observation: Observation) -> Set:
    """An observation as a set; its frames' pixels hold their numbers."""
    pixels = observation.images[0, 0].tolist()
    numbers = {c: int.from_bytes(bytes(pixels[3 * i : 3 * i + 3]), 'big') for i, c in enumerate(CAMERAS)}
    skew_ms = {source: ns / MS for source, ns in observation.skew_ns.items()}
    positions = observation.joint_positions
    return {'anchor_ns': observation.stamp_ns, 'numbers': numbers, 'skew_ms': skew_ms, 'positions': positions}


def ours(sets: list[Set], **options: Any) -> Push:
    """Our synchroniser, joint messages read by name; images are taken as they are, as message_filters does."""
    sync, reader = Synchroniser(SPEC, SyncOptions(**options)), JointReader(SPEC.joint_names)

    def push(source: str, message: Any) -> None:
        if source == JOINTS:
            outcomes = sync.push_joints(reader.read(message))
        else:
            outcomes = sync.push_frame(source, Frame(stamp_to_ns(message.header.stamp), message.data))
        sets.extend(described(outcome) for outcome in outcomes if isinstance(outcome, Observation))

    return push


def play(sent: list[Sent], push: Push, sets: list[Set], limit_s: float = np.inf) -> float | None:
    """Push everything; each new set gets the time of the message that completed it. CPU seconds it took, None if too long."""
    begin = time.thread_time()
    count = 0
    for number, one in enumerate(sent):
        push(one.source, one.message)
        while count < len(sets):
            sets[count]['came_ns'] = one.arrived_ns
            count += 1
        if number % 256 == 0 and time.thread_time() - begin > limit_s:
            return None
    return time.thread_time() - begin


def possible(sent: list[Sent], case: Case) -> set[int]:
    """Numbers of the anchors in the middle of the recording that can have a good set."""
    stamps = {s: np.array([o.stamp_ns for o in sent if o.source == s]) for s in SOURCES}
    found = set()
    for one in sent:
        if one.source == ANCHOR and case.counts(one):
            near = [np.abs(stamps[c] - one.stamp_ns).min() <= TOLERANCE_MS * MS for c in FOLLOWERS]
            if all(near) and np.abs(stamps[JOINTS] - one.stamp_ns).min() <= JOINT_MAX_AGE_MS * MS:
                found.add(one.message.number)
    return found


def percentiles(values: list[float]) -> dict[str, float] | None:
    if not values:
        return None
    return dict(zip(('p50', 'p99'), np.percentile(np.abs(values), [50, 99]).round(2).tolist()))


def judge(sets: list[Set], sent: list[Sent], case: Case) -> dict[str, Any]:
    """The figures of one run."""
    by_number = {one.message.number: one for one in sent}
    counted = [s for s in sets if s and case.counts(by_number[s['numbers'][ANCHOR]])]
    good, wrong = [], 0
    for one in counted:
        frames = [by_number[number] for number in one['numbers'].values()]
        near = all(abs(one['skew_ms'][camera]) <= TOLERANCE_MS for camera in FOLLOWERS)
        same_pass = len({frame.lap for frame in frames}) == 1
        whole = bool(np.isfinite(one['positions']).all()) and abs(one['skew_ms'][JOINTS]) <= JOINT_MAX_AGE_MS
        if near and same_pass and whole:
            good.append(one)
        wrong += not (near and same_pass and whole)
    order = [s['numbers'][ANCHOR] for s in sets if s]
    arrived = {number: one.arrived_ns for number, one in by_number.items()}
    waits = [(s['came_ns'] - arrived[s['numbers'][ANCHOR]]) / MS for s in good]
    after_last = [(s['came_ns'] - max(arrived[n] for n in s['numbers'].values())) / MS for s in good]
    errors = [np.abs(s['positions'] - case.positions(s['anchor_ns'])).max() * 1e3 for s in good]
    return {
        'possible': len(possible(sent, case)),
        'good': len({s['numbers'][ANCHOR] for s in good}),
        'wrong': wrong,
        'backwards': sum(b <= a for a, b in itertools.pairwise(order)),
        'camera_skew_ms': percentiles([s['skew_ms'][c] for s in good for c in FOLLOWERS]),
        'joint_time_error_ms': percentiles([s['skew_ms'][JOINTS] for s in good]),
        'joint_error_mrad': percentiles(errors),
        'after_anchor_ms': percentiles(waits),
        'after_last_image_ms': percentiles(after_last),
    }


def tune(case: Case, sent: list[Sent]) -> tuple[int, float] | None:
    """The queue_size and slop that serve this very recording best; None if no setting gives more good sets than bad."""
    best: tuple[Any, ...] = ()
    for queue_size in QUEUES:
        for slop_s in SLOPS_S:
            sets: list[Set] = []
            if play(sent, stock(queue_size, slop_s, sets), sets, limit_s=sent[-1].arrived_ns / 1e9) is None:
                continue
            figures = judge(sets, sent, case)
            skew = figures['camera_skew_ms'] or {'p50': np.inf}
            joints = figures['joint_time_error_ms'] or {'p50': np.inf}
            score = (figures['good'] - figures['wrong'] - figures['backwards'], -skew['p50'] - joints['p50'], -queue_size)
            best = max(best, (score, queue_size, slop_s))
    return (best[1], best[2]) if best and best[0][0] > 0 else None


def after_a_fault(case: Case, setting: tuple[int, float]) -> dict[str, Any]:
    """How many sets follow after the callback has failed once, in a graph of filters."""
    sent = record(case, DURATION_S)
    answers: dict[str, Any] = {}
    inputs = {source: message_filters.SimpleFilter() for source in SOURCES}
    observations = ObservationFilter(Pipeline(SPEC, SyncOptions(match='nearest')), inputs)
    mine: list[Set] = []

    def on_observation(observation: Observation) -> None:
        mine.append({})
        if len(mine) == 51:
            raise RuntimeError('a fault in the callback')

    observations.registerCallback(on_observation)
    theirs: list[Set] = []
    subjects = {
        'tuned': (stock(*setting, theirs, fail_at=50), theirs),
        'ours, nearest': (lambda source, message: inputs[source].signalMessage(message), mine),
    }
    for name, (push, sets) in subjects.items():
        feeder = threading.Thread(target=_feed, args=(sent, push), daemon=True)
        feeder.start()
        feeder.join(30)
        answers[name] = {'sets_after_the_fault': len(sets) - 51, 'blocked_for_ever': feeder.is_alive()}
    return answers


def _feed(sent: list[Sent], push: Push) -> None:
    for one in sent:
        try:
            push(one.source, one.message)
        except RuntimeError:
            continue


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Every subject on one case; times and ratios are medians over interleaved rounds."""
    sent = record(case, DURATION_S)
    setting = tune(case, sent)
    subjects: dict[str, Callable[[list[Set]], Push]] = {'usual': lambda sets: stock(10, 0.1, sets)}
    if setting is not None:
        subjects['tuned'] = lambda sets: stock(*setting, sets)
    subjects |= {name: (lambda sets, options=options: ours(sets, **options)) for name, options in POLICIES.items()}
    rows: dict[str, dict[str, Any]] = {}
    skews: dict[str, dict[int, float]] = {}
    times: dict[str, list[float]] = {name: [] for name in subjects}
    for _ in range(rounds):
        for name, make in subjects.items():
            sets: list[Set] = []
            times[name].append(play(sent, make(sets), sets) or np.inf)
            rows[name] = judge(sets, sent, case)
            skews[name] = {s['anchor_ns']: max(abs(s['skew_ms'][c]) for c in FOLLOWERS) for s in sets}
    for name, row in rows.items():
        common = skews[name].keys() & skews.get('tuned', {}).keys()
        row['anchors_common_with_tuned'] = len(common)
        row['of_them_with_more_skew'] = sum(skews[name][ns] > skews['tuned'][ns] for ns in common)
        row['times_cheaper_than_usual'] = round(statistics.median(a / b for a, b in zip(times['usual'], times[name])), 2)
        row['us_per_message'] = round(statistics.median(times[name]) / len(sent) * 1e6, 2)
    return {'case': asdict(case), 'messages': len(sent), 'tuned': setting, 'subjects': rows}


def show(name: str, result: dict[str, Any]) -> None:
    columns = ('camera_skew_ms', 'joint_time_error_ms', 'joint_error_mrad', 'after_anchor_ms', 'after_last_image_ms')
    setting = 'no setting' if result['tuned'] is None else 'queue_size {}, slop {} s'.format(*result['tuned'])
    print(f'\n{name} (tuned: {setting})\n{"p50 / p99":>38}{"good":>9}{"wrong":>7}{"back":>6}', end='')
    print(''.join(f'{column:>21}' for column in columns) + f'{"more skew":>12}{"us/message":>12}{"cheaper":>9}')
    for subject, row in result['subjects'].items():
        cells = ['-' if row[c] is None else f'{row[c]["p50"]} / {row[c]["p99"]}' for c in columns]
        print(f'{subject:<38}{row["good"]:>5}/{row["possible"]}{row["wrong"]:>7}{row["backwards"]:>6}', end='')
        more = f'{row["of_them_with_more_skew"]}/{row["anchors_common_with_tuned"]}'
        print(
            ''.join(f'{cell:>21}' for cell in cells)
            + f'{more:>12}{row["us_per_message"]:>12}{row["times_cheaper_than_usual"]:>9}'
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--only', help='cases whose name holds this')
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    results = {}
    for case in CASES:
        if options.only is None or options.only in case.name:
            results[case.name] = measure(case, options.rounds)
            show(case.name, results[case.name])
    first = results.get(CASES[0].name)
    fault = after_a_fault(CASES[0], first['tuned']) if first and first['tuned'] else None
    print('\nafter a fault in the callback:', fault)
    result = {
        'benchmark': 'sync_vs_message_filters',
        'command': f'python benchmarks/sync_vs_message_filters.py --rounds {options.rounds}',
        'machine': describe_machine(),
        'tolerance_ms': TOLERANCE_MS,
        'usual': {'queue_size': 10, 'slop_s': 0.1},
        'grid': {'queue_size': QUEUES, 'slop_s': SLOPS_S},
        'results': results,
        'after_a_fault': fault,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
