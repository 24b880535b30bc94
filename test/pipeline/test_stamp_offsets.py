"""stamp_offset_ms: stamps that are off by a constant, and corrected, give what right stamps give."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import ros_messages
from ros_messages import MS, T0

from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.pipeline.data import JOINTS, Drop, Observation, Outcome, Reason
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.synthetic import Rig

LEFT, RIGHT, ANCHOR = 'left_wrist', 'right_wrist', 'global'


def outcomes(
    error_ms: Mapping[str, float], stated_ms: Mapping[str, float], start_ns: int = T0, **values: object
) -> list[Outcome]:
    """What becomes of two seconds of a robot that loses frames, with these errors in its stamps and these parameters."""
    offsets = {f'stamp_offset_ms.{source}': ms for source, ms in stated_ms.items()}
    pipeline = Settings.from_values({'image_size': 8, **offsets, **values}).pipeline()
    rig = Rig(width=64, height=48, jitter_ms=3.0, stamp_error_ms=error_ms)
    made: list[Outcome] = []
    for event in rig.events(2.0):
        if event.source == LEFT and 20 <= event.number < 30:
            continue
        stamp_ns = start_ns + rig.header_stamp_ns(event)
        if event.source == JOINTS:
            message = ros_messages.joint_state(stamp_ns, rig.message_joint_names, rig.message_positions(event.stamp_ns))
        else:
            message = ros_messages.image(stamp_ns, rig.image(event.source, event.stamp_ns, event.number))
        made += pipeline.push(event.source, message)
    return [*made, *pipeline.finish()]


def told(outcome: Outcome, error_ms: Mapping[str, float]) -> tuple[object, ...]:
    """An outcome, its stamps without the errors."""
    error_ns = {source: round(ms * MS) for source, ms in error_ms.items()}
    stamp_ns = outcome.stamp_ns - error_ns.get(ANCHOR, 0)
    if not isinstance(outcome, Observation):
        return stamp_ns, outcome.stream, outcome.reason
    stamps = {source: ns - error_ns.get(source, 0) for source, ns in outcome.stamps_ns.items()}
    return stamp_ns, stamps, outcome.skew_ns, outcome.images.tobytes(), outcome.joint_positions.tobytes()


@pytest.mark.parametrize('match', ['expected', 'nearest', 'soonest'])
@pytest.mark.parametrize(
    'error_ms',
    [{LEFT: 45.0}, {LEFT: -120.0, RIGHT: 77.5}, {ANCHOR: 60.0}, {JOINTS: -33.3}, {LEFT: 15.0, ANCHOR: -90.0, JOINTS: 200.0}],
)
def test_corrected_stamps_give_the_sets_of_right_ones(error_ms: dict[str, float], match: str) -> None:
    right = [told(outcome, {}) for outcome in outcomes({}, {}, match=match)]
    assert 30 < len([one for one in right if len(one) == 5]) < 60 and Reason.NO_MATCH in {
        one[2] for one in right if len(one) == 3
    }
    corrected = outcomes(error_ms, {source: -ms for source, ms in error_ms.items()}, match=match)
    assert [told(outcome, error_ms) for outcome in corrected] == right


def test_a_set_names_messages_by_their_headers() -> None:
    """So that a recording's message, and what others publish under the same stamp, is found by it."""
    sets = [one for one in outcomes({}, {ANCHOR: -30.0, LEFT: 10.0}) if isinstance(one, Observation)]
    rig = Rig(width=64, height=48, jitter_ms=3.0)
    sent = {event.source: set[int]() for event in rig.events(0.1)}
    for event in rig.events(2.0):
        sent[event.source].add(T0 + event.stamp_ns)
    assert len(sets) > 30
    for one in sets:
        assert one.stamp_ns == one.stamps_ns[ANCHOR] in sent[ANCHOR]
        assert one.stamps_ns[LEFT] in sent[LEFT] and one.stamps_ns[JOINTS] == one.time_ns == one.stamp_ns - 30 * MS
        assert one.skew_ns[LEFT] == one.stamps_ns[LEFT] - one.stamp_ns + 40 * MS
        curve = rig.joint_positions(one.time_ns - T0)
        np.testing.assert_allclose(one.joint_positions, curve, atol=1e-2)


def test_a_clock_that_begins_at_zero() -> None:
    """Of a simulation: stamps that become negative are used as others are, those that are not set are refused."""
    made = outcomes({}, dict.fromkeys((LEFT, RIGHT, ANCHOR, JOINTS), -100.0), start_ns=1)
    right = outcomes({}, {}, start_ns=1)
    assert [told(one, {}) for one in made] == [told(one, {}) for one in right]
    pipeline = Settings.from_values({'stamp_offset_ms.global': 50.0}).pipeline()
    (drop,) = pipeline.push(ANCHOR, ros_messages.image(0))
    assert isinstance(drop, Drop) and drop.reason is Reason.BAD_STAMP and drop.stamp_ns == 0


def test_an_anchor_waits_for_what_the_offset_makes_late() -> None:
    """max_wait_ms counts from when the data can be there, so that it need not be raised with the offset."""
    sets = [one for one in outcomes({LEFT: 300.0}, {LEFT: -300.0}, max_wait_ms=100.0) if isinstance(one, Observation)]
    assert len(sets) > 25


def test_what_would_not_be_kept_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r'horizon_s: with these stamp_offset_ms, data come 950 ms before .*; it must be at least 1\.05'
    ):
        Settings.from_values({'stamp_offset_ms.left_wrist': 950.0})
    Settings.from_values({'stamp_offset_ms.left_wrist': 950.0, 'horizon_s': 1.05})
    with pytest.raises(ConfigError, match=r'stamp_offset_ms\.front: there is no camera front \(the cameras are left_wrist'):
        Settings.from_values({'stamp_offset_ms.front': 9.0})
    with pytest.raises(ConfigError, match=r'stamp_offset_ms\.global: 1001 is too large'):
        Settings.from_values({'stamp_offset_ms.global': 1001})
