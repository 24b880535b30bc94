"""Topics and message types of the inputs, as bags and the ROS graph name them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.pipeline.data import JOINTS

IMAGE, COMPRESSED_IMAGE, JOINT_STATE = (
    'sensor_msgs/msg/Image',
    'sensor_msgs/msg/CompressedImage',
    'sensor_msgs/msg/JointState',
)

COMPRESSED_SUFFIX = '/compressed'


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


def refuse_shared_topics(topics: Mapping[str, tuple[str, ...]]) -> None:
    """Raises ConfigError when a topic is named twice: the encoder would see one camera twice."""
    sources: dict[str, str] = {}
    for source, names in topics.items():
        for topic in names:
            if topic in sources:
                raise ConfigError(f'topics.{source}: {topic} is also the topic of {sources[topic]}; use each topic only once')
            sources[topic] = source


def absolute(topic: str) -> str:
    """A topic's name from the root namespace."""
    return topic if topic.startswith('/') else f'/{topic}'


def is_compressed(topic: str) -> bool:
    """Whether a camera topic carries CompressedImage, by the naming of image_transport."""
    return topic.endswith(COMPRESSED_SUFFIX)
