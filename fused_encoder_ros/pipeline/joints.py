"""Joint messages: positions looked up by name, kept for each joint, interpolated at a stamp.

Several publishers may each bring some of the joints, at their own rates and on their own clocks.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.errors import DecodeError
from fused_encoder_ros.pipeline.data import JointSample, stamp_to_ns
from fused_encoder_ros.pipeline.history import NEVER, History

LARGEST_POSITION = 1e9
"""Of a joint, rad or m. Beyond it lies what a driver sends from memory that nobody has set."""


def is_usable(position: float) -> bool:
    """Whether a joint can stand there: neither NaN nor infinite nor beyond `LARGEST_POSITION`."""
    return abs(position) <= LARGEST_POSITION


class _Layout(NamedTuple):
    """Where the spec's joints stand in messages with the same names, and which of them such messages lack."""

    order: NDArray[np.intp]
    absent: NDArray[np.intp]


class JointReader:
    """Reads `sensor_msgs/JointState`-like messages into the spec's joint order.

    Names that the spec does not know are left out; joints that the message does not bring are NaN.

    Attributes:
        unknown: names that came and that the spec does not know, the first few.
    """

    def __init__(self, joint_names: Sequence[str]) -> None:
        self._index = {name: i for i, name in enumerate(joint_names)}
        self.unknown: list[str] = []
        # Publishers repeat the same list of names, so its lookup is done once.
        self._layouts: dict[tuple[str, ...], _Layout] = {}

    def read(self, message: Any) -> JointSample:
        """Read one message; that it brings none of the spec's joints is no fault.

        Raises:
            DecodeError: when the message is malformed.
        """
        names = tuple(message.name)
        layout = self._layout(names)
        stamp_ns = stamp_to_ns(message.header.stamp)
        if len(layout.absent) == len(self._index):
            return JointSample(stamp_ns, np.full(len(self._index), np.nan))
        if len(message.position) != len(names):
            raise DecodeError(
                f'the message has {len(names)} names but {len(message.position)} positions; correct the publisher'
            )
        positions = np.asarray(message.position, np.float64)[layout.order]
        if not is_usable(sum(map(abs, positions.tolist()))):  # the quick way to see that each is, in nearly every message
            positions[[not is_usable(position) for position in positions.tolist()]] = np.nan
        positions[layout.absent] = np.nan
        return JointSample(stamp_ns, positions)

    def unusable(self, message: Any) -> list[str]:
        """Names of the spec's joints whose position in this message is not `is_usable`."""
        return [n for n, p in zip(message.name, message.position) if n in self._index and not is_usable(p)]

    def _layout(self, names: tuple[str, ...]) -> _Layout:
        layout = self._layouts.get(names)
        if layout is None:
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise DecodeError(f'joint {twice!r} is named twice in one message')
            place = {name: i for i, name in enumerate(names)}
            order = np.array([place.get(name, 0) for name in self._index], np.intp)
            layout = _Layout(order, np.array([i for name, i in self._index.items() if name not in place], np.intp))
            self.unknown += [n for n in names if n not in self._index and n not in self.unknown][: 16 - len(self.unknown)]
            if len(self._layouts) < 64:  # a publisher that never repeats itself must not fill the memory
                self._layouts[names] = layout
        return layout


class _Group(NamedTuple):
    """Joints that have always come together, and the rows float64 [J] that brought them."""

    joints: list[int]
    rows: History[NDArray[np.float64]]


