"""How like the training data something is: a robust distance to a cloud of points."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]

_FOLDS = 10


class Cloud:
    """Where the points of the training data lie.

    The distance of a point is the mean over all directions of log(1 + z²), where z is how many standard deviations it is off
    in that direction. So a few directions that are far off count for little, as where a new object lies in one part of a
    picture. The covariance is that of Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance
    matrices" (2004). The directions are those of the symmetric whitening, which stay close to single coordinates.

    Args:
        points: float64 [N,D].
        ordinary: float64 [K,D], directions in which points may differ by one such vector, whatever the training data show.
        independent: take the coordinates for independent of each other, so that one that is far off leaves the others alone,
            and for at least 1 wide, however little the training data vary.
    """

    def __init__(self, points: Points, ordinary: Points | None = None, independent: bool = False) -> None:
        self._middle = points.mean(axis=0)
        covariance = np.diag(np.maximum(points.var(axis=0), 1.0)) if independent else _ledoit_wolf(points - self._middle)
        if ordinary is not None:
            covariance = covariance + ordinary.T @ ordinary
        values, vectors = np.linalg.eigh(covariance)
        # What never changed in training has no scale of its own: a thousandth of the rest's stands for it.
        least = max(float(values.mean()) * 1e-6, 1e-18)
        values = np.maximum(values, least)
        self._whiten = (vectors / np.sqrt(values)) @ vectors.T
        self._width = float(np.log(values).mean()) / 2

    def deviations(self, points: Points) -> Points:
        """How many standard deviations each point is off: float64 [..., D]."""
        whitened: Points = (points - self._middle) @ self._whiten
        return whitened

    def distance(self, points: Points) -> Points:
        """The distance of each point, float64 [...]."""
        z = self.deviations(points)
        mean: Points = np.log1p(z * z).mean(axis=-1)
        return mean

    def improbability(self, points: Points) -> Points:
        """The distance, made comparable between clouds: a wide one is near to much, and says less. Float64 [...].

        But for a constant this is minus the logarithm of a density, a direction: Cauchy's.
        """
        return self.distance(points) + self._width


def folds(bags: NDArray[np.uint64]) -> Iterator[NDArray[np.bool_]]:
    """Parts of the training data that are held out in turn, whole bags each: bool [N]. There are at least two."""
    names = np.unique(bags)
    number = np.searchsorted(names, bags) % min(_FOLDS, max(len(names), 2))
    if len(names) == 1:  # halves of the only bag, by chance: it shows too little variation, but something
        number = np.arange(len(bags)) % 2
    for fold in np.unique(number):
        yield number == fold


def _ledoit_wolf(centred: Points) -> Points:
    n, d = centred.shape
    sample = centred.T @ centred / n
    scale = np.trace(sample) / d
    spread = float(((sample - scale * np.eye(d)) ** 2).sum())
    if spread == 0:
        identity: Points = scale * np.eye(d)
        return identity
    error = float(((centred**2).sum(axis=1) ** 2).sum() / n - (sample**2).sum()) / n
    shrinkage = min(max(error, 0.0), spread) / spread
    shrunk: Points = shrinkage * scale * np.eye(d) + (1 - shrinkage) * sample
    return shrunk
