"""The synchroniser: every anchor accounted for, the nearest frames, the exact joints, and recovery by itself."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ros_messages import MS, T0

from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.pipeline.data import JOINTS, Drop, Frame, JointSample, Observation, Outcome, Reason, Reject
from fused_encoder_ros.pipeline.frames import MAX_FRAMES
from fused_encoder_ros.pipeline.options import SyncOptions
from fused_encoder_ros.pipeline.sync import Synchroniser
from fused_encoder_ros.spec import ObservationSpec

SPEC = ObservationSpec(image_size=8, joint_names=('a', 'b'))
LEFT, RIGHT, ANCHOR = SPEC.cameras
SOURCES = (LEFT, RIGHT, ANCHOR, JOINTS)


def frame(stamp_ns: int) -> Frame:
    return Frame(stamp_ns, np.zeros((8, 8, 3), np.uint8))


def joints(stamp_ns: int) -> JointSample:
    return JointSample(stamp_ns, np.array([stamp_ns / 1e9, -1.0]))


def push(sync: Synchroniser, source: str, ms: float, t0: int = T0) -> list[Outcome]:
    stamp_ns = t0 + int(ms * MS)
    return sync.push_joints(joints(stamp_ns)) if source == JOINTS else sync.push_frame(source, frame(stamp_ns))


def test_a_set_leaves_with_its_last_needed_message() -> None:
    sync = Synchroniser(SPEC, SyncOptions())
    for source, ms in ((JOINTS, 95), (LEFT, 98), (RIGHT, 103), (ANCHOR, 100), (JOINTS, 105)):
        assert push(sync, source, ms) == []
    (observation,) = push(sync, LEFT, 131)
    assert isinstance(observation, Observation)
    assert observation.stamp_ns == T0 + 100 * MS
    assert observation.skew_ns == {LEFT: -2 * MS, RIGHT: 3 * MS, ANCHOR: 0, JOINTS: 0}
    assert observation.images.shape == (8, 8, 9) and observation.joints.dtype == np.float32


def test_cameras_stack_in_the_order_of_the_spec() -> None:
    spec = ObservationSpec(image_size=8, joint_names=('a',), cameras=('global', 'left_wrist', 'right_wrist'))
    sync = Synchroniser(spec, SyncOptions())
    for value, camera in enumerate(('left_wrist', 'right_wrist', 'global'), 1):
        sync.push_frame(camera, Frame(T0, np.full((8, 8, 3), value, np.uint8)))
    (observation,) = sync.push_joints(JointSample(T0, np.array([1.0])))
    assert isinstance(observation, Observation)
    assert observation.images[0, 0].tolist() == [3, 3, 3, 1, 1, 1, 2, 2, 2]


def test_joints_are_standardised_as_in_training() -> None:
    spec = ObservationSpec(image_size=8, joint_names=('a', 'b'), joint_mean=(1.0, -2.0), joint_std=(0.5, 0.0))
    sync = Synchroniser(spec, SyncOptions())
    for camera in spec.cameras:
        sync.push_frame(camera, frame(T0))
    (observation,) = sync.push_joints(JointSample(T0, np.array([2.0, -2.000001])))
    assert isinstance(observation, Observation)
    np.testing.assert_allclose(observation.joints, [1.0 / (0.5 + 1e-6), -1.0], rtol=1e-6)
    np.testing.assert_array_equal(observation.joint_positions, [2.0, -2.000001])


def test_declared_period_saves_the_wait() -> None:
    sync = Synchroniser(SPEC, SyncOptions(camera_period_ns=33 * MS))
    for source, ms in ((LEFT, 90), (RIGHT, 84), (JOINTS, 100), (ANCHOR, 100)):
        outcomes = push(sync, source, ms)
    assert isinstance(outcomes[0], Observation)
    assert outcomes[0].skew_ns[LEFT] == -10 * MS


def test_a_joint_near_on_one_side_only_is_not_told_as_absent() -> None:
    """Nor is an earlier frame that was dropped told as a set."""
    sync = Synchroniser(SPEC, SyncOptions(joint_max_age_ns=20 * MS))
    for source, ms in ((JOINTS, 98), (LEFT, 100), (RIGHT, 100), (ANCHOR, 100)):
        assert push(sync, source, ms) == []
    (drop,) = push(sync, JOINTS, 125)
    assert isinstance(drop, Drop) and drop.reason is Reason.NO_JOINTS
    assert drop.detail.startswith('no joint positions within 20 ms before and after the anchor')
    (late,) = push(sync, ANCHOR, 90)
    assert isinstance(late, Drop) and late.reason is Reason.BAD_STAMP and 'earlier set' not in late.detail


def test_soonest_takes_the_nearest_so_far_whatever_period_is_declared() -> None:
    sync = Synchroniser(SPEC, SyncOptions(match='soonest', camera_period_ns=33 * MS))
    for source, ms in ((LEFT, 90), (LEFT, 105), (RIGHT, 100), (JOINTS, 100), (ANCHOR, 100)):
        outcomes = push(sync, source, ms)
    assert isinstance(outcomes[0], Observation)
    assert outcomes[0].skew_ns[LEFT] == 5 * MS


STEADY_MS = list(range(0, 17 * 33, 33))


def chosen_ms(left_ms: list[float], anchor_ms: float, **options: object) -> tuple[float | None, float]:
    """The left frame in the set of one anchor: its skew, and the same when every frame has come before the anchor.

    None where the set waits for a frame that has not come.
    """
    answers: list[float | None] = []
    for comes_last in (False, True):
        sync = Synchroniser(SPEC, SyncOptions(**{'match': 'expected', 'tolerance_ns': 30 * MS, **options}))
        early = [ms for ms in left_ms if ms <= anchor_ms or comes_last]
        outcomes: list[Outcome] = []
        for source, ms in (*((LEFT, ms) for ms in early), (RIGHT, anchor_ms), (JOINTS, anchor_ms), (ANCHOR, anchor_ms)):
            outcomes += push(sync, source, ms)
        skews = [outcome.skew_ns[LEFT] / MS for outcome in outcomes if isinstance(outcome, Observation)]
        answers.append(skews[0] if skews else None)
    assert answers[1] is not None
    return answers[0], answers[1]


def test_a_frame_that_is_expected_to_be_nearest_is_taken_at_once() -> None:
    """And it is taken also when the next one has come, so that a bag gives what the robot gave."""
    frames = [*STEADY_MS, 561, 594]
    assert chosen_ms(frames, 528 + 16) == (-16, -16)
    assert chosen_ms(frames, 528 + 17) == (None, 16)  # the next one may be nearer
    assert chosen_ms(frames, 528 + 16, match='nearest') == (None, -16)
    early = [*STEADY_MS, 540, 573]  # 12 ms after the last one, against all expectation
    assert chosen_ms(early, 528 + 10) == (-10, -10)


def test_what_is_expected_of_a_camera_that_has_just_begun() -> None:
    """It has to have sent seventeen frames; until then nothing is expected, and the next frame is waited for."""
    assert chosen_ms([*STEADY_MS[1:], 561], 528 + 10) == (None, -10)
    assert chosen_ms([*STEADY_MS, 561], 528 + 10) == (-10, -10)


def test_what_is_expected_when_frames_are_lost() -> None:
    """Long steps count for nothing as long as three of sixteen are short."""
    every_second = [*range(0, 33 * 27, 66), *range(891, 891 + 4 * 33, 33)]
    assert len(every_second) == 18 and chosen_ms([*every_second, 1023], 990 + 16) == (-16, -16)
    assert chosen_ms([*STEADY_MS, 528 + 66], 528 + 20) == (None, -20)  # the lost one might have been nearer


def test_what_is_expected_when_the_rate_changes() -> None:
    """Slower, it is still waited for as before; faster, three short steps are enough to know."""
    slower = [*STEADY_MS, *range(528 + 66, 528 + 5 * 66, 66)]
    assert chosen_ms([*slower, 858], 792 + 20) == (None, -20)
    faster = [*STEADY_MS, 544, 560, 576, 592]
    assert chosen_ms(faster, 560 + 10) == (-10, -10)  # two short steps: a frame 6 ms off is not yet expected
    assert chosen_ms(faster, 576 + 10) == (None, 6)


def test_what_is_expected_is_never_beyond_the_tolerance() -> None:
    """After a rate that doubled, the earlier frame would be no match, and the next one is."""
    assert chosen_ms([*STEADY_MS, 544], 528 + 12, tolerance_ns=11 * MS) == (None, 4)


def test_what_is_expected_after_a_jump_of_the_clock() -> None:
    """What was learned is forgotten with the frames."""
    again = [*(ms + 5000 for ms in STEADY_MS), *STEADY_MS[:10]]
    sync = Synchroniser(SPEC, SyncOptions(match='expected', tolerance_ns=30 * MS))
    for ms in again:
        push(sync, LEFT, ms)
    for source in (RIGHT, JOINTS, ANCHOR):
        assert push(sync, source, 297 + 10) == []
    assert isinstance(push(sync, LEFT, 330)[0], Observation)


def test_soonest_takes_what_has_come() -> None:
    """The frames here are within the tolerance, and the joints may be held: nothing is waited for."""
    sync = Synchroniser(SPEC, SyncOptions(match='soonest', tolerance_ns=20 * MS))
    for source, ms in ((LEFT, 85), (RIGHT, 70), (RIGHT, 102), (JOINTS, 95)):
        assert push(sync, source, ms) == []
    (observation,) = push(sync, ANCHOR, 100)
    assert isinstance(observation, Observation)
    assert observation.skew_ns == {LEFT: -15 * MS, RIGHT: 2 * MS, ANCHOR: 0, JOINTS: -5 * MS}
    assert observation.joint_positions[0] == (T0 + 95 * MS) / 1e9


def test_soonest_waits_for_what_is_missing() -> None:
    sync = Synchroniser(SPEC, SyncOptions(match='soonest', tolerance_ns=20 * MS))
    for source, ms in ((LEFT, 79), (RIGHT, 100), (JOINTS, 90), (JOINTS, 110), (ANCHOR, 100)):
        assert push(sync, source, ms) == []
    (observation,) = push(sync, LEFT, 112)
    assert isinstance(observation, Observation) and observation.skew_ns[LEFT] == 12 * MS
    assert push(sync, ANCHOR, 133) == [] and push(sync, LEFT, 160) == []
    (drop,) = push(sync, RIGHT, 134)
    assert isinstance(drop, Drop) and drop.key == 'no_match:left_wrist'


def test_zero_stamps_are_named() -> None:
    sync = Synchroniser(SPEC, SyncOptions())
    (drop,) = sync.push_frame(ANCHOR, frame(0))
    assert isinstance(drop, Drop) and drop.reason is Reason.BAD_STAMP and 'header.stamp' in drop.detail
    (reject,) = sync.push_frame(LEFT, frame(0))
    assert isinstance(reject, Reject) and reject.reason is Reason.BAD_STAMP


def test_a_camera_that_dies_is_the_named_cause() -> None:
    sync = Synchroniser(SPEC, SyncOptions())
    outcomes: list[Outcome] = []
    for ms in range(0, 1000, 33):
        for source in (LEFT, ANCHOR, JOINTS):
            outcomes += push(sync, source, ms)
    assert {o.key for o in outcomes if isinstance(o, Drop)} == {'no_match:right_wrist'}
    assert sync.pending <= 8


def test_joints_that_stop_are_held_then_dropped() -> None:
    sync = Synchroniser(SPEC, SyncOptions(joint_max_age_ns=100 * MS, max_wait_ns=200 * MS))
    outcomes: list[Outcome] = []
    for ms in range(0, 1500, 20):
        if ms <= 500:
            outcomes += push(sync, JOINTS, ms)
        for camera in SPEC.cameras:
            outcomes += push(sync, camera, ms)
    sets = [o for o in outcomes if isinstance(o, Observation)]
    assert max(o.stamp_ns for o in sets) == T0 + 600 * MS
    assert min(o.skew_ns[JOINTS] for o in sets) == -100 * MS
    drops = [o for o in outcomes if isinstance(o, Drop)]
    assert drops and {o.reason for o in drops} == {Reason.NO_JOINTS}


def stream(sync: Synchroniser, start_ms: int, count: int, t0: int = T0) -> list[Outcome]:
    """Cameras at 50 Hz with small phases and joints at 100 Hz, in order."""
    outcomes: list[Outcome] = []
    for number in range(count):
        ms = start_ms + 20 * number
        for source, offset in ((JOINTS, 0), (LEFT, 1), (RIGHT, 2), (ANCHOR, 3), (JOINTS, 10)):
            outcomes += push(sync, source, ms + offset, t0)
    return outcomes


def test_a_looped_bag_goes_on() -> None:
    sync = Synchroniser(SPEC, SyncOptions())
    first = stream(sync, 0, 100)
    second = stream(sync, 0, 100)
    assert sum(isinstance(o, Observation) for o in first) >= 98
    assert sum(isinstance(o, Observation) for o in second) >= 98
    stamps = [o.stamp_ns for o in second if isinstance(o, Observation)]
    assert stamps == sorted(stamps)


@pytest.mark.parametrize('first', SPEC.cameras)
def test_stragglers_of_the_old_time_do_no_harm_after_a_loop(first: str) -> None:
    """Whichever camera's first message of the new time comes first, the others' last of the old time are let go."""
    sync = Synchroniser(SPEC, SyncOptions(match='nearest'))
    stream(sync, 0, 150)
    push(sync, ANCHOR, 3012)
    outcomes = push(sync, first, 4)
    if first != ANCHOR:
        push(sync, ANCHOR, 3)
    outcomes += [o for source in SOURCES if source not in (first, ANCHOR) for o in push(sync, source, 3020)]
    if first == ANCHOR:
        drops = [(o.stamp_ns, o.reason) for o in outcomes if isinstance(o, Drop)]
        assert drops == [(T0 + ms * MS, Reason.CLOCK_JUMP) for ms in (2983, 3012)]
    rejects = [o for o in outcomes if isinstance(o, Reject)]
    assert {(o.stream, o.reason) for o in rejects} == {(s, Reason.CLOCK_JUMP) for s in SOURCES if s not in (first, ANCHOR)}
    assert 'ahead of the anchor' in rejects[0].detail
    assert sum(isinstance(o, Observation) for o in stream(sync, 20, 50)) >= 48


def test_joint_publishers_on_different_clocks_are_named() -> None:
    """One of two is two seconds behind: its joints have no position at any anchor, the rest is untouched."""
    sync = Synchroniser(SPEC, SyncOptions())
    outcomes: list[Outcome] = []
    for number in range(300):
        stamp_ns = T0 + 20 * number * MS
        for camera in SPEC.cameras:
            outcomes += sync.push_frame(camera, frame(stamp_ns))
        outcomes += sync.push_joints(JointSample(stamp_ns, np.array([1.0, np.nan])))
        outcomes += sync.push_joints(JointSample(stamp_ns - 2000 * MS, np.array([np.nan, 2.0])))
    drops = [o for o in outcomes if isinstance(o, Drop)]
    assert len(drops) == len(outcomes) >= 280
    assert {o.reason for o in drops} == {Reason.NO_JOINTS} and drops[-1].detail.endswith('missing: b')


@pytest.mark.parametrize('hours', [1, -1])
@pytest.mark.parametrize('source', SOURCES)
def test_one_wild_stamp_costs_little(source: str, hours: int) -> None:
    """A single message stamped an hour ahead or behind."""
    sync = Synchroniser(SPEC, SyncOptions())
    outcomes = stream(sync, 0, 100) + push(sync, source, hours * 3_600_000) + stream(sync, 2000, 100)
    assert sum(isinstance(o, Observation) for o in outcomes) >= 195


@pytest.mark.parametrize('step_ms', [1050, 1200, 1500, 1900, 2500, 10_000])
@pytest.mark.parametrize('joint_period_ms', [2, 10, 50])
@pytest.mark.parametrize('delays_ms', [(0, 20, 40, 0), (40, 20, 0, 30), (0, 40, 0, 5), (30, 0, 30, 60)])
def test_no_set_pairs_two_times_when_the_clock_is_set_back(
    step_ms: int, joint_period_ms: int, delays_ms: tuple[int, ...]
) -> None:
    """Pixels and positions hold the true time, which goes on while the stamps jump back by little more than a horizon."""
    periods = (33, 33, 33, joint_period_ms)
    events = sorted(
        (true_ms + delay, source, true_ms)
        for source, period, delay, phase in zip(SOURCES, periods, delays_ms, (3, 11, 7, 0))
        for true_ms in range(20_000 + phase, 25_000, period)
    )
    sync = Synchroniser(SPEC, SyncOptions())
    outcomes: list[Outcome] = []
    for _, source, true_ms in events:
        stamp_ns = T0 + (true_ms - (step_ms if true_ms >= 22_500 else 0)) * MS
        if source == JOINTS:
            outcomes += sync.push_joints(JointSample(stamp_ns, np.array([true_ms, 0.0])))
        else:
            pixels = np.zeros((8, 8, 3), np.uint8)
            pixels[0, 0] = divmod(true_ms, 256)[0] // 256, divmod(true_ms, 256)[0] % 256, true_ms % 256
            outcomes += sync.push_frame(source, Frame(stamp_ns, pixels))
    sets = [o for o in outcomes if isinstance(o, Observation)]
    for observation in sets:
        high, middle, low = (observation.images[0, 0, i::3].astype(int) for i in range(3))
        true_times = [*(high * 65536 + middle * 256 + low), observation.joint_positions[0]]
        assert max(true_times) - min(true_times) <= 50, true_times
    assert len(sets) >= 135  # of 151


def test_an_anchor_stamp_ahead_of_its_time_takes_no_other_along() -> None:
    sync = Synchroniser(SPEC, SyncOptions(match='nearest'))
    stream(sync, 0, 20)
    before = push(sync, ANCHOR, 395) + push(sync, ANCHOR, 3_600_000)
    after = push(sync, ANCHOR, 423)
    ended = [(o.stamp_ns - T0, o.reason) for o in before + after if isinstance(o, Drop)]
    assert ended == [(3_600_000 * MS, Reason.CLOCK_JUMP)]
    (again,) = push(sync, ANCHOR, 3)  # a duplicate of a frame that has had its set
    assert isinstance(again, Drop) and again.reason is Reason.BAD_STAMP
    stamps = [o.stamp_ns - T0 for o in stream(sync, 440, 20) if isinstance(o, Observation)]
    assert stamps == [ms * MS for ms in (383, 395, 423, *range(443, 823, 20))]


def test_a_long_silence_of_everything_takes_no_set_away() -> None:
    """The frames that an anchor waits to be sure of are kept however much later the next ones come."""
    sync = Synchroniser(SPEC, SyncOptions())
    for source, ms in ((LEFT, 98), (RIGHT, 99), (JOINTS, 90), (ANCHOR, 100), (JOINTS, 110), (LEFT, 9000)):
        assert push(sync, source, ms) == []
    (observation,) = push(sync, RIGHT, 9001)
    assert isinstance(observation, Observation) and observation.skew_ns[LEFT] == -2 * MS


def test_the_joints_of_a_publisher_that_stops_are_named() -> None:
    """Two arms and the grippers, each with its own publisher and rate; the grippers' stops after a second."""
    names = ('left_joint', 'left_gripper', 'right_joint', 'right_gripper')
    sync = Synchroniser(ObservationSpec(image_size=8, joint_names=names), SyncOptions())
    outcomes: list[Outcome] = []
    for ms in range(2000):
        for joints, period_ms in (((0,), 2), ((2,), 5), ((1, 3), 20)):
            if ms % period_ms == 0 and (ms < 1000 or 1 not in joints):
                positions = np.array([ms if joint in joints else np.nan for joint in range(4)])
                outcomes += sync.push_joints(JointSample(T0 + ms * MS, positions))
        if ms % 33 == 7:
            for camera in SPEC.cameras:
                outcomes += sync.push_frame(camera, frame(T0 + ms * MS))
    sets = [o for o in outcomes if isinstance(o, Observation)]
    drops = [o for o in outcomes if isinstance(o, Drop)]
    assert len(sets) >= 32 and len(drops) >= 20
    for observation in sets:
        at_ms = (observation.stamp_ns - T0) / MS
        expected = [at_ms, min(at_ms, 980.0), at_ms, min(at_ms, 980.0)]
        np.testing.assert_allclose(observation.joint_positions, expected, atol=1e-9)
    assert {drop.detail.rpartition(': ')[2] for drop in drops} == {'left_gripper, right_gripper'}


