"""By how much the stamps of a camera lie beside those of the joints: what its pictures show of the motion, against the joints.

The flow between two frames is explained by the way that the joints went between the same two stamps, moved by a lag. The lag
that explains it best is the offset of the camera's stamps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.content.motion import Motion, Move

MOST_MS = 300
"""Largest offset that is looked for."""

LEAST_S, ENOUGH_S = 15.0, 60.0
"""Seconds of motion that are needed, and after which no more are looked at."""

_STEP_MS = 10
_LAGS_MS = np.arange(-MOST_MS, MOST_MS + 1, _STEP_MS)

_MOVED = 0.01
"""A joint that has gone so far, rad or m, moves, and is held to move for a second more."""
_HOLD_NS = 1_000_000_000

_MOST_SAMPLES, _MOST_RECENT = 100_000, 4096
"""Of the joints, whatever their rate and their stamps."""

_COMPONENTS = 8
"""Of the flow: a camera on an arm has six ways to move, and a fixed one sees as many of each arm."""
_DIRECTIONS = 4
"""Of the motion that are followed in how they depend on the pose: with more, smooth motion fits at any lag."""
_RIDGE = 1e-3
_PART_S = 3.0
_LEAST_PARTS, _MOST_PARTS = 5, 20
_LEAST_MOVES = 100

_WORTH = 0.05
"""Long steps are worth it for so much more of the motion: what is between them is not seen."""

_LEAST_EXPLAINED = 0.7
_WIDEST_MS = 12.0

Floats = NDArray[np.float64]


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
        is_far = np.abs(positions - self._from) > _MOVED
        self._from = np.where(is_new | is_far, positions, self._from)
        return bool(is_far.any())

    def offsets(self) -> dict[str, Offset]:
        """What can be told of each camera so far."""
        joints = _Joints.of(self._joints)
        return {camera: self._offset(camera, joints) for camera in self._moves}

    def _offset(self, camera: str, joints: _Joints) -> Offset:
        seconds = self._seconds[camera]
        if seconds < LEAST_S or not joints.curves:
            seen = f'only {seconds:.0f} s of pictures while a joint moves' if joints.curves else 'no joint moves'
            return _unknown(f'{seen}; {LEAST_S:.0f} s of motion are needed', seconds)
        short, long = (
            _fit([move for move in self._moves[camera] if move.is_long is is_long], joints) for is_long in (False, True)
        )
        if isinstance(short, str):
            return _unknown(short, seconds)
        return _judge(long if isinstance(long, _Fit) and long.predicted > short.predicted + _WORTH else short, seconds)


def _unknown(problem: str, seconds: float, explained: dict[int, float] | None = None) -> Offset:
    return Offset(None, None, None, problem, seconds, explained or {})


@dataclass(frozen=True, eq=False)
class _Joints:
    """The joints that move: `curves` has times in seconds and positions of each, `times` those of all."""

    start_ns: int
    times: Floats
    curves: list[tuple[Floats, Floats]]

    @classmethod
    def of(cls, samples: Sequence[tuple[int, Floats]]) -> _Joints:
        if not samples:
            return cls(0, np.empty(0), [])
        stamps, first = np.unique([time_ns for time_ns, _ in samples], return_index=True)
        rows = np.array([samples[number][1] for number in first])
        times = (stamps - stamps[0]) / 1e9
        curves = []
        for column in rows.T:
            here = ~np.isnan(column)
            if here.sum() > 1 and np.ptp(column[here]) > _MOVED:
                curves.append((times[here], column[here] - column[here].mean()))
        return cls(int(stamps[0]), times, curves)

    def at(self, times: Floats) -> Floats:
        """Positions float64 [N,J]."""
        return np.column_stack([np.interp(times, at, positions) for at, positions in self.curves])


@dataclass(frozen=True, eq=False)
class _Fit:
    """How well the joints explain the moves of a camera.

    Attributes:
        explained: share at each of the lags, float64 [L].
        predicted: share at the best lag, of each part by the others.
        best_ms: the best lag.
        without_ms: the best lag without each of the parts.
    """

    explained: Floats
    predicted: float
    best_ms: float
    without_ms: Floats


def _fit(moves: Sequence[Move], joints: _Joints) -> _Fit | str:
    """How well the joints explain the moves, or why that cannot be said."""
    begins, ends = (
        np.array([(ns - joints.start_ns) / 1e9 for ns in times])
        for times in ([move.begin_ns for move in moves], [move.end_ns for move in moves])
    )
    reach = MOST_MS / 1e3
    inside = (begins - reach >= joints.times[0]) & (ends + reach <= joints.times[-1])
    begins, ends = begins[inside], ends[inside]
    if inside.sum() < _LEAST_MOVES:
        return f'only {inside.sum()} pictures while the joints move; {_LEAST_MOVES} are needed'
    flow = _main_components(np.array([move.flow for move, use in zip(moves, inside) if use], np.float64))
    seconds = np.cumsum(ends - begins)
    parts = int(np.clip(seconds[-1] / _PART_S, _LEAST_PARTS, _MOST_PARTS))
    of_part = np.minimum(seconds / seconds[-1] * parts, parts - 1).astype(int)
    cuts = np.searchsorted(of_part, np.arange(parts))
    total = np.add.reduceat((flow**2).sum(axis=1), cuts)
    if not total.sum() > 0:
        return 'nothing moves in its pictures'
    squares, products = [], []
    for lag_ms in _LAGS_MS:
        way = _way(joints.at(begins + lag_ms / 1e3), joints.at(ends + lag_ms / 1e3), flow)
        squares.append([part.T @ part for part in np.split(way, cuts[1:])])
        products.append([w.T @ f for w, f in zip(np.split(way, cuts[1:]), np.split(flow, cuts[1:]))])
    a, b = np.array(squares), np.array(products)
    explained = _explained(a.sum(axis=1), b.sum(axis=1), total.sum())
    without = [
        _peak_ms(_explained(a.sum(axis=1) - a[:, part], b.sum(axis=1) - b[:, part], total.sum() - total[part]))
        for part in range(parts)
    ]
    best = int(explained.argmax())
    return _Fit(explained, _predicted(a[best], b[best], total), _peak_ms(explained), np.array(without))


def _main_components(flow: Floats) -> Floats:
    """The main components of flows, float64 [N,8], with what is far out held back."""
    flow = flow - flow.mean(axis=0)
    limit = np.percentile(np.abs(flow), 99, axis=0)
    flow = np.clip(flow, -limit, limit)
    _, axes = np.linalg.eigh(flow.T @ flow)
    return flow @ axes[:, : -_COMPONENTS - 1 : -1]


def _way(begin: Floats, end: Floats, flow: Floats) -> Floats:
    """What explains the flow, float64 [N,20]: the joints' way along the directions that show in it, also times the pose."""
    way, pose = end - begin, (begin + end) / 2
    square = way.T @ way
    found = np.linalg.solve(_with_ridge(square), way.T @ flow)
    shown = way @ found
    _, axes = np.linalg.eigh(shown.T @ shown)
    directions = found @ axes[:, : -_DIRECTIONS - 1 : -1]
    main, along = way @ directions, pose @ directions
    along = along / _spread(along)
    terms = np.concatenate([main, *(main * along[:, [i]] for i in range(_DIRECTIONS))], axis=1)
    return terms / _spread(terms)  # type: ignore[no-any-return]


