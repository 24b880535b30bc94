"""Joints: by name, whoever sends them, interpolated exactly."""

from __future__ import annotations

import numpy as np
import pytest
import ros_messages
from hypothesis import given
from hypothesis import strategies as st
from ros_messages import MS

from fused_encoder_ros.errors import DecodeError
from fused_encoder_ros.pipeline.joints import JointBuffer, JointReader
from fused_encoder_ros.pipeline.options import SyncOptions
from fused_encoder_ros.pipeline.pipeline import Pipeline
from fused_encoder_ros.spec import ObservationSpec

NAMES = ('a', 'b', 'c')
SECOND = 1000 * MS


def test_order_and_extra_names_do_not_matter() -> None:
    reader = JointReader(NAMES)
    sample = reader.read(ros_messages.joint_state(5, ['wheel', 'c', 'a', 'b'], [9.0, 3.0, 1.0, 2.0]))
    np.testing.assert_array_equal(sample.positions, [1.0, 2.0, 3.0])
    assert sample.stamp_ns == 5


def test_a_change_of_order_between_messages_is_seen() -> None:
    reader = JointReader(NAMES)
    for names in (['a', 'b', 'c'], ['c', 'b', 'a'], ['b', 'c', 'a']):
        values = [float(NAMES.index(name)) for name in names]
        np.testing.assert_array_equal(reader.read(ros_messages.joint_state(1, names, values)).positions, [0.0, 1.0, 2.0])


@pytest.mark.parametrize('position', [np.nan, np.inf, -np.inf, 1.1e9, -1e300])
def test_missing_and_unusable_joints_are_nan(position: float) -> None:
    reader = JointReader(NAMES)
    message = ros_messages.joint_state(1, ['a', 'c', 'wheel'], [1.0, position, position])
    np.testing.assert_array_equal(reader.read(message).positions, [1.0, np.nan, np.nan])
    assert reader.unusable(message) == ['c']


def test_large_positions_that_a_joint_can_have_are_taken() -> None:
    """Also where their sum is beyond what one may have."""
    reader = JointReader(NAMES)
    message = ros_messages.joint_state(1, NAMES, [9e8, 9e8, -9e8])
    np.testing.assert_array_equal(reader.read(message).positions, [9e8, 9e8, -9e8])
    assert reader.unusable(message) == []


@pytest.mark.parametrize(
    ('names', 'positions', 'says'),
    [
        (['a', 'b', 'c'], [1.0, 2.0], '3 names but 2 positions'),
        (['a', 'b', 'c'], [], '3 names but 0 positions'),
        (['a', 'b', 'a'], [1.0, 2.0, 3.0], "'a' is named twice"),
    ],
)
def test_malformed_messages_are_refused(names: list[str], positions: list[float], says: str) -> None:
    with pytest.raises(DecodeError, match=says):
        JointReader(NAMES).read(ros_messages.joint_state(1, names, positions))


def test_joints_of_another_machine_are_no_fault() -> None:
    reader = JointReader(NAMES)
    assert np.isnan(reader.read(ros_messages.joint_state(1, ['wheel_left', 'wheel_right'], [1.0, 2.0])).positions).all()
    assert reader.unknown == ['wheel_left', 'wheel_right']


def buffer(max_age_ns: int = SECOND) -> JointBuffer:
    return JointBuffer(NAMES, horizon_ns=10 * SECOND, max_age_ns=max_age_ns, limit=1000)


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=40, unique=True), st.data())
def test_interpolation_is_exact_in_any_order_of_arrival(stamps_ms: list[int], data: st.DataObject) -> None:
    at_ms = data.draw(st.integers(min(stamps_ms), max(stamps_ms)))
    arrival = data.draw(st.permutations(stamps_ms))
    reader, joints = JointReader(NAMES), buffer()
    for stamp in arrival:
        joints.add(reader.read(ros_messages.joint_state(stamp * MS, NAMES, [stamp, -stamp, np.sin(stamp)])))
    answer = joints.at(at_ms * MS)
    assert not isinstance(answer, list)
    stamps = sorted(stamps_ms)
    expected = [np.interp(at_ms, stamps, [f(s) for s in stamps]) for f in (float, lambda s: -float(s), np.sin)]
    np.testing.assert_allclose(answer[0], expected, rtol=1e-12, atol=1e-9)
    assert answer[1] == at_ms * MS


def test_last_sample_is_held_only_up_to_its_age() -> None:
    reader, joints = JointReader(NAMES), buffer(max_age_ns=100 * MS)
    joints.add(reader.read(ros_messages.joint_state(SECOND, NAMES, [1, 2, 3])))
    held = joints.at(SECOND + 100 * MS)
    assert not isinstance(held, list) and held[1] == SECOND
    assert joints.at(SECOND + 101 * MS) == list(NAMES)


def test_no_interpolation_across_a_gap() -> None:
    """Two samples half a second apart say nothing about the middle when a tenth is the limit."""
    reader, joints = JointReader(NAMES), buffer(max_age_ns=100 * MS)
    for stamp in (0, 500):
        joints.add(reader.read(ros_messages.joint_state(SECOND + stamp * MS, NAMES, [1, 2, 3])))
    assert joints.at(SECOND + 250 * MS) == list(NAMES)
    assert joints.at(SECOND + 50 * MS) == list(NAMES)


def test_publishers_may_each_bring_some_joints() -> None:
    reader, joints = JointReader(NAMES), buffer(max_age_ns=50 * MS)
    for stamp in range(0, 100, 10):
        joints.add(reader.read(ros_messages.joint_state(SECOND + stamp * MS, ['a', 'b'], [stamp, 2 * stamp])))
    for stamp in range(5, 100, 30):
        joints.add(reader.read(ros_messages.joint_state(SECOND + stamp * MS, ['c'], [3 * stamp])))
    answer = joints.at(SECOND + 52 * MS)
    assert not isinstance(answer, list)
    np.testing.assert_allclose(answer[0], [52, 104, 156])
    assert joints.is_settled(SECOND + 90 * MS) and not joints.is_settled(SECOND + 96 * MS)


def test_a_silent_joint_is_named() -> None:
    reader, joints = JointReader(NAMES), buffer()
    joints.add(reader.read(ros_messages.joint_state(SECOND, ['a', 'c'], [1, 3])))
    assert joints.at(SECOND) == ['b']


def test_a_publisher_whose_clock_jumps_back_begins_again() -> None:
    reader, joints = JointReader(NAMES), buffer()
    joints.add(reader.read(ros_messages.joint_state(100 * SECOND, NAMES, [1, 2, 3])))
    joints.add(reader.read(ros_messages.joint_state(SECOND, ['b'], [7])))
    assert joints.at(SECOND) == ['a', 'c']
    assert joints.at(100 * SECOND) == ['b']


def test_memory_is_bounded() -> None:
    reader = JointReader(NAMES)
    joints = JointBuffer(NAMES, horizon_ns=SECOND, max_age_ns=SECOND, limit=500)
    for stamp in range(20_000):
        joints.add(reader.read(ros_messages.joint_state(SECOND + stamp * MS // 10, NAMES, [1, 2, 3])))
    assert len(joints) <= 3 * 500


def test_a_message_with_two_faults_is_one_reject() -> None:
    pipeline = Pipeline(ObservationSpec(image_size=8, joint_names=NAMES), SyncOptions())
    (reject,) = pipeline.push('joint_states', ros_messages.joint_state(0, NAMES, [1.0, np.nan, 2.0]))
    assert reject.stamp_ns == 0 and pipeline.counts.rejects == {'joint_states: bad_stamp': 1}
