"""Topics and message types of the inputs, as bags and the ROS graph name them."""

from __future__ import annotations

from dataclasses import dataclass

from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.settings import is_compressed

IMAGE, COMPRESSED_IMAGE, JOINT_STATE = (
    'sensor_msgs/msg/Image',
    'sensor_msgs/msg/CompressedImage',
    'sensor_msgs/msg/JointState',
)


@dataclass(frozen=True)
class Topic:
    """A topic with its message type and number of messages, None where they are not counted."""

    name: str
    kind: str
    messages: int | None


def expected_kind(source: str, topic: str) -> str:
    """The message type that a source's topic must have."""
    if source == JOINTS:
        return JOINT_STATE
    return COMPRESSED_IMAGE if is_compressed(topic) else IMAGE
