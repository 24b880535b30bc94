"""How the content of a camera's pictures moves from one to the next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

BLOCKS = 6
_SIDE = 84
_LONG_STEP_NS = 90_000_000
_LONGEST_STEP_NS = 250_000_000
"""Over a longer one, as where frames were lost, the content has moved too far to be followed."""


@dataclass(frozen=True, eq=False)
class Move:
    """How the content moved between two frames of a camera.

    Attributes:
        begin_ns, end_ns: times of the frames.
        flow: float32 [72], mean shift to the right and down in each of 6 × 6 blocks, pixels of 84 to the side.
        is_long: whether it is of a long step, see `Motion`.
    """

    begin_ns: int
    end_ns: int
    flow: NDArray[np.float32]
    is_long: bool


class Motion:
    """Optical flow between the frames of one camera: from each to the next, and over steps of about a tenth of a second.

    What moves fast is best followed from frame to frame; what moves slowly stands out from the noise over longer steps.
    """

    def __init__(self) -> None:
        self._short, self._long = (
            cv2.DISOpticalFlow_create(preset)  # type: ignore[attr-defined]
            for preset in (cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST, cv2.DISOPTICAL_FLOW_PRESET_FAST)
        )
        self._last: tuple[int, NDArray[np.uint8]] | None = None
        self._before: tuple[int, NDArray[np.uint8]] | None = None

    def see(self, time_ns: int, pixels: NDArray[np.uint8]) -> Iterator[Move]:
        """Take the next frame, uint8 [S,S,3] RGB; yields the moves that it ends."""
        frame = time_ns, _prepared(pixels)
        last, self._last = self._last, frame
        if last is not None and 0 < time_ns - last[0] <= _LONGEST_STEP_NS:
            yield Move(last[0], time_ns, _flow(self._short, last[1], frame[1]), is_long=False)
        before = self._before
        if before is not None and 0 < time_ns - before[0] < _LONG_STEP_NS:
            return
        if before is not None and 0 < time_ns - before[0] <= _LONGEST_STEP_NS:
            yield Move(before[0], time_ns, _flow(self._long, before[1], frame[1]), is_long=True)
        self._before = frame

    def forget(self) -> None:
        """The next frame does not follow the last one."""
        self._last = self._before = None


def _prepared(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Grey, 84 × 84, its brightness equalised, so that a change of the exposure is no motion."""
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    if grey.shape[0] != _SIDE:
        grey = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    return cv2.equalizeHist(grey)  # type: ignore[return-value]


def _flow(engine: cv2.DISOpticalFlow, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:  # type: ignore[name-defined]
    flow = engine.calc(before, after, None)  # type: ignore[call-overload]
    step = _SIDE // BLOCKS
    return flow.reshape(BLOCKS, step, BLOCKS, step, 2).mean(axis=(1, 3)).reshape(-1)  # type: ignore[no-any-return]
