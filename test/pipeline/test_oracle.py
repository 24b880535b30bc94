"""The synchroniser against a slow search through everything, over random recordings.

`pytest --hypothesis-profile=thorough test/pipeline/test_oracle.py` tries many thousands.
"""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import ros_messages
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import Message, Oracle, Verdict
from ros_messages import MS
from streams import JOINT_COUNT, recordings

from fused_encoder_ros.pipeline.data import JOINTS, Drop, Frame, JointSample, Observation, Outcome, Reason
from fused_encoder_ros.pipeline.frames import SHORT_STEPS, STEPS_LEARNED
from fused_encoder_ros.pipeline.options import MATCHES, SyncOptions
from fused_encoder_ros.pipeline.pipeline import Pipeline
from fused_encoder_ros.pipeline.sync import Synchroniser
from fused_encoder_ros.spec import ObservationSpec

SPEC = ObservationSpec(image_size=8, joint_names=tuple('abc'[:JOINT_COUNT]))


def cases(least: int) -> settings:
    """This many examples, or what the profile says if that is more."""
    return settings(max_examples=max(least, settings().max_examples), deadline=None)


@st.composite
def sync_options(draw: st.DrawFn, longest_ms: int = 400) -> SyncOptions:
    tolerance, period, wait, age = (
        draw(st.sampled_from(values))
        for values in ((40, 30, 20, 40, 5, 0), (0, 0, 20, 40), (100, 300, 30), (100, 300, 50, 10))
    )
    horizon = draw(st.integers(max(tolerance, wait, age), longest_ms))
    anchor, match = draw(st.sampled_from(SPEC.cameras)), draw(st.sampled_from(MATCHES))
    return SyncOptions(anchor, match, tolerance * MS, period * MS, wait * MS, age * MS, horizon * MS)


def push(sync: Synchroniser, message: Message) -> list[Outcome]:
    """Hand a message over; a frame's pixels hold the number of the message."""
    if message.source == JOINTS:
        positions = np.full(JOINT_COUNT, np.nan)
        positions[list(message.positions)] = list(message.positions.values())
        return sync.push_joints(JointSample(message.stamp_ns, positions))
    pixels = np.frombuffer(message.number.to_bytes(3, 'big'), np.uint8).reshape(1, 1, 3)
    return sync.push_frame(message.source, Frame(message.stamp_ns, pixels))


def verdict(outcome: Outcome) -> Verdict:
    """An outcome in the oracle's words."""
    if not isinstance(outcome, Observation):
        kind = 'drop' if isinstance(outcome, Drop) else 'reject'
        return Verdict(kind, outcome.stamp_ns, str(outcome.reason), outcome.stream)
    pixels = np.split(outcome.images[0, 0], len(SPEC.cameras))
    used = {camera: int.from_bytes(part.tobytes(), 'big') for camera, part in zip(SPEC.cameras, pixels)}
    positions = tuple(pytest.approx(position, rel=1e-12, abs=1e-12) for position in outcome.joint_positions)
    return Verdict('set', outcome.stamp_ns, used=used, positions=positions, joints_ns=outcome.stamps_ns[JOINTS])


@given(recording=recordings(), options=sync_options())
@cases(400)
def test_any_recording_is_answered_as_by_the_slow_search(recording: list[Message], options: SyncOptions) -> None:
    """Message by message: the same sets of the same messages, the same drops for the same reasons, the same memory."""
    sync, oracle = Synchroniser(SPEC, options), Oracle(SPEC.cameras, JOINT_COUNT, options)
    ended: Counter[int] = Counter()
    for message in recording:
        outcomes = push(sync, message)
        assert [verdict(outcome) for outcome in outcomes] == oracle.push(message), message
        assert sync.buffered == oracle.remembered
        ended.update(o.stamp_ns for o in outcomes if isinstance(o, (Observation, Drop)))
        by_number = {m.number: m for m in recording[: message.number]}
        for outcome in outcomes:
            if isinstance(outcome, Observation):
                stamps = {c: by_number[n].stamp_ns for c, n in verdict(outcome).used.items()}
                assert {**stamps, JOINTS: outcome.stamps_ns[JOINTS]} == outcome.stamps_ns
    ended.update(drop.stamp_ns for drop in sync.flush(Reason.END_OF_STREAM))
    assert ended == Counter(m.stamp_ns for m in recording if m.source == options.anchor)
    assert sync.buffered == 0


