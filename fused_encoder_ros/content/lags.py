"""The lag at which the joints explain the motion in a camera's pictures best, measured in three ways.

All take the flow between two frames as linear in the way that the joints went between the same two stamps, moved by the lag,
by factors that depend on the pose:

- factors that are linear in the pose, for the whole picture: what a camera on an arm sees
- factors of second degree, for each quarter of the picture by itself: what a fixed camera sees of the arms
- factors that are smooth functions of any kind, for the whole picture

No such model is exact. Where it leaves room for a wrong lag, the three rarely agree on one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.content.motion import BLOCKS, Move

MOST_MS = 300
"""Largest lag that is looked for."""

STEP_MS = 10
LAGS_MS = np.arange(-MOST_MS, MOST_MS + 1, STEP_MS)

MOVED = 0.01
"""A joint that has gone so far, rad or m, moves."""

_LEAST_MOVES = 100
_PART_S = 3.0
_LEAST_PARTS, _MOST_PARTS = 5, 20
_RIDGE = 1e-3

_MOST_POINTS = 450
"""Moves that the third way takes; its cost grows with their cube."""
_NEAR_MS = 40
_LENGTHS = (1.0, 1.5, 2.2, 3.3)
"""Over which the factors change, in standard deviations of the pose."""
_NOISES = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Variance of the flow that is noise, as a share of what the motion makes."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Model:
    """How the factors depend on the pose: as polynomials.

    Attributes:
        components: of the flow that are explained.
        directions: of the motion that are followed in how they depend on the pose. With more, smooth motion fits at any lag.
        degree: of the polynomials, 1 or 2.
        is_of_quarters: for each quarter of the picture by itself.
    """

    components: int
    directions: int
    degree: int
    is_of_quarters: bool


# A camera on an arm has six ways to move, and a fixed one sees as many of each arm.
WHOLE = Model(components=8, directions=4, degree=1, is_of_quarters=False)
QUARTERS = Model(components=4, directions=2, degree=2, is_of_quarters=True)


@dataclass(frozen=True)
class Lag:
    """A lag and its standard deviation, ms."""

    ms: float
    deviation_ms: float


@dataclass(frozen=True, eq=False)
class Fit:
    """How well the joints explain the moves of a camera.

    Attributes:
        explained: share of the flow's variance at each of the lags, float64 [L].
        predicted: share at the best lag, of each part of the time by the others; can be negative.
        lag: the best one.
    """

    explained: Floats
    predicted: float
    lag: Lag


@dataclass(frozen=True, eq=False)
class JointCurves:
    """The joints that move: `curves` has times in seconds and positions of each, `times` those of all."""

    start_ns: int
    times: Floats
    curves: list[tuple[Floats, Floats]]

    @classmethod
    def of(cls, samples: Sequence[tuple[int, Floats]]) -> JointCurves:
        """Of times in nanoseconds and positions, float64 [J] with NaN for those that are not known."""
        if not samples:
            return cls(0, np.empty(0), [])
        stamps, first = np.unique([time_ns for time_ns, _ in samples], return_index=True)
        rows = np.array([samples[number][1] for number in first])
        times = (stamps - stamps[0]) / 1e9
        curves = []
        for column in rows.T:
            here = ~np.isnan(column)
            if here.sum() > 1 and np.ptp(column[here]) > MOVED:
                curves.append((times[here], column[here] - column[here].mean()))
        return cls(int(stamps[0]), times, curves)

    def at(self, times: Floats) -> Floats:
        """Positions float64 [N,J]."""
        return np.column_stack([np.interp(times, at, positions) for at, positions in self.curves])


@dataclass(frozen=True, eq=False)
class Moves:
    """Moves of a camera while the joints are known: times of their frames in seconds [N], and their flow [N,72]."""

    begins: Floats
    ends: Floats
    flow: Floats
    joints: JointCurves

    @classmethod
    def of(cls, moves: Sequence[Move], joints: JointCurves) -> Moves:
        """Those of the moves that the joints reach around, at any lag."""
        begins, ends = (
            np.array([(ns - joints.start_ns) / 1e9 for ns in times])
            for times in ([move.begin_ns for move in moves], [move.end_ns for move in moves])
        )
        reach = MOST_MS / 1e3
        inside = (begins - reach >= joints.times[0]) & (ends + reach <= joints.times[-1])
        flow = np.array([move.flow for move, use in zip(moves, inside) if use], np.float64)
        return cls(begins[inside], ends[inside], flow.reshape(-1, 2 * BLOCKS**2), joints)

    def poses(self, lag_ms: float) -> tuple[Floats, Floats]:
        """Of the joints at both ends, float64 [N,J] each."""
        return self.joints.at(self.begins + lag_ms / 1e3), self.joints.at(self.ends + lag_ms / 1e3)

    @cached_property
    def poses_by_lag(self) -> list[tuple[Floats, Floats]]:
        """At each of the lags."""
        return [self.poses(float(lag_ms)) for lag_ms in LAGS_MS]

    def problem(self) -> str:
        """Why nothing can be said of them; empty when something can."""
        if self.begins.size < _LEAST_MOVES:
            return f'only {self.begins.size} pictures while the joints move; {_LEAST_MOVES} are needed'
        return '' if (np.ptp(self.flow, axis=0) > 0).any() else 'nothing moves in its pictures'


def fit(moves: Moves, model: Model) -> Fit:
    """The lag of the greatest explained share."""
    seconds = np.cumsum(moves.ends - moves.begins)
    parts = int(np.clip(seconds[-1] / _PART_S, _LEAST_PARTS, _MOST_PARTS))
    of_part = np.minimum(seconds / seconds[-1] * parts, parts - 1).astype(int)
    cuts = np.searchsorted(of_part, np.arange(parts))
    regions = [
        _region(_main_components(flow, model.components), moves.poses_by_lag, cuts, model)
        for flow in (_quarters(moves.flow) if model.is_of_quarters else [moves.flow])
    ]

    sums = [(squares.sum(axis=1), products.sum(axis=1)) for squares, products, _ in regions]

    def explained_without(part: int) -> Floats:
        of_regions = [
            _explained(all_squares - squares[:, part], all_products - products[:, part])
            for (all_squares, all_products), (squares, products, _) in zip(sums, regions)
        ]
        return np.sum(of_regions, axis=0)

    explained = np.sum([_explained(*of_region) for of_region in sums], axis=0)
    without_ms = np.array([_peak_ms(LAGS_MS, explained_without(part)) for part in range(parts)])
    # Jackknife over the parts, with more for so few.
    deviation = np.sqrt((parts - 1) / parts * ((without_ms - without_ms.mean()) ** 2).sum()) * (1 + 1.4 / (parts - 1))
    best = int(explained.argmax())
    total = sum(its.sum() for *_, its in regions)
    missed = sum(_missed(squares[best], products[best], its) for squares, products, its in regions)
    return Fit(explained / total, float(1 - missed / total), Lag(_peak_ms(LAGS_MS, explained), float(deviation)))


def _region(
    flow: Floats, poses: Sequence[tuple[Floats, Floats]], cuts: NDArray[np.int_], model: Model
) -> tuple[Floats, Floats, Floats]:
    """Products of the terms with each other and with the flow, by lag and part, and the flow's sum of squares by part."""
    squares, products = [], []
    for begin, end in poses:
        terms = np.split(_terms(begin, end, flow, model), cuts[1:])
        squares.append([part.T @ part for part in terms])
        products.append([part.T @ its for part, its in zip(terms, np.split(flow, cuts[1:]))])
    return np.array(squares), np.array(products), np.add.reduceat((flow**2).sum(axis=1), cuts)


