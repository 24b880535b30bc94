"""The output messages, built from whichever message classes are at hand: rclpy's or the rosbags library's."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.pipeline.data import Drop, Feature, Observation

FEATURE_TOPIC = 'fused_feature'
STAMPED_TOPIC = 'fused_feature_stamped'
OBSERVATION_TOPIC = 'observation'
SETS_TOPIC = 'sets'

TYPES = {
    FEATURE_TOPIC: 'std_msgs/msg/Float32MultiArray',
    STAMPED_TOPIC: 'sensor_msgs/msg/Image',
    OBSERVATION_TOPIC: 'sensor_msgs/msg/Image',
    SETS_TOPIC: 'std_msgs/msg/String',
}
"""Message type of each output, by its name below the node's."""

STAGES = ('transport', 'decode', 'wait', 'wait_cameras', 'wait_joints', 'queue', 'encode', 'publish', 'total')
"""Stages of the latency: the anchor's stamp to its arrival, decoding it, until the set is complete, waiting for the worker,
encoding, publishing the feature; and all of it. The wait is the longer of those for the other cameras and for the joints."""


def side_by_side(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The cameras of stacked images [S,S,3C] beside each other, in channel order: [S,C*S,3]."""
    return np.concatenate(np.split(images, images.shape[2] // 3, axis=2), axis=1)


class OutputMessages:
    """Builds the outputs.

    Args:
        types: message classes by full type name, as `sensor_msgs/msg/Image`.
        pack_bytes: uint8 array to what the classes take as `uint8[]`.
        pack_floats: float32 array to what the classes take as `float32[]`.
        model_hash: goes into the stamped feature's `frame_id`.
    """

    def __init__(
        self,
        types: Mapping[str, Any],
        pack_bytes: Callable[[NDArray[np.uint8]], Any],
        pack_floats: Callable[[NDArray[np.float32]], Any],
        model_hash: str,
    ) -> None:
        self._types = types
        self._pack_bytes = pack_bytes
        self._pack_floats = pack_floats
        self._model_hash = model_hash

    def feature(self, feature: Feature) -> Any:
        """Float32MultiArray of one dimension labelled `fused_feature`."""
        size = feature.values.size
        dimension = self._types['std_msgs/msg/MultiArrayDimension'](label=FEATURE_TOPIC, size=size, stride=size)
        layout = self._types['std_msgs/msg/MultiArrayLayout'](dim=[dimension], data_offset=0)
        return self._types['std_msgs/msg/Float32MultiArray'](layout=layout, data=self._pack_floats(feature.values))

    def stamped(self, feature: Feature) -> Any:
        """Image 32FC1 of 1xD: the same floats, under the anchor's stamp."""
        values = np.ascontiguousarray(feature.values, '<f4')
        pixels = values.view(np.uint8).reshape(1, -1)
        return self._image(feature.stamp_ns, self._model_hash, '32FC1', values.size, pixels)

    def observation(self, observation: Observation, frame_id: str) -> Any:
        """Image rgb8 of SxCS: the cameras side by side, in channel order."""
        montage = side_by_side(observation.images)
        return self._image(observation.stamp_ns, frame_id, 'rgb8', montage.shape[1], montage.reshape(montage.shape[0], -1))

    def _image(self, stamp_ns: int, frame_id: str, encoding: str, width: int, rows: NDArray[np.uint8]) -> Any:
        sec, nanosec = divmod(stamp_ns, 1_000_000_000)
        stamp = self._types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
        return self._types['sensor_msgs/msg/Image'](
            header=self._types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id),
            height=rows.shape[0],
            width=width,
            encoding=encoding,
            is_bigendian=0,
            step=rows.shape[1],
            data=self._pack_bytes(np.ascontiguousarray(rows).reshape(-1)),
        )


def describe_outcome(outcome: Feature | Observation | Drop, latency_ms: Mapping[str, float] | None = None) -> str:
    """What became of one anchor frame, as one line of JSON."""
    report: dict[str, Any] = {'stamp_ns': outcome.stamp_ns}
    if isinstance(outcome, Drop):
        report |= {'drop': outcome.key, 'stream': outcome.stream, 'detail': outcome.detail}
    else:
        observation = outcome.observation if isinstance(outcome, Feature) else outcome
        report |= {
            'stamps_ns': dict(observation.stamps_ns),
            'skew_ms': {source: ns / 1e6 for source, ns in observation.skew_ns.items()},
            'joint_positions': observation.joint_positions.tolist(),
        }
        if latency_ms:
            report['latency_ms'] = dict(latency_ms)
    return json.dumps(report)
