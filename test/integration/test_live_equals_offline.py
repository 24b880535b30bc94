"""The contract: a bag played into the live node over DDS gives the sets and the features that encoding the bag gives.

The same sets by stamp, with the same frames and joints and with features equal bit for bit, and the same drops for the same
reasons; what the live node could not encode in time is accounted for as superseded. It holds for a robot that loses and
delays messages, too. The loss is in the bag, since nobody can know what best-effort DDS loses on its way.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from live import Desk
from rclpy.serialization import serialize_message
from robot import JOINTS as JOINT_TOPICS
from robot import assert_accounted_for
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from std_msgs.msg import String

from fused_encoder_ros.model import ImageJointEncoder, Model, load_model
from fused_encoder_ros.offline.bag import Bag, typestore
from fused_encoder_ros.offline.compare import compare, read_recorded
from fused_encoder_ros.offline.encode import encode_bag
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.pipeline.data import JOINTS, Drop, Observation
from fused_encoder_ros.pipeline.pipeline import Pipeline
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.settings.topics import absolute
from fused_encoder_ros.synthetic import Event, Rig

MS = 1_000_000


class WornRig(Rig):
    """A robot that loses a tenth of its images and a third of its joints, some in one piece, and delays what it sends.

    What one topic sends stays in order, as over DDS; what comes first among the topics does not.
    """

    def events(self, duration_s: float) -> Iterator[Event]:
        rng = random.Random(self.seed)
        newest_ns: dict[str, int] = {}
        kept = []
        for event in super().events(duration_s):
            lost = rng.random() < (0.33 if event.source == JOINTS else 0.1)
            lost |= event.source == JOINTS and 500 * MS <= event.stamp_ns < 800 * MS
            lost |= event.source == 'left_wrist' and 1000 * MS <= event.stamp_ns < 1400 * MS
            if not lost:
                late_ns = event.publish_ns + int(rng.uniform(0, 60) * MS)
                newest_ns[event.source] = max(late_ns, newest_ns.get(event.source, 0) + 1)
                kept.append(replace(event, publish_ns=newest_ns[event.source]))
        return iter(sorted(kept, key=lambda event: event.publish_ns))


STAMP_ERRORS_MS = {'left_wrist': 45.0, 'right_wrist': -30.0}


class LateRig(Rig):
    """A robot whose stamps are off."""

    def header_stamp_ns(self, event: Event) -> int:
        return event.stamp_ns + int(STAMP_ERRORS_MS.get(event.source, 0.0) * MS)


def encode_at_the_desk(bag: Path, settings: Settings, model: Model) -> tuple[dict[int, dict[str, Any]], dict[int, str], int]:
    """Rows of the sets and reasons of the drops by stamp, and how many anchors the end of the bag cut off."""
    summary = encode_bag(bag, bag.parent, settings, model)
    rows = {row['stamp_ns']: row for row in pq.read_table(bag.with_suffix('.parquet')).to_pylist()}
    pipeline = Pipeline(settings.spec, settings.sync)
    with Bag(bag, settings.topics) as messages:
        outcomes = [outcome for source, message, _ in messages.messages() for outcome in pipeline.push(source, message)]
    drops = {outcome.stamp_ns: outcome.key for outcome in outcomes if isinstance(outcome, Drop)}
    assert summary.anchors == len(rows) + len(drops) + pipeline.pending
    return rows, drops, pipeline.pending


def play(desk: Desk, bag: Path, settings: Settings, in_step: bool) -> None:
    """Publish a bag's messages byte by byte: at the pace of the recording, or at that of the node's encoder."""
    sources = {absolute(topic): source for source, topics in settings.topics.items() for topic in topics}
    pipeline = settings.pipeline()
    with AnyReader([bag]) as reader:
        start_ns, start = reader.start_time, time.monotonic()
        for connection, recorded_ns, raw in reader.messages():
            while not in_step and (due := start + (recorded_ns - start_ns) / 1e9 - time.monotonic()) > 0:
                desk.executor.spin_once(timeout_sec=due)
            desk.publishers[connection.topic].publish(bytes(raw))
            outcomes = pipeline.push(sources[connection.topic], reader.deserialize(raw, connection.msgtype))
            if in_step and (made := [outcome.stamp_ns for outcome in outcomes if isinstance(outcome, Observation)]):
                desk.wait(lambda: made[-1] in desk.sets(), 'a set')


def record(desk: Desk, path: Path) -> Path:
    """What the desk heard as `ros2 bag record` keeps it: the node's bytes."""
    heard = {
        '/robot/fused_feature_stamped': ('sensor_msgs/msg/Image', desk.stamped),
        '/robot/sets': ('std_msgs/msg/String', [String(data=json.dumps(report)) for report in desk.reports]),
    }
    with Writer(path, version=8, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic, (kind, messages) in heard.items():
            connection = writer.add_connection(topic, kind, typestore=typestore())
            for number, message in enumerate(messages):
                writer.write(connection, number, serialize_message(message))
    return path


THREE = ('left_wrist', 'right_wrist', 'global')
NEEDS_CUDA = pytest.mark.skipif(not torch.cuda.is_available(), reason='no CUDA here')


@pytest.mark.parametrize(
    ('robot', 'in_step', 'engine', 'cameras'),
    [
        (Rig, True, 'auto', THREE),
        (WornRig, False, 'auto', THREE),
        (WornRig, True, 'auto', THREE),
        (LateRig, True, 'auto', THREE),
        (Rig, True, 'eager', THREE),
        (Rig, True, 'packed', THREE),
        (Rig, True, 'openvino', THREE),
        pytest.param(Rig, True, 'cuda_graph', THREE, marks=NEEDS_CUDA),
        pytest.param(Rig, True, 'triton', THREE, marks=NEEDS_CUDA),
        (Rig, True, 'packed', ('front',)),
        (WornRig, True, 'auto', ('front', 'left_wrist', 'right_wrist', 'top')),
    ],
)
def test_live_equals_offline(
    request: pytest.FixtureRequest, tmp_path: Path, robot: type[Rig], in_step: bool, engine: str, cameras: tuple[str, ...]
) -> None:
    is_large = not in_step  # one is the real thing: large images over shared memory, at the robot's pace
    desk: Desk = request.getfixturevalue('desk_with_large_images' if is_large else 'desk')
    size = {} if is_large else {'width': 160, 'height': 120}
    checkpoint = tmp_path / 'run_obs_encoder.pth'
    torch.manual_seed(11)
    torch.save(ImageJointEncoder(camera_count=len(cameras)).state_dict(), checkpoint)
    bag = tmp_path / 'robot'
    write_rig_bag(bag, robot(seed=3, jitter_ms=3.0, cameras=cameras, **size), 2.0)

    # After a stall, images and joints are received in turn, so that joints fall behind; no frame may give them up then.
    matching: dict[str, Any] = {'tolerance_ms': 20.0, 'max_wait_ms': 9000.0, 'horizon_s': 10.0, 'engine': engine}
    if robot is LateRig:
        matching |= {f'stamp_offset_ms.{camera}': -ms for camera, ms in STAMP_ERRORS_MS.items()}
    settings = Settings.from_values({'checkpoint': str(checkpoint), 'cameras': cameras, **matching})
    model = load_model(settings.model, settings.spec)
    rows, dropped, waiting = encode_at_the_desk(bag, settings, model)
    assert len(rows) > (20 if robot is WornRig else 50)
    if robot is WornRig:
        assert set(dropped.values()) >= {'no_match:left_wrist', 'no_match:right_wrist', 'no_joints'}

    # Queues that outlast a stall of a busy machine: what is lost before the node is not what is tested here.
    named = f'[{", ".join(cameras)}]'
    node = desk.start(checkpoint=checkpoint, cameras=named, image_depth=100, joint_depth=2000, **matching)
    desk.advertise({**{f'/{camera}/image': 'sensor_msgs/msg/Image' for camera in cameras}, **JOINT_TOPICS}, depth=2000)
    desk.wait_until_heard()
    play(desk, bag, settings, in_step)
    desk.wait(lambda: len(desk.reports) >= len(rows) + len(dropped), 'every anchor to be accounted for')
    desk.wait(lambda: len(desk.stamped) >= len(desk.sets()), 'every feature')

    sets, drops, live = desk.sets(), desk.drops(), desk.features()
    superseded = {stamp for stamp, reason in drops.items() if reason == 'superseded'}
    assert set(live) == set(sets)
    assert {stamp: reason for stamp, reason in drops.items() if reason != 'superseded'} == dropped
    assert set(sets) | superseded == set(rows) and not set(sets) & superseded
    # One message may complete several sets at once, and of those the newest wins.
    assert not in_step or len(superseded) < len(sets)
    assert len(desk.reports) == len(rows) + len(dropped)
    assert int(assert_accounted_for(desk)['waiting']) == waiting
    for stamp, report in sets.items():
        row = rows[stamp]
        assert report['stamps_ns'] == {**{c: row[f'{c}_stamp_ns'] for c in cameras}, 'joint_states': stamp}
        assert report['stamps_ns'][settings.sync.anchor] == stamp
        assert report['joint_positions'] == row['joints']
        np.testing.assert_array_equal(live[stamp], np.array(row['feature'], np.float32))
    assert {message.header.frame_id for message in desk.stamped} == {model.hash}
    assert [np.array(m.data, np.float32).tobytes() for m in desk.plain] == [bytes(m.data) for m in desk.stamped]
    assert node.stop() == 0

    comparison = compare(read_recorded(record(desk, tmp_path / 'recorded')), read_recorded(bag.with_suffix('.parquet')))
    assert comparison.equal == comparison.sets == comparison.inputs_known == comparison.a.sets == len(sets)
    assert not comparison.other_inputs and not comparison.made_with and comparison.b.alone == len(superseded)
