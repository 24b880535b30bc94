"""Features and observations in a bag."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import ClassVar

import numpy as np

from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.offline.bag import BagWriter, image_message, joint_message, pack
from fused_encoder_ros.offline.episodes import Episode, Step
from fused_encoder_ros.pipeline.data import JOINTS, Feature
from fused_encoder_ros.pipeline.outputs import (
    FEATURE_TOPIC,
    SETS_TOPIC,
    STAMPED_TOPIC,
    TYPES,
    OutputMessages,
    describe_outcome,
)
from fused_encoder_ros.settings import COMPRESSED_SUFFIX, NODE_NAME, absolute
from fused_encoder_ros.settings.topics import IMAGE, JOINT_STATE

ACTION_TOPIC = '/action'

_SETS = f'/{NODE_NAME}/{SETS_TOPIC}'


class FeatureTopics:
    """Writes the two output topics of the node that hold features into a bag."""

    TYPES: ClassVar = {f'/{NODE_NAME}/{name}': TYPES[name] for name in (FEATURE_TOPIC, STAMPED_TOPIC)}

    def __init__(self, writer: BagWriter, model_hash: str) -> None:
        self._writer = writer
        self._messages = OutputMessages(writer.types, pack, pack, model_hash)

    def write(self, feature: Feature) -> None:
        """Append a feature, at its stamp."""
        for topic, message in zip(self.TYPES, (self._messages.feature(feature), self._messages.stamped(feature))):
            self._writer.write(topic, message, feature.stamp_ns)


class BagEpisode:
    """Writes one episode as a rosbag2 in MCAP, everything at the stamp of its set.

    Topics: those that the encoder reads, with raw rgb8 images and with one JointState of all joints, so that the node or
    `encode` makes the same sets of it; `/action`, a JointState; `/fused_encoder/sets`, what each set is made of; the features,
    where steps have one. The metadata goes into the `custom_data` of the bag, as JSON by key.
    """

    def __init__(self, path: Path, episode: Episode) -> None:
        self._episode = episode
        self._topics = {source: absolute(names[0]).removesuffix(COMPRESSED_SUFFIX) for source, names in episode.topics.items()}
        taken = [*self._topics.values(), ACTION_TOPIC, _SETS, *FeatureTopics.TYPES]
        if twice := sorted({topic for topic in taken if taken.count(topic) > 1}):
            raise ConfigError(f'{twice[0]} would be used as a topic twice in the bag; export to another format')
        kinds = {topic: JOINT_STATE if source == JOINTS else IMAGE for source, topic in self._topics.items()}
        kinds |= {ACTION_TOPIC: JOINT_STATE, _SETS: TYPES[SETS_TOPIC]}
        if episode.model_hash:
            kinds |= FeatureTopics.TYPES
        about = {f'fused_encoder.{key}': json.dumps(value) for key, value in episode.metadata.items()}
        self._writer = BagWriter(path, 'mcap', kinds, about)
        self._features = FeatureTopics(self._writer, episode.model_hash)

    def __enter__(self) -> BagEpisode:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.__exit__(kind, error, trace)

    def write(self, step: Step) -> None:
        """Append a step."""
        observation, types = step.observation, self._writer.types
        stamp_ns = observation.stamp_ns
        messages = {
            self._topics[camera]: image_message(types, stamp_ns, camera, np.ascontiguousarray(image))
            for camera, image in observation.camera_images.items()
        }
        joint_names = self._episode.spec.joint_names
        messages[self._topics[JOINTS]] = joint_message(types, stamp_ns, JOINTS, joint_names, observation.joint_positions)
        messages[ACTION_TOPIC] = joint_message(types, stamp_ns, '', self._episode.action_names, step.action)
        messages[_SETS] = types[TYPES[SETS_TOPIC]](data=describe_outcome(observation))
        for topic, message in messages.items():
            self._writer.write(topic, message, stamp_ns)
        if step.feature is not None:
            self._features.write(Feature(step.feature, observation))