class JointBuffer:
    """The recent positions of every joint, each on its own: what one publisher does touches no other's joints.

    Joints that have always come together share one history; a message that brings only some of them splits it. So a
    message costs as many steps as there are publishers, not joints.
    """

    def __init__(self, joint_names: Sequence[str], horizon_ns: int, max_age_ns: int, limit: int) -> None:
        self.names = tuple(joint_names)
        self._horizon_ns = horizon_ns
        self._max_age_ns = max_age_ns
        self._limit = limit
        self.clear()

    def __len__(self) -> int:
        return sum(len(group.joints) * len(group.rows) for group in self._groups)

    def clear(self) -> None:
        """Forget every sample."""
        self._groups = [_Group(list(range(len(self.names))), History(self._horizon_ns, self._limit))]
        self._brought: dict[bytes, list[_Group]] = {}

    def set_limits(self, horizon_ns: int, max_age_ns: int) -> None:
        """Keep samples for another time, and let joints rest on samples of another age."""
        self._horizon_ns, self._max_age_ns = horizon_ns, max_age_ns
        for group in self._groups:
            group.rows.horizon_ns = horizon_ns

    def add(self, sample: JointSample, asked_ns: int = NEVER) -> None:
        """Take the joints that the sample brings; `asked_ns` as in `History.add`."""
        present = sample.positions == sample.positions  # not NaN
        key = present.tobytes()
        groups = self._brought.get(key)
        if groups is None:
            groups = self._brought_by(present)
            if len(self._brought) < 64:  # a publisher that never repeats itself must not fill the memory
                self._brought[key] = groups
        for group in groups:
            group.rows.add(sample.time_ns, sample.positions, asked_ns)

    def _brought_by(self, present: NDArray[np.bool_]) -> list[_Group]:
        """The groups of the joints that are present, after splitting those of which only some are."""
        groups: list[_Group] = []
        for joints, rows in self._groups:
            here = [joint for joint in joints if present[joint]]
            if here and len(here) < len(joints):
                self._brought.clear()
                groups.append(_Group([joint for joint in joints if not present[joint]], rows.copy()))
            groups.append(_Group(here or joints, rows))
        self._groups = groups
        return [group for group in groups if present[group.joints[0]]]

    def clear_if_after(self, stamp_ns: int) -> None:
        """Forget each joint whose newest sample is later than the stamp."""
        for group in self._groups:
            group.rows.clear_if_after(stamp_ns)

    def stale(self, stamp_ns: int) -> list[str]:
        """Names of the joints whose newest position is too old for the stamp, or which have none."""
        least_ns = stamp_ns - self._max_age_ns
        late = [joint for joints, rows in self._groups if not rows.reaches(least_ns) for joint in joints]
        return [self.names[joint] for joint in sorted(late)]

    def is_settled(self, stamp_ns: int, may_hold: bool = False) -> bool:
        """Whether no joint need be waited for: each has a sample at or after the stamp or, if that may be held, one before."""
        return all(
            rows.reaches(stamp_ns) or (may_hold and self._row_at(rows, stamp_ns) is not None) for _, rows in self._groups
        )

    def at(self, stamp_ns: int) -> tuple[NDArray[np.float64], int] | list[str]:
        """Positions float64 [J] at a stamp with the oldest stamp they speak for, or the names of the joints without."""
        positions = np.empty(len(self.names))
        oldest_ns = stamp_ns
        missing: list[int] = []
        for joints, rows in self._groups:
            answer = self._row_at(rows, stamp_ns)
            if answer is None:
                missing += joints
            else:
                positions[joints] = answer[0][joints]
                oldest_ns = min(oldest_ns, answer[1])
        return [self.names[joint] for joint in sorted(missing)] if missing else (positions, oldest_ns)

    def _row_at(self, rows: History[NDArray[np.float64]], stamp_ns: int) -> tuple[NDArray[np.float64], int] | None:
        """The row at a stamp, and the stamp it speaks for.

        Linear between the rows around it; the last one before, held, when none comes after.
        None when a row it rests on lies further than the largest age from the stamp, or there is none before.
        """
        stamps = rows.stamps_ns
        after = bisect_right(stamps, stamp_ns)
        if after == 0 or stamp_ns - stamps[after - 1] > self._max_age_ns:
            return None
        before_ns, before = stamps[after - 1], rows.items[after - 1]
        if before_ns == stamp_ns or after == len(stamps):
            return before, before_ns
        after_ns, later = stamps[after], rows.items[after]
        if after_ns - stamp_ns > self._max_age_ns:
            return None
        weight = (stamp_ns - before_ns) / (after_ns - before_ns)
        return before + weight * (later - before), stamp_ns
