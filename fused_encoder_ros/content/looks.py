"""What an observation shows, in a few hundred numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.pipeline.data import Observation

GRID = 12
"""A camera's picture is kept as so many cells to a side."""

MEASURES = ('brightness', 'contrast', 'sharpness', 'motion')

LOOKS_PER_S = 5.0
_PERIOD_NS = 180_000_000
"""The shortest time between two looks. It is 10 % shorter than 1 / `LOOKS_PER_S`, so that jitter does not skip a set."""

_LONGEST_STEP_NS = 2_500_000_000
"""Over a longer time, a change of the picture says nothing about motion."""


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one observation shows.

    Attributes:
        stamp_ns: the observation's stamp.
        grids: uint8 [C,GRID,GRID,3], each camera's picture as RGB cells.
        measures: float32 [C,4], by camera: `brightness`, the mean of the grey picture, 0 to 255; `contrast`, its standard
            deviation; `sharpness`, the mean absolute Laplacian divided by the contrast; `motion`, the mean absolute
            difference to the look before, 0 to 255.
        joints: float64 [J], positions before standardising.
        speeds: float64 [J], change of position a second since the look before.
    """

    stamp_ns: int
    grids: NDArray[np.uint8]
    measures: NDArray[np.float32]
    joints: NDArray[np.float64]
    speeds: NDArray[np.float64]


class Looker:
    """Looks at some observations of a stream, `LOOKS_PER_S` at most. The choice depends on their stamps alone."""

    def __init__(self, cameras: Sequence[str]) -> None:
        self._cameras = len(cameras)
        self._last: tuple[int, list[NDArray[np.uint8]], NDArray[np.float64]] | None = None

    def look(self, observation: Observation) -> Look | None:
        """What an observation shows; None where it comes too soon after the last one, or too late to tell motion."""
        stamp_ns, last = observation.stamp_ns, self._last
        if last is not None and 0 <= stamp_ns - last[0] < _PERIOD_NS:
            return None
        pictures = [np.ascontiguousarray(observation.images[..., 3 * i : 3 * i + 3]) for i in range(self._cameras)]
        greys = [np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY), np.uint8) for picture in pictures]
        self._last = (stamp_ns, greys, observation.joint_positions)
        if last is None or not 0 < stamp_ns - last[0] <= _LONGEST_STEP_NS:
            return None
        grids = [cv2.resize(picture, (GRID, GRID), interpolation=cv2.INTER_AREA) for picture in pictures]
        measures = [_measures(grey, before) for grey, before in zip(greys, last[1])]
        speeds = (observation.joint_positions - last[2]) * (1e9 / (stamp_ns - last[0]))
        return Look(stamp_ns, np.stack(grids), np.array(measures, np.float32), observation.joint_positions, speeds)


def _measures(grey: NDArray[np.uint8], before: NDArray[np.uint8]) -> tuple[float, float, float, float]:
    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(grey))
    sharpness = float(np.abs(cv2.Laplacian(grey, cv2.CV_16S)).mean()) / max(deviation, 1.0)
    return mean, deviation, sharpness, float(cv2.absdiff(grey, before).mean())
