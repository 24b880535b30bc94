"""Two files of features against each other, matched by stamp."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.diagnosis.wording import span
from fused_encoder_ros.errors import FeaturesError
from fused_encoder_ros.offline.compare.recorded import STAMP_SUFFIX, RecordedFeatures
from fused_encoder_ros.offline.provenance import differences

_ROWS = 4096
_PARTS = 250


@dataclass(frozen=True)
class Figures:
    """How far features are apart, over sets: of each set the largest absolute difference of a value counts.

    Attributes:
        sets: number of sets.
        median, p99, largest: of the differences.
        relative: the largest difference as a share of the largest value of that set in A; None where that is 0.
        cosine_median, cosine_least: of the angle between both features; 1 where they are equal, 0 where one is zero.
    """

    sets: int
    median: float
    p99: float
    largest: float
    relative: float | None
    cosine_median: float
    cosine_least: float


@dataclass(frozen=True)
class InputDifference:
    """One input of the encoder that differs.

    Attributes:
        name: of the column.
        sets: in how many sets of both it differs.
        largest: the largest difference, in ms of stamps and skews, in rad or m of joints; None where their number differs.
    """

    name: str
    sets: int
    largest: float | None


@dataclass(frozen=True)
class Side:
    """What one file alone says.

    Attributes:
        file: its path.
        sets: in it.
        alone: sets that the other one lacks.
        alone_outside: of these, how many lie before the first or after the last set of the other one.
        not_finite: sets whose feature holds NaN or infinity.
        made_with: what it says it was made with.
    """

    file: str
    sets: int
    alone: int
    alone_outside: int
    not_finite: int
    made_with: dict[str, Any]


@dataclass(frozen=True)
class OverTime:
    """Parts of equal length from the first to the last set of both files.

    Attributes:
        begin_ns: stamp of the first set.
        part_s: length of a part, seconds.
        largest: the largest difference in each part; None where no set is in both.
        a_alone, b_alone, other_inputs: number of sets in each part.
    """

    begin_ns: int
    part_s: float
    largest: list[float | None]
    a_alone: list[int]
    b_alone: list[int]
    other_inputs: list[int]


@dataclass(frozen=True)
class Comparison:
    """Two files against each other.

    Attributes:
        a, b: the files.
        sets: in both.
        equal: sets whose features are equal, bit for bit.
        figures: of the sets in both whose features are finite; None where there is none.
        figures_same_inputs: the same of those that are known to be made of the same frames and joints.
        worst_ns: stamp of the set with the largest difference; None without figures.
        dimensions_largest: the largest absolute difference of each dimension; empty without figures.
        dimensions_mean: the mean of B minus A of each dimension.
        inputs_known: sets in both of which both files say what they are made of.
        other_inputs: of these, how many are made of other frames or joints.
        inputs: which inputs differ.
        made_with: name and both values of what the files were made with differently, as far as both say it.
        over_time: the sets along the recording.
    """

    a: Side
    b: Side
    sets: int
    equal: int
    figures: Figures | None
    figures_same_inputs: Figures | None
    worst_ns: int | None
    dimensions_largest: list[float]
    dimensions_mean: list[float]
    inputs_known: int
    other_inputs: int
    inputs: list[InputDifference]
    made_with: list[tuple[str, Any, Any]]
    over_time: OverTime

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        made_with = [{'name': name, 'a': a, 'b': b} for name, a, b in self.made_with]
        return {**asdict(self), 'made_with': made_with}


def compare(a: RecordedFeatures, b: RecordedFeatures) -> Comparison:
    """Compare the sets that have the same stamp. Memory: some bytes a set.

    Raises:
        FeaturesError: when no stamp is in both, or the features have different lengths.
    """
    if a.values.shape[1] != b.values.shape[1]:
        raise FeaturesError(
            f'{a.path} has features of {a.values.shape[1]} values, {b.path} of {b.values.shape[1]}: they come from encoders '
            'of different size and cannot be compared'
        )
    stamps_ns, rows_a, rows_b = np.intersect1d(a.stamps_ns, b.stamps_ns, assume_unique=True, return_indices=True)
    if not stamps_ns.size:
        raise FeaturesError(_nothing_in_common(a, b))
    said = [key for key in a.made_with if key in b.made_with]
    by_set = _BySet(a, b, rows_a, rows_b)
    inputs, known, other = _inputs(a, b, rows_a, rows_b)
    side_a, alone_a = _side(a, b)
    side_b, alone_b = _side(b, a)
    worst = int(np.nanargmax(by_set.largest)) if by_set.finite.any() else None
    return Comparison(
        a=side_a,
        b=side_b,
        sets=stamps_ns.size,
        equal=int(by_set.equal.sum()),
        figures=by_set.figures(by_set.finite),
        figures_same_inputs=by_set.figures(by_set.finite & known & ~other),
        worst_ns=None if worst is None else int(stamps_ns[worst]),
        dimensions_largest=by_set.dimensions_largest.tolist() if worst is not None else [],
        dimensions_mean=(by_set.dimensions_sum / by_set.finite.sum()).tolist() if worst is not None else [],
        inputs_known=int(known.sum()),
        other_inputs=int(other.sum()),
        inputs=inputs,
        made_with=[one for key in said for one in differences(a.made_with[key], b.made_with[key], key)],
        over_time=_over_time(stamps_ns, by_set.largest, alone_a, alone_b, stamps_ns[other]),
    )


class _BySet:
    """Figures of each set, and sums over the sets by dimension; a block at a time, since double precision takes memory."""

    def __init__(self, a: RecordedFeatures, b: RecordedFeatures, rows_a: NDArray[np.intp], rows_b: NDArray[np.intp]) -> None:
        count, size = rows_a.size, a.values.shape[1]
        self.equal = np.empty(count, bool)
        self.finite = np.empty(count, bool)
        self.largest, self._relative, self._cosine = (np.full(count, np.nan) for _ in range(3))
        self.dimensions_largest, self.dimensions_sum = np.zeros(size), np.zeros(size)
        for begin in range(0, count, _ROWS):
            block = slice(begin, begin + _ROWS)
            one, other = a.values[rows_a[block]], b.values[rows_b[block]]
            self.equal[block] = (one.view(np.uint32) == other.view(np.uint32)).all(axis=1)
            finite = np.isfinite(one).all(axis=1) & np.isfinite(other).all(axis=1)
            self.finite[block] = finite
            self._take(begin + np.flatnonzero(finite), one[finite].astype(np.float64), other[finite].astype(np.float64))

    def figures(self, chosen: NDArray[np.bool_]) -> Figures | None:
        """Of the sets chosen, which are finite."""
        if not chosen.any():
            return None
        median, p99, largest = np.percentile(self.largest[chosen], [50, 99, 100]).tolist()
        relative, cosine = float(self._relative[chosen].max()), self._cosine[chosen]
        return Figures(
            sets=int(chosen.sum()),
            median=median,
            p99=p99,
            largest=largest,
            relative=None if np.isinf(relative) else relative,
            cosine_median=float(np.median(cosine)),
            cosine_least=float(cosine.min()),
        )

    def _take(self, at: NDArray[np.intp], one: NDArray[np.float64], other: NDArray[np.float64]) -> None:
        if not at.size:
            return
        apart = other - one
        self.dimensions_sum += apart.sum(axis=0)
        np.abs(apart, out=apart)
        self.dimensions_largest = np.maximum(self.dimensions_largest, apart.max(axis=0))
        largest, scale = apart.max(axis=1), np.abs(one).max(axis=1)
        lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
        with np.errstate(divide='ignore', invalid='ignore'):
            self._relative[at] = np.where(largest == 0, 0.0, largest / scale)
            cosine = np.where(lengths == 0, 0.0, np.minimum((one * other).sum(axis=1) / lengths, 1.0))
        self._cosine[at] = np.where(largest == 0, 1.0, cosine)
        self.largest[at] = largest


def _inputs(
    a: RecordedFeatures, b: RecordedFeatures, rows_a: NDArray[np.intp], rows_b: NDArray[np.intp]
) -> tuple[list[InputDifference], NDArray[np.bool_], NDArray[np.bool_]]:
    """Which inputs differ; by set, whether both files say what it is made of, and whether that differs."""
    known, other = a.told[rows_a] & b.told[rows_b], np.zeros(rows_a.size, bool)
    if a.inputs.keys() != b.inputs.keys():
        known[:] = False  # other cameras, or columns left out: then there is nothing to hold against each other
    found = []
    for name in a.inputs if known.any() else ():
        one, two = a.inputs[name][rows_a[known]], b.inputs[name][rows_b[known]]
        if one.shape != two.shape:
            found.append(InputDifference(name, int(known.sum()), None))
            other |= known
            continue
        apart = np.abs((two - one).reshape(one.shape[0], -1)).max(axis=1)
        differs = apart != 0
        if differs.any():
            unit = 1e-6 if name.endswith(STAMP_SUFFIX) else 1.0
            found.append(InputDifference(name, int(differs.sum()), float(np.nan_to_num(apart).max()) * unit))
            other[known] |= differs
    return found, known, other


def _side(own: RecordedFeatures, another: RecordedFeatures) -> tuple[Side, NDArray[np.int64]]:
    """What one file alone says, and the stamps that it alone has."""
    alone = np.setdiff1d(own.stamps_ns, another.stamps_ns, assume_unique=True)
    outside = (alone < another.stamps_ns[0]) | (alone > another.stamps_ns[-1])
    blocks = (own.values[begin : begin + _ROWS] for begin in range(0, own.stamps_ns.size, _ROWS))
    not_finite = sum(int((~np.isfinite(block)).any(axis=1).sum()) for block in blocks)
    side = Side(str(own.path), own.stamps_ns.size, alone.size, int(outside.sum()), not_finite, dict(own.made_with))
    return side, alone


def _nothing_in_common(a: RecordedFeatures, b: RecordedFeatures) -> str:
    at = np.searchsorted(b.stamps_ns, a.stamps_ns)
    left, right = (np.abs(a.stamps_ns - b.stamps_ns[np.clip(at - back, 0, b.stamps_ns.size - 1)]) for back in (1, 0))
    nearest_ns = int(np.minimum(left, right).min())
    begin_ns = int(b.stamps_ns[0] - a.stamps_ns[0])
    return (
        f'{a.path} and {b.path} have no stamp in common, but only sets with equal stamps are compared. The nearest two stamps '
        f'are {span(nearest_ns / 1e6)} ({nearest_ns} ns) apart, and {b.path} begins {span(abs(begin_ns) / 1e6)} '
        f'{"after" if begin_ns > 0 else "before"} {a.path}. Compare files of one recording. If they are, a clock was set, an '
        'offset was applied, or another camera was the anchor'
    )


def _over_time(
    both_ns: NDArray[np.int64],
    largest: NDArray[np.float64],
    alone_a_ns: NDArray[np.int64],
    alone_b_ns: NDArray[np.int64],
    other_inputs_ns: NDArray[np.int64],
) -> OverTime:
    every = (both_ns, alone_a_ns, alone_b_ns)
    begin_ns = min(int(stamps.min()) for stamps in every if stamps.size)
    end_ns = max(int(stamps.max()) for stamps in every if stamps.size)
    parts = max(min(sum(stamps.size for stamps in every) // 2, _PARTS), 1)  # each has a set, also where they jitter
    part_ns = (end_ns - begin_ns) / parts or 1.0

    def place(stamps_ns: NDArray[np.int64]) -> NDArray[np.intp]:
        return np.minimum((stamps_ns - begin_ns) / part_ns, parts - 1).astype(np.intp)

    highest = np.full(parts, np.nan)
    np.fmax.at(highest, place(both_ns), largest)
    counts = (np.bincount(place(ns), minlength=parts).tolist() for ns in (alone_a_ns, alone_b_ns, other_inputs_ns))
    return OverTime(begin_ns, part_ns / 1e9, [None if np.isnan(x) else x for x in highest.tolist()], *counts)