def test_one_stream_that_jumps_for_good_is_not_waited_for_silently() -> None:
    """A camera whose clock was set back by a minute: its frames match nothing, and the drops name it."""
    sync = Synchroniser(SPEC, SyncOptions())
    stream(sync, 0, 100)
    outcomes: list[Outcome] = []
    for number in range(200):
        ms = 2000 + 20 * number
        for source, offset in ((JOINTS, 0), (LEFT, 1 - 60_000), (RIGHT, 2), (ANCHOR, 3), (JOINTS, 10)):
            outcomes += push(sync, source, ms + offset)
    late = [o for o in outcomes if isinstance(o, Drop)][-20:]
    assert {drop.key for drop in late} == {'no_match:left_wrist'}


def test_a_clock_set_forth_and_back() -> None:
    sync = Synchroniser(SPEC, SyncOptions())
    for jump in (0, 3_600_000, 0):
        outcomes = stream(sync, jump, 100)
        assert sum(isinstance(o, Observation) for o in outcomes) >= 97


def test_duplicates_and_late_anchors_are_dropped_once() -> None:
    sync = Synchroniser(SPEC, SyncOptions())
    stream(sync, 0, 20)
    again = push(sync, ANCHOR, 3 + 20 * 5)
    assert [o.reason for o in again if isinstance(o, Drop)] == [Reason.BAD_STAMP]
    assert push(sync, ANCHOR, 500) == []
    assert [o.reason for o in push(sync, ANCHOR, 500) if isinstance(o, Drop)] == [Reason.BAD_STAMP]