def _quarters(flow: Floats) -> list[Floats]:
    half = BLOCKS // 2
    blocks = flow.reshape(-1, 2, half, 2, half, 2)
    return [blocks[:, row, :, column].reshape(len(flow), -1) for row in range(2) for column in range(2)]


def _main_components(flow: Floats, count: int) -> Floats:
    """The main components of flows, float64 [N,count], with what is far out held back."""
    flow = flow - flow.mean(axis=0)
    limit = np.percentile(np.abs(flow), 99, axis=0)
    flow = np.clip(flow, -limit, limit)
    _, axes = np.linalg.eigh(flow.T @ flow)
    return flow @ axes[:, : -count - 1 : -1]


def _directions(begin: Floats, end: Floats, flow: Floats, count: int) -> tuple[Floats, Floats]:
    """The joints' way, and the pose, along the directions that show most in the flow, float64 [N,count] each."""
    way = end - begin
    found = np.linalg.solve(_with_ridge(way.T @ way), way.T @ flow)
    shown = way @ found
    _, axes = np.linalg.eigh(shown.T @ shown)
    directions = found @ axes[:, : -count - 1 : -1]
    return way @ directions, (begin + end) / 2 @ directions


def _terms(begin: Floats, end: Floats, flow: Floats, model: Model) -> Floats:
    """What explains the flow, float64 [N,K]: the way, and its products with the powers of the pose."""
    way, pose = _directions(begin, end, flow, model.directions)
    pose = pose / _spread(pose)
    powers = [
        pose[:, list(which)].prod(axis=1, keepdims=True)
        for degree in range(1, model.degree + 1)
        for which in combinations_with_replacement(range(model.directions), degree)
    ]
    terms = np.concatenate([way, *(way * power for power in powers)], axis=1)
    return terms / _spread(terms)  # type: ignore[no-any-return]


