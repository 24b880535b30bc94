"""The synthetic robot's streams as a bag."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np

from fused_encoder_ros.errors import OutputError
from fused_encoder_ros.offline.bag import BagWriter, image_message, joint_message
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
        raise OutputError(f'{path} is not a name for a bag')
    count = 0
    try:
        with completed({'bag': path}, force) as files, BagWriter(files['bag'], storage, kinds) as writer:
            for event in rig.events(duration_s):
                message = _message(rig, event, writer.types)
                writer.write(topics[event.source], message, START_NS + event.publish_ns)
                count += 1
    except sqlite3.Error as error:
        raise OutputError(f'bag {path} cannot be written: {error}; choose another place') from error
    return count


def _message(rig: Rig, event: Event, types: Any) -> Any:
    stamp_ns = START_NS + rig.header_stamp_ns(event)
    if event.source == JOINTS:
        positions = np.array(rig.message_positions(event.stamp_ns))
        return joint_message(types, stamp_ns, event.source, rig.message_joint_names, positions)
    return image_message(types, stamp_ns, event.source, rig.image(event.source, event.stamp_ns, event.number))