def test_reset_drops_what_waits() -> None:
    sync = Synchroniser(SPEC, SyncOptions())
    push(sync, ANCHOR, 0)
    (drop,) = sync.flush(Reason.CLOCK_JUMP)
    assert isinstance(drop, Drop) and sync.pending == 0 and sync.buffered == 0


def test_options_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ConfigError, match='horizon_s'):
        SyncOptions(horizon_ns=50 * MS)
    with pytest.raises(ConfigError, match="anchor: 'wrist'"):
        Synchroniser(SPEC, SyncOptions(anchor='wrist'))


def test_memory_is_bounded_when_nothing_matches() -> None:
    sync = Synchroniser(SPEC, SyncOptions(horizon_ns=60_000 * MS, max_wait_ns=60_000 * MS))
    for number in range(3000):
        push(sync, ANCHOR, number)
        push(sync, LEFT, number)
    assert sync.pending <= MAX_FRAMES and sync.buffered <= 2 * MAX_FRAMES


EVENTS = st.lists(
    st.tuples(st.sampled_from(SOURCES), st.integers(-3, 3000), st.sampled_from([0, 0, 0, 0, 5000, -4000])), max_size=150
)


@given(EVENTS)
@settings(max_examples=300, deadline=None)
def test_every_anchor_ends_once_and_sets_leave_in_order(events: list[tuple[str, int, int]]) -> None:
    """Any messages at all: reordered, duplicated, stamped zero, jumping."""
    sync = Synchroniser(SPEC, SyncOptions())
    arrived: Counter[int] = Counter()
    ended: Counter[int] = Counter()
    last = -1
    for source, ms, jump in events:
        stamp_ns = max((ms + jump) * MS, 0)
        if source == ANCHOR:
            arrived[stamp_ns] += 1
        outcomes = sync.push_joints(joints(stamp_ns)) if source == JOINTS else sync.push_frame(source, frame(stamp_ns))
        for outcome in outcomes:
            if isinstance(outcome, Drop) and outcome.reason is Reason.CLOCK_JUMP:
                last = -1
            if isinstance(outcome, Observation):
                assert outcome.stamp_ns > last or stamp_ns < last - SyncOptions().horizon_ns
                last = outcome.stamp_ns
            if not isinstance(outcome, Reject):
                ended[outcome.stamp_ns] += 1
    for drop in sync.flush(Reason.END_OF_STREAM):
        ended[drop.stamp_ns] += 1
    assert ended == arrived


