"""The recent frames of one follower camera, and which of them belongs to a stamp."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from typing import NamedTuple

from fused_encoder_ros.pipeline.data import Frame
from fused_encoder_ros.pipeline.history import History
from fused_encoder_ros.pipeline.options import SyncOptions

MAX_FRAMES = 256
"""Frames kept of one camera, and anchors kept waiting, whatever the stamps say."""

STEPS_LEARNED = 16
SHORT_STEPS = 3
"""The next frame of a camera is expected after the third shortest of its last sixteen steps: lost frames and a rate that has
fallen make steps longer, which does not matter then, and jitter makes one frame in six come sooner, by little."""


class _Kept(NamedTuple):
    """A frame, and how long after its stamp it is as near as the next one was expected to be when it came."""

    frame: Frame
    reach_ns: int


class FrameBuffer(History[_Kept]):
    """The recent frames of one follower camera."""

    def __init__(self, options: SyncOptions) -> None:
        super().__init__(options.horizon_ns, MAX_FRAMES)
        self._options = options
        self._steps_ns: deque[int] = deque(maxlen=STEPS_LEARNED)

    def set_options(self, options: SyncOptions) -> None:
        """Go by other options."""
        self.horizon_ns = options.horizon_ns
        self._options = options

    def take(self, frame: Frame, asked_ns: int) -> None:
        """Keep a frame; `asked_ns` as in `History.add`."""
        self.begin_again_after_jump(frame.time_ns)
        self.add(frame.time_ns, _Kept(frame, self._learn(frame.time_ns)), asked_ns)

    def clear(self) -> None:
        """Forget everything, and what was learned."""
        super().clear()
        self._steps_ns.clear()

    def _learn(self, stamp_ns: int) -> int:
        """Take a stamp into account; returns the frame's `reach_ns`."""
        if self.reaches(stamp_ns):
            return 0  # a frame that comes late says nothing of what comes next
        self._steps_ns.extend(stamp_ns - newest_ns for newest_ns in self.stamps_ns[-1:])
        return self._next_step_ns() // 2

    def _next_step_ns(self) -> int:
        """After how long the next frame is expected; 0 says nothing."""
        if self._options.match == 'soonest':  # takes the nearest frame so far, whatever was expected
            return 0
        if self._options.camera_period_ns:
            return self._options.camera_period_ns
        if self._options.match != 'expected' or len(self._steps_ns) < STEPS_LEARNED:
            return 0
        return sorted(self._steps_ns)[SHORT_STEPS - 1]

    def best(self, stamp_ns: int) -> Frame | None:
        """The frame for a stamp: the first that was expected to be the nearest, else the nearest, however far.

        Of two equally near, the earlier.
        """
        if (expected := self._expected(stamp_ns)) is not None:
            return expected
        at = bisect_left(self.stamps_ns, stamp_ns)
        around = [kept.frame for kept in self.items[max(at - 1, 0) : at + 1]]
        return min(around, key=lambda frame: abs(frame.time_ns - stamp_ns), default=None)

    def _expected(self, stamp_ns: int) -> Frame | None:
        """The first frame before a stamp that was expected to be as near as the one after it."""
        begin, end = (bisect_left(self.stamps_ns, ns) for ns in (stamp_ns - self._options.tolerance_ns, stamp_ns))
        near = (kept.frame for kept in self.items[begin:end] if stamp_ns - kept.frame.time_ns <= kept.reach_ns)
        return next(near, None)

    def begins_after(self, stamp_ns: int) -> bool:
        """Whether even the oldest frame kept is later than the stamp."""
        return bool(self.stamps_ns) and self.stamps_ns[0] > stamp_ns

    def is_settled(self, stamp_ns: int) -> bool:
        """Whether the frame for a stamp need not be waited for: none better can come, or a good one is enough."""
        if self.reaches(stamp_ns):
            return True
        if self._options.match == 'soonest' and self.reaches(stamp_ns - self._options.tolerance_ns):
            return True
        return self._expected(stamp_ns) is not None
