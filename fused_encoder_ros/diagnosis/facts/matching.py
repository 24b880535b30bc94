"""What other settings would give, and how far the streams lie apart: from the recorded stamps, without the pipeline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.diagnosis.facts.recording import Stamps

_TOLERANCES_MS = (2.0, 5.0, 10.0, 15.0, 20.0, 33.0, 50.0, 100.0)
_BINS = 60
_SHARE = 99.0
"""Percentile that a tolerance is recommended for."""


def nearest(stamps: Stamps, at: Stamps) -> Stamps:
    """From each time to the nearest stamp, ns; negative when the stamp is earlier. `stamps` is sorted and not empty."""
    after = np.clip(np.searchsorted(stamps, at), 0, stamps.size - 1)
    before = np.clip(after - 1, 0, None)
    to_after, to_before = stamps[after] - at, stamps[before] - at
    return np.where(np.abs(to_before) <= np.abs(to_after), to_before, to_after)


def bracket(stamps: Stamps, at: Stamps) -> Stamps:
    """From each time to the further of the samples around it, ns; endless where one of the two is missing."""
    after = np.searchsorted(stamps, at)
    padded = np.concatenate([stamps, [np.iinfo(np.int64).max]])
    to_after = np.where(after < stamps.size, padded[after] - at, np.iinfo(np.int64).max)
    before = np.where(to_after == 0, after, after - 1)
    to_before = np.where(before >= 0, at - padded[before], np.iinfo(np.int64).max)
    return np.maximum(to_after, to_before)


@dataclass(frozen=True)
class Matching:
    """How near the other streams come to each frame of one anchor.

    Where joints pause for longer than `max_wait_ms`, the pipeline holds the last ones for some more sets than are told here.

    Attributes:
        furthest_ns: int64 [N], distance of the follower that is furthest; endless where a follower has no frame at all.
        has_joints: bool [N], whether every joint has samples near enough.
        bound_ns: half the longest period of a follower and its jitter: what an undisturbed stream stays within.
        rate_hz: anchor frames a second.
    """

    furthest_ns: Stamps
    has_joints: NDArray[np.bool_]
    bound_ns: float
    rate_hz: float

    def share(self, tolerance_ns: float) -> float:
        """Share of anchor frames that become sets."""
        return float((self.has_joints & (self.furthest_ns <= tolerance_ns)).mean()) if self.furthest_ns.size else 0.0

    def p99_ms(self, tolerance_ns: float) -> float | None:
        """99th percentile of the furthest follower's skew, over the sets."""
        inside = self.furthest_ns[self.has_joints & (self.furthest_ns <= tolerance_ns)]
        return float(np.percentile(inside, _SHARE)) / 1e6 if inside.size else None

    def enough_ms(self) -> float | None:
        """The smallest tolerance, whole ms, that all but a few anchors need, lost frames left aside."""
        usual = self.furthest_ns[self.has_joints & (self.furthest_ns <= self.bound_ns)]
        return float(math.ceil(float(np.percentile(usual, _SHARE)) / 1e6 * 1.05)) if usual.size else None


def match(
    anchor: str, cameras: Mapping[str, Stamps], joints: Sequence[Stamps], joint_max_age_ns: int, has_every_joint: bool
) -> Matching:
    """Match one anchor's frames; `joints` are the stamps of each group of joints."""
    at = cameras[anchor]
    furthest, bound_ns = np.zeros(at.size, np.int64), 0.0
    for name, stamps in cameras.items():
        if name == anchor:
            continue
        distance = np.abs(nearest(stamps, at)) if stamps.size else np.full(at.size, np.iinfo(np.int64).max)
        furthest = np.maximum(furthest, distance)
        if stamps.size > 1:
            # The 90th percentile of the steps: lost frames are seldom that many.
            bound_ns = max(bound_ns, 0.55 * float(np.percentile(np.diff(stamps), 90)))
    has_joints = np.full(at.size, has_every_joint)
    for stamps in joints:
        has_joints &= bracket(stamps, at) <= joint_max_age_ns
    span_s = float(at[-1] - at[0]) / 1e9 if at.size else 0.0
    return Matching(furthest, has_joints, bound_ns, (at.size - 1) / span_s if span_s > 0 else 0.0)