@given(
    periods=st.tuples(*(st.integers(15, 60) for _ in SPEC.cameras)),
    phases=st.tuples(*(st.integers(0, 40) for _ in SPEC.cameras)),
    joint_period=st.integers(2, 30),
    delays=st.tuples(*(st.integers(0, 60) for _ in SOURCES)),
    lost=st.sets(st.integers(0, 200), max_size=30),
)
@settings(max_examples=150, deadline=None)
def test_in_order_streams_give_the_nearest_frames_and_exact_joints(
    periods: tuple[int, ...], phases: tuple[int, ...], joint_period: int, delays: tuple[int, ...], lost: set[int]
) -> None:
    """Against a look at the whole recording at once: any rates, phases, transport delays and losses."""
    recording: dict[str, list[int]] = {
        camera: [ms for n, ms in enumerate(range(phase, 1500, period)) if n + 50 * i not in lost]
        for i, (camera, period, phase) in enumerate(zip(SPEC.cameras, periods, phases))
    }
    recording[JOINTS] = list(range(0, 1500, joint_period))
    events = sorted((ms + delay, source, ms) for source, delay in zip(SOURCES, delays) for ms in recording[source])
    options = SyncOptions(tolerance_ns=25 * MS, max_wait_ns=400 * MS)
    sync = Synchroniser(SPEC, options)
    outcomes = [outcome for _, source, ms in events for outcome in push(sync, source, ms)]
    outcomes += sync.flush(Reason.END_OF_STREAM)
    assert [o.stamp_ns for o in outcomes] == [T0 + ms * MS for ms in recording[ANCHOR]]
    for outcome in outcomes:
        at = (outcome.stamp_ns - T0) // MS
        best = {c: min((abs(ms - at) for ms in recording[c]), default=9999) for c in (LEFT, RIGHT)}
        if isinstance(outcome, Observation):
            assert {c: abs(outcome.skew_ns[c]) // MS for c in (LEFT, RIGHT)} == best
            if outcome.skew_ns[JOINTS] == 0:
                assert outcome.joint_positions[0] == pytest.approx(outcome.stamp_ns / 1e9, abs=1e-6)
        elif isinstance(outcome, Drop) and outcome.reason is Reason.NO_MATCH:
            assert best[outcome.stream] > 25
        else:
            assert isinstance(outcome, Drop) and outcome.reason is Reason.END_OF_STREAM
            assert at > min(recording[source][-1] if recording[source] else -1 for source in (LEFT, RIGHT, JOINTS))
