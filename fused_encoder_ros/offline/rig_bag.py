"""The synthetic robot's streams as a bag."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fused_encoder_ros.errors import OutputError
from fused_encoder_ros.offline.bag import BagWriter
from fused_encoder_ros.offline.files import completed
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.settings.topics import IMAGE, JOINT_STATE
from fused_encoder_ros.synthetic import Event, Rig

START_NS = 1_700_000_000_000_000_000
"""Stamps of a written bag count from here, so that the same rig writes the same bag."""


def write_rig_bag(path: Path, rig: Rig, duration_s: float, storage: str = 'mcap', force: bool = False) -> int:
    """Write a rosbag2 with the topics of the rig; returns the number of messages.

    Raises:
        OutputError: when the bag exists and `force` is not set, or cannot be written.
    """
    topics = {**{camera: f'/{camera}/image' for camera in rig.cameras}, JOINTS: f'/{JOINTS}'}
    kinds = {topic: JOINT_STATE if source == JOINTS else IMAGE for source, topic in topics.items()}
    if path.name in ('', '..'):
        raise OutputError(f'{path} is no name for a bag')
    count = 0
    with completed({'bag': path}, force) as files, BagWriter(files['bag'], storage, kinds) as writer:
        for event in rig.events(duration_s):
            message = _message(rig, event, writer.types)
            writer.write(topics[event.source], message, START_NS + event.publish_ns)
            count += 1
    return count


def _message(rig: Rig, event: Event, types: Any) -> Any:
    sec, nanosec = divmod(START_NS + event.stamp_ns, 1_000_000_000)
    stamp = types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    header = types['std_msgs/msg/Header'](stamp=stamp, frame_id=event.source)
    if event.source == JOINTS:
        empty = np.array([], np.float64)
        positions = np.array(rig.message_positions(event.stamp_ns))
        return types[JOINT_STATE](
            header=header, name=rig.message_joint_names, position=positions, velocity=empty, effort=empty
        )
    pixels = rig.image(event.source, event.stamp_ns, event.number)
    height, width, channels = pixels.shape
    return types[IMAGE](
        header=header,
        height=height,
        width=width,
        encoding='rgb8',
        is_bigendian=0,
        step=width * channels,
        data=pixels.reshape(-1),
    )
