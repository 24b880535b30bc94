"""What a summary tells of a bag: counted while the bag is done, the same whatever is made of it."""

from __future__ import annotations

import base64
from array import array
from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.content.inspector import told_of
from fused_encoder_ros.diagnosis.facts.matching import SetSkew
from fused_encoder_ros.diagnosis.facts.recording import as_stamps
from fused_encoder_ros.diagnosis.facts.streams import rate_hz
from fused_encoder_ros.offline.bag import Bag
from fused_encoder_ros.pipeline.data import Drop, Feature, Observation, Reject
from fused_encoder_ros.pipeline.pipeline import Pipeline

_MOST_KEPT = 16


class Tally:
    """Takes what came of a bag, and tells counts and figures of it.

    Args:
        bag: is being read.
        pipeline: what reads it.
    """

    def __init__(self, bag: Bag, pipeline: Pipeline) -> None:
        self._bag = bag
        self._pipeline = pipeline
        self._stamps: array[int] = array('q')
        self._skews: dict[str, array[int]] = {}
        self._drops: Counter[str] = Counter()
        self._details: dict[str, str] = {}
        self._brightness = np.zeros(len(pipeline.spec.cameras))
        self._features: _Features | None = None
        self._middle = _Middle()

    def take(self, result: Feature | Observation | Drop | Reject) -> None:
        """Take a result, or an anchor frame or message that gave none."""
        if isinstance(result, Drop):
            self._drops[result.key] += 1
            self._details[result.key] = result.detail
        elif isinstance(result, Reject):
            self._details[f'{result.stream}: {result.reason}'] = result.detail
        elif isinstance(result, Feature):
            self._take_set(result.observation)
            self._features = self._features or _Features(result.values)
            self._features.take(result)
        else:
            self._take_set(result)

    def _take_set(self, observation: Observation) -> None:
        self._stamps.append(observation.stamp_ns)
        for source, skew_ns in observation.skew_ns.items():
            self._skews.setdefault(source, array('q')).append(skew_ns)
        self._brightness += _brightness(observation.images)
        self._middle.take(observation)

    @property
    def middle(self) -> Observation | None:
        """A set from the middle of the bag; None when there is no set."""
        return self._middle.observation

    def figures(self) -> dict[str, Any]:
        """As JSON has them; `offline.encode.Summary` says what they are."""
        counts, cameras = self._pipeline.counts, self._pipeline.spec.cameras
        sets = len(self._stamps)
        span_s = (self._stamps[-1] - self._stamps[0]) / 1e9 if sets else 0.0
        recorded_s = {source: (last - first) / 1e9 for source, (first, last) in self._bag.recorded_ns.items()}
        brightness = np.round(self._brightness / sets, 1).tolist() if sets else []
        return {
            'messages': dict(counts.messages),
            'rates_hz': {source: rate_hz(counts.messages[source], seconds) for source, seconds in recorded_s.items()},
            'anchors': counts.anchors,
            'sets': sets,
            'drops': dict(sorted(self._drops.items())),
            'rejects': dict(sorted(counts.rejects.items())),
            'details': self._details,
            'span_s': span_s,
            'rate_hz': rate_hz(sets, span_s),
            'skew_ms': {source: asdict(SetSkew.of(as_stamps(ns))) for source, ns in self._skews.items()},
            'brightness': dict(zip(cameras, brightness)),
            'still_s': {camera: self._pipeline.longest_still_s(camera) for camera in cameras},
            'features': self._features.figures() if self._features else None,
            'content': [asdict(told) for told in told_of(self._pipeline)],
        }


def _brightness(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean of each camera's pixels, 0 to 255."""
    # Not by OpenCV: its threads wait actively for the next call, which took a tenth of the CPU time of a bag.
    sums = images.sum(axis=0, dtype=np.uint32).sum(axis=0)
    return np.asarray(sums.reshape(-1, 3).mean(axis=1) / len(images) ** 2)


class _Features:
    """Where a bag's features lie."""

    def __init__(self, first: NDArray[np.float32]) -> None:
        self._first = first
        self._changes = np.zeros(first.shape, bool)
        self._sum = np.zeros(first.shape)
        self._norms = 0.0
        self._count = 0
        self._distances: array[float] = array('f')

    def take(self, feature: Feature) -> None:
        values = feature.values
        self._changes |= values != self._first
        self._sum += values
        self._norms += float(np.linalg.norm(values))
        self._count += 1
        if feature.distance is not None:
            self._distances.append(feature.distance)

    def figures(self) -> dict[str, Any]:
        mean = np.ascontiguousarray(self._sum / self._count, '<f4')
        return {
            'mean': base64.b64encode(mean.tobytes()).decode(),
            'norm': self._norms / self._count,
            'constant': int((~self._changes).sum()) if self._count > 1 else None,
            'distance': float(np.median(self._distances)) if self._distances else None,
        }


class _Middle:
    """A set from the middle of a bag whose length is not known before: every n-th is kept, and n grows."""

    def __init__(self) -> None:
        self._kept: list[Observation] = []
        self._count, self._every = 0, 1

    def take(self, observation: Observation) -> None:
        if self._count % self._every == 0:
            self._kept.append(observation)
        self._count += 1
        if len(self._kept) > _MOST_KEPT:
            self._kept = self._kept[::2]
            self._every *= 2

    @property
    def observation(self) -> Observation | None:
        return self._kept[len(self._kept) // 2] if self._kept else None