def _spread(values: Floats) -> Floats:
    return values.std(axis=0) + 1e-12  # type: ignore[no-any-return]


def _with_ridge(square: Floats) -> Floats:
    """Of square matrices [...,K,K], with a little added on their diagonals."""
    size = square.shape[-1]
    mean = np.trace(square, axis1=-2, axis2=-1)[..., np.newaxis, np.newaxis] / size
    return square + (_RIDGE * mean + 1e-12) * np.eye(size)  # type: ignore[no-any-return]


def _explained(square: Floats, product: Floats, total: float) -> Floats:
    """Share of the flow's variance that is explained, by lag."""
    return (product * np.linalg.solve(_with_ridge(square), product)).sum(axis=(1, 2)) / total  # type: ignore[no-any-return]


def _predicted(square: Floats, product: Floats, total: Floats) -> float:
    """Share of the flow's variance in each part that the other parts foretell; can be negative."""
    found = np.linalg.solve(_with_ridge(square.sum(axis=0) - square), product.sum(axis=0) - product)
    missed = total - 2 * (found * product).sum(axis=(1, 2)) + np.einsum('pik,pij,pjk->p', found, square, found)
    return 1.0 - float(missed.sum() / total.sum())


def _peak_ms(explained: Floats) -> float:
    """The best lag, between the steps by a parabola."""
    best = int(explained.argmax())
    if not 0 < best < explained.size - 1:
        return float(_LAGS_MS[best])
    before, at, after = explained[best - 1 : best + 2]
    return float(_LAGS_MS[best] + _STEP_MS * 0.5 * (before - after) / (before - 2 * at + after))


def _judge(fit: _Fit, seconds: float) -> Offset:
    explained = {int(ms): round(float(share), 4) for ms, share in zip(_LAGS_MS, fit.explained)}
    parts = fit.without_ms.size
    # Jackknife over the parts, with Student's factor for so few.
    deviation = np.sqrt((parts - 1) / parts * ((fit.without_ms - fit.without_ms.mean()) ** 2).sum())
    half_ms = float(deviation * (1.96 + 2.8 / (parts - 1)))
    problem = ''
    if fit.predicted < _LEAST_EXPLAINED:
        share = f'{100 * max(fit.predicted, 0):.0f} %'
        problem = f'its pictures do not follow the joints, which explain only {share} of the motion in the pictures'
    elif abs(fit.best_ms) >= MOST_MS - _STEP_MS:
        problem = f'no offset of up to {MOST_MS} ms fits'
    elif half_ms > _WIDEST_MS:
        problem = f'it could be measured only to ±{half_ms:.0f} ms; record more motion, or more varied motion'
    if problem:
        return _unknown(problem, seconds, explained)
    return Offset(fit.best_ms, fit.best_ms - half_ms, fit.best_ms + half_ms, '', seconds, explained)
