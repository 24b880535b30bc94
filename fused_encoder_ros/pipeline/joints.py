"""Joint messages: positions looked up by name, kept as one series a joint, interpolated at a stamp.

Several publishers may each bring some of the joints at their own rate, so each joint has its own series.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.errors import DecodeError
from fused_encoder_ros.pipeline.data import JointSample, stamp_to_ns


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
        self._layouts: dict[tuple[str, ...], tuple[list[int], list[int]]] = {}

    def read(self, message: Any) -> JointSample:
        """Read one message; that it brings none of the spec's joints is no fault.

        Raises:
            DecodeError: when the message is malformed.
        """
        names = tuple(message.name)
        source, target = self._layout(names)
        positions = np.full(len(self._index), np.nan)
        if not source:
            return JointSample(stamp_to_ns(message.header.stamp), positions)
        if len(message.position) != len(names):
            raise DecodeError(
                f'{len(names)} names but {len(message.position)} positions: the publisher sends no usable positions'
            )
        positions[target] = np.asarray(message.position, np.float64)[source]
        positions[~np.isfinite(positions)] = np.nan
        return JointSample(stamp_to_ns(message.header.stamp), positions)

    def not_finite(self, message: Any) -> list[str]:
        """Names of the spec's joints whose position in this message is NaN or infinite."""
        return [n for n, p in zip(message.name, message.position) if n in self._index and not math.isfinite(p)]

    def _layout(self, names: tuple[str, ...]) -> tuple[list[int], list[int]]:
        layout = self._layouts.get(names)
        if layout is None:
            if len(set(names)) != len(names):
                twice = next(name for name in names if names.count(name) > 1)
                raise DecodeError(f'joint {twice!r} is named twice in one message')
            source = [i for i, name in enumerate(names) if name in self._index]
            layout = source, [self._index[names[i]] for i in source]
            self.unknown += [n for n in names if n not in self._index and n not in self.unknown][: 16 - len(self.unknown)]
            if len(self._layouts) < 64:  # a publisher that never repeats itself must not fill the memory
                self._layouts[names] = layout
        return layout


class JointSeries:
    """The recent positions of one joint, sorted by stamp."""

    def __init__(self) -> None:
        self._samples: list[tuple[int, float]] = []

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, stamp_ns: int, position: float, horizon_ns: int, limit: int) -> None:
        """Insert a sample, then forget those a horizon older than the newest, and all but the newest `limit`.

        A sample that is itself older than that means that the publisher's clock jumped: the series begins again.
        """
        samples = self._samples
        if samples and stamp_ns < samples[-1][0] - horizon_ns:
            samples.clear()
        if not samples or stamp_ns > samples[-1][0]:
            samples.append((stamp_ns, position))
        else:
            at = bisect_left(samples, (stamp_ns,))
            if at < len(samples) and samples[at][0] == stamp_ns:
                samples[at] = (stamp_ns, position)
            else:
                insort(samples, (stamp_ns, position))
        # Forgetting in steps keeps the cost of moving the list away from every message.
        stale = max(bisect_left(samples, (samples[-1][0] - horizon_ns,)), len(samples) - limit)
        if stale > 64 or len(samples) > limit:
            del samples[:stale]

    def clear_if_after(self, stamp_ns: int) -> None:
        """Forget everything if the newest sample is later than the stamp."""
        if self._samples and self._samples[-1][0] > stamp_ns:
            self._samples.clear()

    def reaches(self, stamp_ns: int) -> bool:
        """Whether a sample at or after the stamp has come."""
        return bool(self._samples) and self._samples[-1][0] >= stamp_ns

    def at(self, stamp_ns: int, max_age_ns: int) -> tuple[float, int] | None:
        """The position at a stamp, and the stamp it speaks for.

        Linear between the samples around it; the last one before, held, when none comes after.
        None when a sample it rests on lies further than `max_age_ns` from the stamp, or there is none before.
        """
        samples = self._samples
        after = bisect_right(samples, (stamp_ns, math.inf))
        if after == 0:
            return None
        before_ns, before = samples[after - 1]
        if stamp_ns - before_ns > max_age_ns:
            return None
        if before_ns == stamp_ns:
            return before, stamp_ns
        if after == len(samples):
            return before, before_ns
        after_ns, later = samples[after]
        if after_ns - stamp_ns > max_age_ns:
            return None
        weight = (stamp_ns - before_ns) / (after_ns - before_ns)
        return before + weight * (later - before), stamp_ns


class JointBuffer:
    """One series a joint."""

    def __init__(self, joint_names: Sequence[str], horizon_ns: int, max_age_ns: int, limit: int) -> None:
        self.names = tuple(joint_names)
        self._horizon_ns = horizon_ns
        self._max_age_ns = max_age_ns
        self._limit = limit
        self._series = [JointSeries() for _ in self.names]

    def __len__(self) -> int:
        return sum(map(len, self._series))

    def clear(self) -> None:
        """Forget every sample."""
        self._series = [JointSeries() for _ in self.names]

    def add(self, sample: JointSample) -> None:
        """Take the joints that the sample brings."""
        for series, position in zip(self._series, sample.positions.tolist()):
            if position == position:  # not NaN
                series.add(sample.stamp_ns, position, self._horizon_ns, self._limit)

    def clear_if_after(self, stamp_ns: int) -> None:
        """Forget each joint whose newest sample is later than the stamp."""
        for series in self._series:
            series.clear_if_after(stamp_ns)

    def reaches(self, stamp_ns: int) -> bool:
        """Whether every joint has a sample at or after the stamp."""
        return all(series.reaches(stamp_ns) for series in self._series)

    def at(self, stamp_ns: int) -> tuple[NDArray[np.float64], int] | list[str]:
        """Positions float64 [J] at a stamp with the oldest stamp they speak for, or the names of the joints without."""
        answers = [series.at(stamp_ns, self._max_age_ns) for series in self._series]
        found = [answer for answer in answers if answer is not None]
        if len(found) < len(answers):
            return [name for name, answer in zip(self.names, answers) if answer is None]
        return np.array([position for position, _ in found]), min(stamp for _, stamp in found)
