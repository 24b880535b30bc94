"""Pictures that do not change: a driver that has lost its camera may send the last one again, under new stamps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.pipeline.data import Frame


class Stillness:
    """For how long one camera has shown the same picture, bit for bit. The noise of a real sensor alone changes it.

    Attributes:
        for_s: seconds by the stamps, from the first frame with the picture of the last one to that.
        longest_s: the most that `for_s` has been.
    """

    def __init__(self) -> None:
        self.for_s = self.longest_s = 0.0
        self._pixels: NDArray[np.uint8] | None = None
        self._since_ns = 0

    def see(self, frame: Frame) -> None:
        """Take the camera's next frame; one whose stamp is not set tells nothing."""
        if frame.stamp_ns <= 0:
            return
        is_same = self._pixels is not None and np.array_equal(frame.pixels, self._pixels)
        if not is_same or frame.stamp_ns < self._since_ns:
            self._pixels, self._since_ns = frame.pixels, frame.stamp_ns
        self.for_s = (frame.stamp_ns - self._since_ns) / 1e9
        self.longest_s = max(self.longest_s, self.for_s)