@dataclass(frozen=True)
class Cell:
    """What one anchor and tolerance would give: share of anchor frames, sets a second, p99 of the skew."""

    share: float
    rate_hz: float
    p99_ms: float | None


@dataclass(frozen=True)
class WhatIf:
    """Sets at other settings, from the recorded stamps.

    Attributes:
        tolerances_ms: the rows; the tolerance in use and the recommended one are among them.
        cells: by anchor, one for each tolerance.
        enough_ms: by anchor, the tolerance that all but a few anchors need.
    """

    tolerances_ms: list[float]
    cells: dict[str, list[Cell]]
    enough_ms: dict[str, float | None]

    def cell(self, anchor: str, tolerance_ms: float) -> Cell:
        """The cell of a tolerance that is among the rows."""
        return self.cells[anchor][self.tolerances_ms.index(tolerance_ms)]


def what_if(matchings: Mapping[str, Matching], tolerance_ms: float) -> WhatIf:
    """The table for every anchor, at usual tolerances, the one in use and those that are enough."""
    enough = {anchor: matching.enough_ms() for anchor, matching in matchings.items()}
    rows = sorted({*_TOLERANCES_MS, tolerance_ms, *(ms for ms in enough.values() if ms is not None)})
    cells = {
        anchor: [Cell(share := m.share(ms * 1e6), share * m.rate_hz, m.p99_ms(ms * 1e6)) for ms in rows]
        for anchor, m in matchings.items()
    }
    return WhatIf(rows, cells, enough)


@dataclass(frozen=True)
class SetSkew:
    """How far one source lies from the anchor in the sets, before or after it: median, 95th percentile and the furthest."""

    p50_ms: float
    p95_ms: float
    worst_ms: float

    @classmethod
    def of(cls, in_sets: Stamps) -> SetSkew:
        """Of the skew in each set, ns; there is at least one."""
        return cls(*(np.percentile(np.abs(in_sets), [50, 95, 100]) / 1e6).tolist())


@dataclass(frozen=True)
class Skews:
    """How far one follower's frames lie from the anchor's.

    Attributes:
        edges_ms: float [B+1], edges of the histogram; what lies beyond them is in `beyond`.
        nearest: by bin, the nearest frame to each anchor frame, from the recorded stamps.
        sets: by bin, the frame in each set, from the pipeline.
        beyond: anchor frames whose nearest frame lies further out.
        middle_ms, low_ms, high_ms: median, 5th and 95th percentile of the nearest frames.
    """

    edges_ms: list[float]
    nearest: list[int]
    sets: list[int]
    beyond: int
    middle_ms: float
    low_ms: float
    high_ms: float


def skews(stamps: Stamps, anchor: Stamps, in_sets: Stamps, tolerance_ms: float) -> Skews | None:
    """The skews of a follower; None where there are no frames to compare."""
    if not (stamps.size and anchor.size):
        return None
    every_ms = nearest(stamps, anchor) / 1e6
    low, middle, high = np.percentile(every_ms, [5, 50, 95]).tolist()
    # A stream that is seconds away must not squeeze the tolerance into one bin.
    reach = min(max(1.3 * tolerance_ms, 1.1 * max(abs(low), abs(high)), 1.0), max(8 * tolerance_ms, 100.0))
    edges = np.linspace(-reach, reach, _BINS + 1)
    inside = np.histogram(every_ms, edges)[0]
    return Skews(
        edges_ms=edges.tolist(),
        nearest=inside.tolist(),
        sets=np.histogram(in_sets / 1e6, edges)[0].tolist(),
        beyond=int(every_ms.size - inside.sum()),
        middle_ms=middle,
        low_ms=low,
        high_ms=high,
    )
