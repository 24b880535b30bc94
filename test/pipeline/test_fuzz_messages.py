"""Whatever messages hold, the pipeline neither raises nor loses count, and good sets come out beside them.

`pytest --hypothesis-profile=thorough` draws many more.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mutated import COMPRESSED, IMAGE, JOINT_STATE, Mutator, cdr, good_message
from rclpy.serialization import deserialize_message
from ros_messages import MS, T0
from sensor_msgs.msg import CompressedImage, Image, JointState

from fused_encoder_ros.offline.bag import pack, typestore
from fused_encoder_ros.pipeline.data import JOINTS, Drop, Feature, Observation, Outcome, Reason, Reject
from fused_encoder_ros.pipeline.images import image_content
from fused_encoder_ros.pipeline.options import SyncOptions
from fused_encoder_ros.pipeline.outputs import OutputMessages, describe_outcome
from fused_encoder_ros.pipeline.pipeline import Pipeline
from fused_encoder_ros.spec import CAMERAS, ObservationSpec

SPEC = ObservationSpec(image_size=16, joint_names=('a', 'b', 'c'))
SOURCES = (*CAMERAS, JOINTS)
RCLPY = {IMAGE: Image, COMPRESSED: CompressedImage, JOINT_STATE: JointState}
STORE = typestore()
OUTPUTS = OutputMessages(STORE.types, pack, pack, model_hash='')
PERIOD_MS = 30


def push(pipeline: Pipeline, source: str, message: Any) -> list[Outcome]:
    """As the node and the bag encoder do."""
    if source != JOINTS:
        assert image_content(message)
    outcomes = pipeline.push(source, message)
    counts = pipeline.counts
    assert counts.anchors == counts.messages['global'] == counts.sets + sum(counts.drops.values()) + pipeline.pending
    for outcome in outcomes:
        if isinstance(outcome, Drop):
            assert describe_outcome(outcome)
        elif isinstance(outcome, Observation):
            assert outcome.images.shape == (16, 16, 9) and outcome.joints.shape == (3,)
            assert max(map(abs, outcome.skew_ns.values())) <= 100 * MS
            assert cdr(OUTPUTS.stamped(Feature(np.zeros(4, np.float32), outcome)))
    return outcomes


def same(one: Outcome, other: Outcome) -> bool:
    if not (isinstance(one, Observation) and isinstance(other, Observation)):
        return one == other
    arrays = (one.images, other.images), (one.joint_positions, other.joint_positions)
    return one.stamps_ns == other.stamps_ns and all(np.array_equal(a, b, equal_nan=True) for a, b in arrays)


@given(seed=st.integers(0, 2**32), share=st.sampled_from((0.05, 0.3, 0.9)), match=st.sampled_from(('nearest', 'soonest')))
@settings(deadline=None)
def test_mutated_messages(seed: int, share: float, match: str) -> None:
    rng = random.Random(seed)
    mutator = Mutator(rng, SPEC.joint_names, compressed=0.3)
    # One is fed with the rosbags library's messages, the other with rclpy's of the same bytes.
    of_bags, of_rclpy = (Pipeline(SPEC, SyncOptions(match=match)) for _ in range(2))
    for number in range(10):
        for source in SOURCES:
            stamp_ns = T0 + (number * PERIOD_MS + rng.randint(-2, 2)) * MS
            is_mutated = rng.random() < share
            message = mutator.message(source, stamp_ns) if is_mutated else good_message(source, stamp_ns, SPEC.joint_names)
            raw, kind = cdr(message), message.__msgtype__
            outcomes = push(of_bags, source, STORE.deserialize_cdr(raw, kind))
            others = push(of_rclpy, source, deserialize_message(raw, RCLPY[kind]))
            assert len(outcomes) == len(others) and all(map(same, outcomes, others))
    # Whatever came before, a while later good sets come out.
    start_ns = T0 + 3_600_000 * MS
    before = of_bags.counts.sets
    for number in range(10):
        for source in SOURCES:
            push(of_bags, source, good_message(source, start_ns + number * PERIOD_MS * MS, SPEC.joint_names))
    assert of_bags.counts.sets >= before + 8
    of_bags.finish()
    assert of_bags.pending == 0


@pytest.mark.parametrize('source', SOURCES)
def test_a_stamp_of_more_nanoseconds_than_a_second_is_refused(source: str) -> None:
    """It would come out as another stamp than the one that others see, or as none that a message can hold."""
    pipeline = Pipeline(SPEC, SyncOptions())
    message = good_message(source, T0, SPEC.joint_names)
    message.header.stamp.nanosec = 10**9
    (outcome,) = pipeline.push(source, message)
    assert outcome.reason is Reason.BAD_STAMP and '1000000000 nanoseconds' in outcome.detail
    assert isinstance(outcome, Drop if source == 'global' else Reject)