def first_arrival(recording: list[Message], stream: str | int, stamp_ns: int) -> float:
    """Number of the first message of a stream, a camera or a joint, at or after a stamp; infinite if none."""
    wanted = (m for m in recording if stream in (m.source, *m.positions) and m.stamp_ns >= stamp_ns)
    return min((m.number for m in wanted), default=np.inf)


def expected_frame(recording: list[Message], camera: str, options: SyncOptions, stamp_ns: int) -> Message | None:
    """The frame of a camera that sends in order which a set at a stamp takes without waiting for the next one."""
    frames = [m for m in recording if m.source == camera]
    for i, frame in enumerate(frames):
        steps = sorted(b.stamp_ns - a.stamp_ns for a, b in pairwise(frames[max(i - STEPS_LEARNED, 0) : i + 1]))
        learned_ns = steps[SHORT_STEPS - 1] if options.match == 'expected' and len(steps) == STEPS_LEARNED else 0
        declared_ns = options.camera_period_ns if options.match != 'soonest' else 0
        reach_ns = min((declared_ns or learned_ns) // 2, options.tolerance_ns)
        if 0 < stamp_ns - frame.stamp_ns <= reach_ns:
            return frame
    return None


def needed(recording: list[Message], options: SyncOptions, stamp_ns: int) -> float:
    """Number of the message with which everything is there that the set at a stamp has to wait for."""
    arrivals = [first_arrival(recording, options.anchor, stamp_ns)]
    late = [m.number for m in recording if m.source == options.anchor and m.stamp_ns >= stamp_ns + options.max_wait_ns]
    for stream in {*SPEC.cameras, *range(JOINT_COUNT)} - {options.anchor}:
        limit_ns = options.joint_max_age_ns if isinstance(stream, int) else options.tolerance_ns
        enough_ns = limit_ns if options.match == 'soonest' else 0
        arrivals.append(first_arrival(recording, stream, stamp_ns - enough_ns))
        if not isinstance(stream, int) and (frame := expected_frame(recording, stream, options, stamp_ns)):
            arrivals[-1] = min(arrivals[-1], frame.number)
    give_up = sorted(late)[1] if len(late) > 1 else np.inf
    return max(arrivals[0], min(max(arrivals), give_up))


@given(recording=recordings(wild=False, twice=False), options=sync_options(longest_ms=60_000))
@cases(200)
def test_streams_in_order_give_the_best_of_the_whole_recording(recording: list[Message], options: SyncOptions) -> None:
    """Nothing of the synchroniser's ways is assumed here: each answer is held against all that was ever sent.

    And it comes in the very call that brings the last message that it must wait for.
    """
    options = SyncOptions(**{**vars(options), 'horizon_ns': 60_000 * MS})
    sync = Synchroniser(SPEC, options)
    answers = [(message.number, outcome) for message in recording for outcome in push(sync, message)]
    last_number, last_ns = 0.0, 0
    for number, outcome in answers:
        stamp_ns = outcome.stamp_ns
        last_number = max(last_number, needed(recording, options, stamp_ns))
        assert (number, stamp_ns > last_ns) == (last_number, True)
        last_ns = stamp_ns
        # What had come; and, where the anchor has waited for all, nothing that comes later is better.
        whole = options.match != 'soonest'
        given_up = needed(recording[:number], SyncOptions(**{**vars(options), 'max_wait_ns': 50_000 * MS}), stamp_ns) > number
        known = recording if whole and not given_up else recording[:number]
        check_truth(outcome, known, options)


def check_truth(outcome: Outcome, known: list[Message], options: SyncOptions) -> None:
    """A set is the best of what is known, and a drop's reason is true."""
    stamp_ns = outcome.stamp_ns
    samples = [sorted((m.stamp_ns, m.positions[j]) for m in known if j in m.positions) for j in range(JOINT_COUNT)]
    skews = {
        camera: sorted((abs(m.stamp_ns - stamp_ns), m.stamp_ns, m.number) for m in known if m.source == camera)
        for camera in SPEC.cameras
    }
    if isinstance(outcome, Observation):
        for camera, number in verdict(outcome).used.items():
            expected = None if camera == options.anchor else expected_frame(known, camera, options, stamp_ns)
            assert number == (expected.number if expected else skews[camera][0][2])
            assert skews[camera][0][0] <= options.tolerance_ns
        for series, position in zip(samples, outcome.joint_positions):
            # Beyond the last sample NumPy holds it too.
            assert position == pytest.approx(np.interp(0, *zip(*((ns - stamp_ns, p) for ns, p in series))), rel=1e-9, abs=1e-9)
            assert series[0][0] <= stamp_ns and min(abs(stamp_ns - ns) for ns, _ in series) <= options.joint_max_age_ns
    elif outcome.reason is Reason.NO_MATCH:
        assert not skews[outcome.stream] or skews[outcome.stream][0][0] > options.tolerance_ns
    else:
        assert outcome.reason is Reason.NO_JOINTS
        gaps = [[stamp_ns - max((ns for ns, _ in s if ns <= stamp_ns), default=-np.inf)] for s in samples]
        for gap, series in zip(gaps, samples):
            gap += [ns - stamp_ns for ns, _ in series if ns >= stamp_ns][:1]
        silent = {name for name, gap in zip(SPEC.joint_names, gaps) if max(gap) > options.joint_max_age_ns and 0 not in gap}
        named = outcome.detail.rpartition(': ')[2]
        assert silent == set(SPEC.joint_names if named == 'every joint' else named.split(', '))


@given(
    recording=recordings(wild=False),
    options=sync_options(),
    match=st.sampled_from(('expected', 'expected', 'nearest')),
    seed=st.integers(0, 10**6),
)
@cases(300)
def test_which_topic_came_first_makes_no_difference(
    recording: list[Message], options: SyncOptions, match: str, seed: int
) -> None:
    """As long as no anchor gives up: each stream keeps its order, and the streams are merged in any way.

    What comes twice makes none either, but that an anchor's second frame is dropped before or after the set of the first.
    """
    minute = 60_000 * MS
    options = replace(options, match=match, max_wait_ns=minute, horizon_ns=minute)
    rng = random.Random(seed)
    streams = {(m.source, tuple(m.positions)): [] for m in recording}
    for message in recording:
        streams[message.source, tuple(message.positions)].append(message)
    order = rng.sample([key for key, stream in streams.items() for _ in stream], len(recording))
    merged = [streams[key].pop(0) for key in order]
    answers = []
    for messages in (recording, merged):
        sync = Synchroniser(SPEC, options)
        verdicts = [verdict(outcome) for message in messages for outcome in push(sync, message)]
        second = Counter(v.stamp_ns for v in verdicts if v.reason == 'bad_stamp')
        answers.append(([v for v in verdicts if v.reason != 'bad_stamp'], second))
    assert answers[0] == answers[1]


@given(recording=recordings(), options=sync_options(), seed=st.integers(0, 10**6))
@cases(50)
def test_the_pipeline_answers_real_messages_alike(recording: list[Message], options: SyncOptions, seed: int) -> None:
    """Images and joint states as ROS sends them, some of them unreadable, and every anchor in the counts."""
    rng = random.Random(seed)
    pipeline, oracle = Pipeline(SPEC, options), Oracle(SPEC.cameras, JOINT_COUNT, options)
    for message in recording:
        if message.source == JOINTS:
            named = {'wheel': 9.0, **{SPEC.joint_names[j]: position for j, position in message.positions.items()}}
            names = rng.sample(sorted(named), len(named))
            outcomes = pipeline.push(JOINTS, ros_messages.joint_state(message.stamp_ns, names, [named[n] for n in names]))
            expected = oracle.push(message)
        else:
            number = np.frombuffer(message.number.to_bytes(3, 'big'), np.uint8)
            readable = rng.random() < 0.9
            image = ros_messages.image(message.stamp_ns, np.tile(number, (8, 8, 1)), 'rgb8' if readable else '32FC3')
            outcomes = pipeline.push(message.source, image)
            kind = 'drop' if message.source == options.anchor else 'reject'
            unreadable = Verdict(kind, message.stamp_ns, 'undecodable', message.source)
            expected = oracle.push(message) if readable else [unreadable]
        assert [verdict(outcome) for outcome in outcomes] == expected
        counts = pipeline.counts
        assert counts.anchors == counts.sets + sum(counts.drops.values()) + pipeline.pending