def _spread(values: Floats) -> Floats:
    return values.std(axis=0) + 1e-12  # type: ignore[no-any-return]


def _with_ridge(square: Floats) -> Floats:
    """Of square matrices [...,K,K], with a little added on their diagonals."""
    size = square.shape[-1]
    mean = np.trace(square, axis1=-2, axis2=-1)[..., np.newaxis, np.newaxis] / size
    return square + (_RIDGE * mean + 1e-12) * np.eye(size)  # type: ignore[no-any-return]


def _explained(square: Floats, product: Floats) -> Floats:
    """What of the flow's sum of squares is explained, by lag."""
    return (product * np.linalg.solve(_with_ridge(square), product)).sum(axis=(1, 2))  # type: ignore[no-any-return]


def _missed(square: Floats, product: Floats, total: Floats) -> float:
    """What of the flow's sum of squares in each part the other parts do not foretell."""
    found = np.linalg.solve(_with_ridge(square.sum(axis=0) - square), product.sum(axis=0) - product)
    missed = total - 2 * (found * product).sum(axis=(1, 2)) + np.einsum('pik,pij,pjk->p', found, square, found)
    return float(missed.sum())


def _peak_ms(lags_ms: NDArray[np.int_], curve: Floats) -> float:
    """Where a curve is highest, between the steps by a parabola."""
    best = int(curve.argmax())
    if not 0 < best < curve.size - 1:
        return float(lags_ms[best])
    before, at, after = curve[best - 1 : best + 2]
    return float(lags_ms[best] + STEP_MS * 0.5 * (before - after) / (before - 2 * at + after))


def refine(moves: Moves, near_ms: float) -> Lag | None:
    """The most likely lag near another one, with factors that are smooth functions of the pose; None if there is none.

    The functions are a Gaussian process, whose length and noise are the most likely ones (Rasmussen and Williams, Gaussian
    Processes for Machine Learning, 2006, chapter 5).
    """
    every = slice(None, None, -(-moves.begins.size // _MOST_POINTS))
    flow = _main_components(moves.flow, WHOLE.components)[every]
    middle_ms = round(near_ms / STEP_MS) * STEP_MS
    lags_ms = np.arange(middle_ms - _NEAR_MS, middle_ms + _NEAR_MS + 1, STEP_MS)
    points = []
    for lag_ms in lags_ms:
        begin, end = moves.poses(float(lag_ms))
        points.append(_directions(begin[every], end[every], flow, WHOLE.directions))
    middle = points[lags_ms.size // 2]
    length, noise = max(
        ((length, noise) for length in _LENGTHS for noise in _NOISES), key=lambda both: _log_likelihood(*middle, flow, *both)
    )
    curve = np.array([_log_likelihood(way, pose, flow, length, noise) for way, pose in points])
    best = int(curve.argmax())
    if not 0 < best < curve.size - 1:
        return None
    # The curvature of the likelihood at its peak is the inverse of the variance.
    bend = (2 * curve[best] - curve[best - 1] - curve[best + 1]) / STEP_MS**2
    return Lag(_peak_ms(lags_ms, curve), float(1 / np.sqrt(bend)))


def _log_likelihood(way: Floats, pose: Floats, flow: Floats, length: float, noise: float) -> float:
    """Of the flow, at its most likely scale; less a constant."""
    way = way / np.sqrt((way**2).sum(axis=1).mean() + 1e-12)
    pose = pose / (length * np.sqrt(pose.var(axis=0).sum() + 1e-12))
    squares = (pose**2).sum(axis=1)
    apart = squares[:, np.newaxis] + squares - 2 * pose @ pose.T
    covariance = way @ way.T * np.exp(-apart / 2) + noise * np.eye(len(way))
    log_determinant = 2 * np.log(np.diag(np.linalg.cholesky(covariance))).sum()
    misfit = (flow * np.linalg.solve(covariance, flow)).sum() / flow.size
    return float(-(flow.size * np.log(misfit) + flow.shape[1] * log_determinant) / 2)
