"""By how much the stamps of a camera lie beside those of the joints: what its pictures show of the motion, against the joints.

The lag at which the joints explain the motion in the pictures best is the offset of the camera's stamps, see `lags`.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.content.lags import (
    LAGS_MS,
    MOST_MS,
    MOVED,
    QUARTERS,
    STEP_MS,
    WHOLE,
    Fit,
    Floats,
    JointCurves,
    Lag,
    Moves,
    fit,
    refine,
)
from fused_encoder_ros.content.motion import Motion, Move

LEAST_S, ENOUGH_S = 15.0, 60.0
"""Seconds of motion that are needed, and after which no more are looked at."""

_HOLD_NS = 1_000_000_000
"""So long after it has moved, a joint is held to move."""

_MOST_SAMPLES, _MOST_RECENT = 100_000, 4096
"""Of the joints, whatever their rate and their stamps."""

_WORTH = 0.05
"""Long steps are worth it for so much more of the motion: what is between them is not seen."""

_LEAST_EXPLAINED = 0.7
_WIDEST_MS = 9.0
_FARTHEST_MS = 4.0
"""Between the results of two ways to measure it: farther apart, one of them at least is wrong."""

_INEXACT_MS = 2.0
"""By which a lag can be off without a sign of it, since no model is exact: a standard deviation."""


_MORE = 'record more motion, or more varied motion'


@dataclass(frozen=True)
class Offset:
    """The offset of a camera's stamps to those of the joints.

    Attributes:
        ms: added to the camera's stamps, it makes its pictures fit the joints: negative where they are older than their stamps
            say. None when it cannot be told.
        low_ms, high_ms: 95 % interval; goes with `ms`.
        problem: why it cannot be told; empty when it can.
        motion_s: seconds of motion that were looked at.
        explained: share of the motion in the pictures that the joints explain, by offset in ms; empty without enough motion.
    """

    ms: float | None
    low_ms: float | None
    high_ms: float | None
    problem: str
    motion_s: float
    explained: dict[int, float]

    def is_beyond(self, ms: float) -> bool:
        """Whether it certainly is larger than so many ms, one way or the other."""
        return self.low_ms is not None and self.high_ms is not None and (self.low_ms > ms or self.high_ms < -ms)


class OffsetMeter:
    """Takes frames and joints as they come, and tells the offset of each camera. Keeps a minute of motion, and no pictures.

    While the joints rest, nothing is computed.
    """

    def __init__(self, cameras: Sequence[str]) -> None:
        self._motions = {camera: Motion() for camera in cameras}
        self._moves: dict[str, list[Move]] = {camera: [] for camera in cameras}
        self._seconds = dict.fromkeys(cameras, 0.0)
        self._recent: deque[tuple[int, Floats]] = deque(maxlen=_MOST_RECENT)
        self._joints: list[tuple[int, Floats]] = []
        self._from: Floats = np.empty(0)
        self._moves_until_ns = 0

    def see_frame(self, camera: str, time_ns: int, pixels: NDArray[np.uint8]) -> None:
        """Take a camera's next frame, uint8 [S,S,3] RGB."""
        if self._seconds[camera] >= ENOUGH_S:
            return
        if time_ns > self._moves_until_ns:
            self._motions[camera].forget()
            return
        for move in self._motions[camera].see(time_ns, pixels):
            self._moves[camera].append(move)
            if not move.is_long:
                self._seconds[camera] += (move.end_ns - move.begin_ns) / 1e9

    def see_joints(self, time_ns: int, positions: Floats) -> None:
        """Take joint positions, float64 [J]; NaN for those that the message does not bring."""
        if len(self._joints) >= _MOST_SAMPLES:
            return
        if self._has_moved(positions) and min(self._seconds.values()) < ENOUGH_S:
            self._moves_until_ns = time_ns + _HOLD_NS
        self._recent.append((time_ns, positions))
        if time_ns <= self._moves_until_ns:
            self._joints += self._recent
            self._recent.clear()
        while self._recent and not 0 <= time_ns - self._recent[0][0] <= _HOLD_NS:
            self._recent.popleft()

    def _has_moved(self, positions: Floats) -> bool:
        """Whether a joint is far from where it was when it last was."""
        if not self._from.size:
            self._from = np.full(positions.shape, np.nan)
        is_new = np.isnan(self._from)
        is_far = np.abs(positions - self._from) > MOVED
        self._from = np.where(is_new | is_far, positions, self._from)
        return bool(is_far.any())

    def offsets(self) -> dict[str, Offset]:
        """What can be told of each camera so far."""
        joints = JointCurves.of(self._joints)
        return {camera: self._offset(camera, joints) for camera in self._moves}

    def _offset(self, camera: str, joints: JointCurves) -> Offset:
        seconds = self._seconds[camera]
        if seconds < LEAST_S or not joints.curves:
            seen = f'only {seconds:.0f} s of pictures while a joint moves' if joints.curves else 'no joint moves'
            return _unknown(f'{seen}; {LEAST_S:.0f} s of motion are needed', seconds)
        short, long = (
            Moves.of([move for move in self._moves[camera] if move.is_long is is_long], joints) for is_long in (False, True)
        )
        if problem := short.problem():
            return _unknown(problem, seconds)
        whole, moves = fit(short, WHOLE), short
        if not long.problem():
            of_long = fit(long, WHOLE)
            if of_long.predicted > whole.predicted + _WORTH:
                whole, moves = of_long, long
        return _judge(whole, moves, seconds)


def _unknown(problem: str, seconds: float, explained: dict[int, float] | None = None) -> Offset:
    return Offset(None, None, None, problem, seconds, explained or {})


def _judge(whole: Fit, moves: Moves, seconds: float) -> Offset:
    explained = {int(ms): round(float(share), 4) for ms, share in zip(LAGS_MS, whole.explained)}
    if whole.predicted < _LEAST_EXPLAINED:
        share = f'{100 * max(whole.predicted, 0):.0f} %'
        problem = f'its pictures do not follow the joints, which explain only {share} of the motion in the pictures'
        return _unknown(problem, seconds, explained)
    if abs(whole.lag.ms) >= MOST_MS - STEP_MS:
        return _unknown(f'no offset of up to {MOST_MS} ms fits', seconds, explained)
    first = _weighed(whole.lag, fit(moves, QUARTERS).lag)
    second = refine(moves, first.ms)
    if second is None or abs(second.ms - first.ms) > _FARTHEST_MS:
        return _unknown(f'two ways to measure it disagree; {_MORE}', seconds, explained)
    ms = _weighed(first, second).ms
    # They are of the same pictures, so that together they are not more certain than each.
    variance = _INEXACT_MS**2 + (first.deviation_ms**2 + second.deviation_ms**2) / 2
    half_ms = math.hypot(1.96 * math.sqrt(variance), (first.ms - second.ms) / 2)
    if half_ms > _WIDEST_MS:
        return _unknown(f'it could be measured only to ±{half_ms:.0f} ms; {_MORE}', seconds, explained)
    return Offset(ms, ms - half_ms, ms + half_ms, '', seconds, explained)


def _weighed(one: Lag, other: Lag) -> Lag:
    """What two measurements of a lag say together, by their certainty."""
    weights = [1 / (_INEXACT_MS**2 + lag.deviation_ms**2) for lag in (one, other)]
    ms = (weights[0] * one.ms + weights[1] * other.ms) / sum(weights)
    return Lag(ms, min(one.deviation_ms, other.deviation_ms))
