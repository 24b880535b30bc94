"""Actions of a recording: what was commanded, at the time of a set."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.errors import BagError
from fused_encoder_ros.offline.bag import messages_of, open_bag
from fused_encoder_ros.pipeline.data import stamp_to_ns
from fused_encoder_ros.settings import absolute

_TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
_STATE = 'sensor_msgs/msg/JointState'
_ARRAY = 'std_msgs/msg/Float64MultiArray'

ACTION_TYPES = (_TRAJECTORY, _STATE, _ARRAY)


class Commands:
    """What was commanded on a topic of a bag. A command holds until the next one, but no longer than `hold_s`.

    A JointTrajectory counts with its first point, at its stamp, or when it was recorded where its stamp is 0; a JointState at
    its stamp; a Float64MultiArray, which has no stamp, when it was recorded.

    Args:
        bag: path of the bag.
        topic: of one of `ACTION_TYPES`.
        names: the joints, in the order of the action; empty takes the order of the first command.
        hold_s: seconds after which a command is out of date.

    Attributes:
        names: the joints, in the order of the action; empty for an array.

    Raises:
        BagError: when the topic is missing, of another type, or lacks a joint.
    """

    def __init__(self, bag: Path, topic: str, names: Sequence[str], hold_s: float) -> None:
        self.names = tuple(names)
        self._hold_ns = round(hold_s * 1e9)
        rows: list[tuple[int, NDArray[np.float64]]] = []
        with closing(open_bag(bag)) as reader:
            everything = list(reader.connections)
        connections = [c for c in everything if absolute(c.topic) == absolute(topic)]
        fitting = {c.id for c in connections if c.msgtype in ACTION_TYPES}
        if not fitting:
            offered = sorted({f'{c.topic} ({c.msgtype})' for c in everything if c.msgtype in ACTION_TYPES})
            what = f'is {connections[0].msgtype}' if connections else 'does not exist'
            raise BagError(
                f'bag {bag}: the action topic {topic} {what}; choose a topic of type {" or ".join(ACTION_TYPES)}, of '
                f'which the bag has {", ".join(offered) or "none"}'
            )
        for connection, message, recorded_ns in messages_of(bag, fitting):
            if (row := self._row(bag, topic, connection.msgtype, message, recorded_ns)) is not None:
                rows.append(row)
        if len({len(values) for _, values in rows}) > 1:
            raise BagError(f'bag {bag}: the commands on {topic} do not all have the same length')
        rows.sort(key=lambda row: row[0])
        self._stamps_ns = [stamp_ns for stamp_ns, _ in rows]
        self._values = [values for _, values in rows]

    def at(self, stamp_ns: int) -> NDArray[np.float64] | None:
        """The command in force at a stamp, float64 [A]; None before the first, and after the last has become out of date."""
        last = bisect_right(self._stamps_ns, stamp_ns) - 1
        if last < 0 or stamp_ns - self._stamps_ns[last] > self._hold_ns:
            return None
        return self._values[last]

    def _row(self, bag: Path, topic: str, kind: str, message: Any, recorded_ns: int) -> tuple[int, NDArray[np.float64]] | None:
        if kind == _ARRAY:
            return recorded_ns, np.array(message.data, np.float64)
        stamp_ns = stamp_to_ns(message.header.stamp) or recorded_ns
        if kind == _STATE:
            given, positions = list(message.name), message.position
        elif len(message.points):
            given, positions = list(message.joint_names), message.points[0].positions
        else:
            return None  # an empty trajectory says: stop
        if len(positions) != len(given):
            raise BagError(f'bag {bag}: a command on {topic} has {len(given)} names, but {len(positions)} positions')
        self.names = self.names or tuple(given)
        if missing := [name for name in self.names if name not in given]:
            raise BagError(f'bag {bag}: the commands on {topic} lack {", ".join(missing)}; they have {", ".join(given)}')
        return stamp_ns, np.array([positions[given.index(name)] for name in self.names], np.float64)
