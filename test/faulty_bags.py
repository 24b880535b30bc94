"""Bags of the synthetic robot, disturbed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import ros_messages
from ros_messages import T0

from fused_encoder_ros.offline.bag import BagWriter
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.settings.topics import COMPRESSED_IMAGE, IMAGE, JOINT_STATE
from fused_encoder_ros.spec import CAMERAS
from fused_encoder_ros.synthetic import Event, Rig

RIG = Rig(width=64, height=48)
TOPICS = {**{camera: f'/{camera}/image' for camera in CAMERAS}, JOINTS: f'/{JOINTS}'}

Times = tuple[int, int] | None
"""Publishing time and stamp of an event; None leaves it out."""


def as_it_is(event: Event) -> Times:
    return event.publish_ns, event.stamp_ns


def write_bag(
    path: Path,
    times: Callable[[Event], Times] = as_it_is,
    *,
    duration_s: float = 6.0,
    topics: dict[str, str] = TOPICS,
    joint_names: list[str] | None = None,
    image: Callable[[Event, int], Any] | None = None,
    also: str = '',
) -> Path:
    """A bag of the synthetic robot, disturbed; `also` names another topic with the colour images of the left wrist."""
    kinds = {
        topic: JOINT_STATE if source == JOINTS else COMPRESSED_IMAGE if topic.endswith('/compressed') else IMAGE
        for source, topic in topics.items()
    }
    if also:
        kinds[also] = IMAGE
    events = [(found[0], found[1], event) for event in RIG.events(duration_s) if (found := times(event)) is not None]
    with BagWriter(path, 'mcap', kinds) as writer:
        for published_ns, stamp_ns, event in sorted(events, key=lambda entry: entry[0]):
            if event.source not in topics:
                continue
            if event.source == JOINTS:
                names = joint_names or RIG.message_joint_names
                message = ros_messages.joint_state(T0 + stamp_ns, names, RIG.message_positions(event.stamp_ns))
            elif image is not None:
                message = image(event, T0 + stamp_ns)
            else:
                picture = RIG.image(event.source, event.stamp_ns, event.number)
                is_compressed = kinds[topics[event.source]] == COMPRESSED_IMAGE
                message = (ros_messages.compressed if is_compressed else ros_messages.image)(T0 + stamp_ns, picture)
            writer.write(topics[event.source], message, T0 + published_ns)
            if also and event.source == 'left_wrist':
                writer.write(also, ros_messages.image(T0 + stamp_ns), T0 + published_ns)
    return path
