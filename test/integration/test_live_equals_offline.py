"""The contract: a bag played into the live node over DDS gives the sets and the features that encoding the bag gives.

The same sets by stamp, with the same frames and joints, and features equal bit for bit; what the live node could not
encode in time is accounted for as superseded.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from live import Desk

from fused_encoder_ros.model import ImageJointEncoder, load_model
from fused_encoder_ros.offline.encode import encode_bag
from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.synthetic import Rig

TOPICS = {f'/{camera}/image': 'sensor_msgs/msg/Image' for camera in ('left_wrist', 'right_wrist', 'global')}
TOPICS['/joint_states'] = 'sensor_msgs/msg/JointState'


@pytest.mark.parametrize(('camera_rate_hz', 'speed', 'may_supersede'), [(15.0, 0.4, False), (30.0, 1.0, True)])
def test_live_equals_offline(desk: Desk, tmp_path: Path, camera_rate_hz: float, speed: float, may_supersede: bool) -> None:
    checkpoint = tmp_path / 'run_obs_encoder.pth'
    torch.manual_seed(11)
    torch.save(ImageJointEncoder().state_dict(), checkpoint)
    bag = tmp_path / 'robot'
    write_rig_bag(bag, Rig(seed=3, camera_rate_hz=camera_rate_hz), 60 / camera_rate_hz)

    # Phases of slower cameras lie further apart.
    tolerance_ms = 600.0 / camera_rate_hz
    matching = {'tolerance_ms': tolerance_ms, 'max_wait_ms': 1000.0}
    settings = Settings.from_values({'checkpoint': str(checkpoint), **matching})
    model = load_model(settings.model, settings.spec)
    summary = encode_bag(bag, tmp_path, settings, model)
    table = pq.read_table(tmp_path / 'robot.parquet').to_pydict()
    offline = dict(zip(table['stamp_ns'], np.array(table['feature'], np.float32)))
    assert len(offline) > 50

    # Queues that outlast a stall of a busy machine: what is lost before the node is not what is tested here.
    node = desk.start(checkpoint=checkpoint, image_depth=100, joint_depth=2000, **matching)
    desk.advertise(TOPICS)
    desk.wait_until_heard()
    desk.play(bag, speed)
    waiting = summary.drops.get('end_of_stream', 0)
    desk.wait(lambda: len(desk.reports) >= summary.anchors - waiting, 'every anchor to be accounted for')
    desk.spin(0.5)

    sets, drops, live = desk.sets(), desk.drops(), desk.features()
    superseded = {stamp for stamp, reason in drops.items() if reason == 'superseded'}
    assert set(live) == set(sets)
    assert set(sets) | superseded == set(offline) and not set(sets) & superseded
    if not may_supersede:
        assert not superseded
    other = {reason: count for reason, count in summary.drops.items() if reason != 'end_of_stream'}
    assert sorted(r for r in drops.values() if r != 'superseded') == sorted(r for r, n in other.items() for _ in range(n))
    for number, stamp in enumerate(table['stamp_ns']):
        if stamp in sets:
            assert sets[stamp]['stamps_ns'] == {
                'left_wrist': table['left_stamp_ns'][number],
                'right_wrist': table['right_stamp_ns'][number],
                'global': stamp,
                'joint_states': stamp,
            }
            assert sets[stamp]['joint_positions'] == table['joints'][number]
            np.testing.assert_array_equal(live[stamp], offline[stamp])
    assert {message.header.frame_id for message in desk.stamped} == {model.hash}
    assert [np.array(m.data, np.float32).tobytes() for m in desk.plain] == [bytes(m.data) for m in desk.stamped]
    assert node.stop() == 0
