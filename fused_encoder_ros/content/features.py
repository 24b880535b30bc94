"""How far features are from those of the training data."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.content.reference import Reference

FAR = 2.0
"""Features that are so many times as far off as the training data's go are told."""

_RECENT = 150
"""Sets that `FeatureWatch.recent` is of: five seconds at 30 Hz."""


class FeatureWatch:
    """Measures features against those of the training data.

    Args:
        reference: what the training data were like; it must have features.

    Attributes:
        recent: the median distance of the last sets; None before there are enough.
    """

    def __init__(self, reference: Reference) -> None:
        assert reference.features is not None
        self._likeness = reference.features
        self._distances: deque[float] = deque(maxlen=_RECENT)

    @property
    def recent(self) -> float | None:
        """See the class."""
        return float(np.median(self._distances)) if len(self._distances) == _RECENT else None

    def see(self, values: NDArray[np.float32]) -> float:
        """Take a feature, float32 [D]; how far it is. 1 is as far as the training data go."""
        distance = self._likeness.distance(values.astype(np.float64)[np.newaxis])
        self._distances.append(max(distance, 0.0) / self._likeness.furthest)
        return self._distances[-1]
