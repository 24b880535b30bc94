"""The synchroniser: one set for each frame of the anchor camera.

Driven by the order of messages and their stamps alone, never by the wall clock, so that a bag gives the sets that the
robot had. Every anchor frame ends as exactly one Observation or one Drop.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import cv2
import numpy as np

from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.pipeline.data import JOINTS, Drop, Frame, JointSample, Observation, Outcome, Reason, Reject
from fused_encoder_ros.pipeline.frames import MAX_FRAMES, FrameBuffer
from fused_encoder_ros.pipeline.history import NEVER
from fused_encoder_ros.pipeline.joints import JointBuffer
from fused_encoder_ros.pipeline.options import SyncOptions
from fused_encoder_ros.spec import ObservationSpec

MAX_JOINT_SAMPLES = 4096
"""Samples kept of one joint, whatever the stamps say."""

CAMERAS = 'cameras'
PARTS = (CAMERAS, JOINTS)
"""What an anchor waits for: the frames of the followers, and the joints."""

_NEVER_YET = -NEVER
"""A time before every time."""

_Item = TypeVar('_Item', Frame, JointSample)


@dataclass(frozen=True)
class _Jump:
    """The anchor's clock went back from one stamp to another.

    A message nearer to the old time than to the new one belongs to the old: it was buffered, or still under way.
    """

    from_ns: int
    to_ns: int

    @property
    def half_ns(self) -> int:
        return (self.from_ns - self.to_ns) // 2


class Synchroniser:
    """Matches frames and joint samples into sets.

    Call `push_frame` and `push_joints` in the order in which messages arrived; each returns what has been decided by it.
    `flush` ends every anchor that still waits. Matching goes by corrected stamps (`time_ns`); outcomes name messages by the
    stamps of their headers.

    Attributes:
        on_settled: called with the stamp of the oldest waiting anchor and `CAMERAS` or `JOINTS`, once it need not wait for
            these any more, for measuring.
    """

    def __init__(self, spec: ObservationSpec, options: SyncOptions) -> None:
        if options.anchor not in spec.cameras:
            raise ConfigError(f'anchor: {options.anchor!r} is not a camera; use one of {list(spec.cameras)}')
        self._spec = spec
        self._options = options
        self._pending: deque[Frame] = deque()
        self._followers = {name: FrameBuffer(options) for name in spec.cameras if name != options.anchor}
        self._joints = JointBuffer(spec.joint_names, options.horizon_ns, options.joint_max_age_ns, MAX_JOINT_SAMPLES)
        self._last_decided_ns = _NEVER_YET
        self._jump: _Jump | None = None
        self.on_settled: Callable[[int, str], None] = lambda stamp_ns, part: None
        self._told: set[str] = set()

    @property
    def pending(self) -> int:
        """Number of anchor frames that wait for their followers or joints."""
        return len(self._pending)

    @property
    def buffered(self) -> int:
        """Number of frames and joint positions held."""
        return len(self._pending) + sum(map(len, self._followers.values())) + len(self._joints)

    @property
    def stale_joints(self) -> list[str]:
        """Names of the joints without a position recent enough for the last anchor decided."""
        return self._joints.stale(self._last_decided_ns) if self._last_decided_ns != _NEVER_YET else []

    @property
    def _asked_ns(self) -> int:
        """The earliest time that still waits for its set."""
        return self._pending[0].time_ns if self._pending else NEVER

    @property
    def _newest_anchor_ns(self) -> int:
        return self._pending[-1].time_ns if self._pending else self._last_decided_ns

    def set_options(self, options: SyncOptions) -> None:
        """Go by other options from the next message on. Raises ConfigError if they name another anchor."""
        if options.anchor != self._options.anchor:
            raise ConfigError(f'anchor: it cannot be changed to {options.anchor} while sets are being made')
        self._options = options
        for buffer in self._followers.values():
            buffer.set_options(options)
        self._joints.set_limits(options.horizon_ns, options.joint_max_age_ns)

    def push_frame(self, camera: str, frame: Frame) -> list[Outcome]:
        """Take a frame of one of the spec's cameras."""
        frame = self._corrected(camera, frame)
        if camera == self._options.anchor:
            outcomes = self._bad_stamp(camera, frame) or self._add_anchor(frame)
        else:
            outcomes = self._bad_stamp(camera, frame)
            if not outcomes:
                self._followers[camera].take(frame, self._asked_ns)
        return outcomes + self._decide()

    def push_joints(self, sample: JointSample) -> list[Outcome]:
        """Take a joint sample."""
        sample = self._corrected(JOINTS, sample)
        outcomes = self._bad_stamp(JOINTS, sample)
        if not outcomes:
            self._joints.add(sample, self._asked_ns)
        return outcomes + self._decide()

    def flush(self, reason: Reason, detail: str = '') -> list[Outcome]:
        """Drop every waiting anchor for the reason given, and forget everything."""
        drops: list[Outcome] = [Drop(frame.stamp_ns, self._options.anchor, reason, detail) for frame in self._pending]
        self._pending.clear()
        for buffer in self._followers.values():
            buffer.clear()
        self._joints.clear()
        self._told.clear()
        self._last_decided_ns = _NEVER_YET
        self._jump = None
        return drops

    def _corrected(self, source: str, item: _Item) -> _Item:
        offset_ns = self._options.stamp_offsets_ns.get(source, 0)
        return replace(item, offset_ns=offset_ns) if offset_ns else item

    def _bad_stamp(self, source: str, item: Frame | JointSample) -> list[Outcome]:
        if item.stamp_ns <= 0:
            detail = f'the stamp is {"zero" if item.stamp_ns == 0 else "negative"}: the driver does not set header.stamp'
            return [self.refuse(source, item.stamp_ns, Reason.BAD_STAMP, detail)]
        if source != self._options.anchor and self._is_of_old_time(item.time_ns):
            ahead_s = (item.time_ns - self._newest_anchor_ns) / 1e9
            detail = f'{source} is {ahead_s:.1f} s ahead of the anchor: this message is from before the clock jumped back'
            return [self.refuse(source, item.stamp_ns, Reason.CLOCK_JUMP, detail)]
        return []

    def _is_of_old_time(self, time_ns: int) -> bool:
        """Whether a message was under way when the anchor's clock jumped back.

        A stream that goes on in the old time for more than a horizon has a clock of its own: it is taken, and then it
        does not match.
        """
        jump = self._jump
        if jump is None:
            return False
        if self._newest_anchor_ns - jump.to_ns > jump.half_ns:
            self._jump = None
            return False
        is_ahead = time_ns > self._newest_anchor_ns + jump.half_ns
        return is_ahead and time_ns <= jump.from_ns + self._options.horizon_ns

    def refuse(self, source: str, stamp_ns: int, reason: Reason, detail: str) -> Outcome:
        """The outcome of a message that cannot be used: a Drop for the anchor camera, a Reject for any other source."""
        kind = Drop if source == self._options.anchor else Reject
        return kind(stamp_ns, source, reason, detail)

    def _add_anchor(self, frame: Frame) -> list[Outcome]:
        outcomes: list[Outcome] = []
        if frame.time_ns < self._newest_anchor_ns - self._options.horizon_ns:
            outcomes = self._rewind(frame.time_ns)
        if frame.time_ns <= self._last_decided_ns:
            detail = (
                'the stamp is not later than that of an earlier frame, which is a set or a drop already: this one is a '
                'duplicate or out of order, or a bag plays in a loop that is shorter than horizon_s'
            )
            return [self.refuse(self._options.anchor, frame.stamp_ns, Reason.BAD_STAMP, detail)]
        if any(waiting.stamp_ns == frame.stamp_ns for waiting in self._pending):
            detail = 'the stamp is the same as that of an earlier frame: this one is a duplicate'
            return [self.refuse(self._options.anchor, frame.stamp_ns, Reason.BAD_STAMP, detail)]
        at = len(self._pending)
        while at and self._pending[at - 1].time_ns > frame.time_ns:
            at -= 1
        self._pending.insert(at, frame)
        return outcomes

    def _rewind(self, time_ns: int) -> list[Outcome]:
        """The anchor's clock jumped back to a time: let the old time go, of every stream."""
        distance_s = (self._newest_anchor_ns - time_ns) / 1e9
        detail = f'the clock of {self._options.anchor} jumped back by {distance_s:.1f} s'
        old = [frame for frame in self._pending if frame.time_ns >= time_ns]
        self._jump = jump = _Jump(self._newest_anchor_ns, time_ns)
        # What lies before the new time is of the new time: one wild stamp ahead of it takes nothing along.
        self._pending = deque(frame for frame in self._pending if frame.time_ns < time_ns)
        self._told.clear()
        if self._last_decided_ns >= time_ns:
            self._last_decided_ns = _NEVER_YET
        for buffer in self._followers.values():
            buffer.clear_if_after(time_ns + jump.half_ns)
        self._joints.clear_if_after(time_ns + jump.half_ns)
        return [Drop(frame.stamp_ns, self._options.anchor, Reason.CLOCK_JUMP, detail) for frame in old]

    def _decide(self) -> list[Outcome]:
        """Decide the oldest anchors, as far as that can be done in order."""
        outcomes: list[Outcome] = []
        while self._pending:
            anchor = self._pending[0]
            settled = PARTS if self._is_overdue(anchor.time_ns) else self._settled(anchor.time_ns)
            for part in settled:
                if part not in self._told:
                    self.on_settled(anchor.stamp_ns, part)
                    self._told.add(part)
            if len(settled) < len(PARTS):
                break
            self._told.clear()
            self._last_decided_ns = anchor.time_ns
            outcomes.append(self._match(self._pending.popleft()))
        return outcomes

    def _settled(self, time_ns: int) -> Sequence[str]:
        """Which parts of the set need not be waited for."""
        are_settled = {
            CAMERAS: all(buffer.is_settled(time_ns) for buffer in self._followers.values()),
            JOINTS: self._joints.is_settled(time_ns, may_hold=self._options.match == 'soonest'),
        }
        return [part for part in PARTS if are_settled[part]]

    def _is_overdue(self, time_ns: int) -> bool:
        if len(self._pending) < 3:
            return False
        # By the newest but one: a single stamp ahead of its time must not hurry the others.
        waited_ns = self._pending[-2].time_ns - time_ns - self._options.late_ns
        return waited_ns >= self._options.max_wait_ns or len(self._pending) > MAX_FRAMES

    def _match(self, anchor: Frame) -> Outcome:
        stamp_ns, time_ns = anchor.stamp_ns, anchor.time_ns
        frames = {self._options.anchor: anchor}
        for name, buffer in self._followers.items():
            frame = buffer.best(time_ns)
            if frame is None:
                return Drop(stamp_ns, name, Reason.NO_MATCH, f'no frame of {name} within horizon_s')
            distance_ns = abs(frame.time_ns - time_ns)
            if distance_ns > self._options.tolerance_ns:
                if buffer.begins_after(time_ns):
                    detail = (
                        f'frames of {name} from that time never came, or are no longer kept; increase horizon_s to keep them '
                        'longer'
                    )
                    return Drop(stamp_ns, name, Reason.NO_MATCH, detail)
                detail = (
                    f'the nearest {name} frame is {distance_ns / 1e6:.1f} ms from the anchor; '
                    f'tolerance_ms is {self._options.tolerance_ns / 1e6:g}'
                )
                return Drop(stamp_ns, name, Reason.NO_MATCH, detail)
            frames[name] = frame
        joints = self._joints.at(time_ns)
        if isinstance(joints, list):
            missing = ', '.join(joints) if len(joints) < len(self._spec.joint_names) else 'every joint'
            age = f'{self._options.joint_max_age_ns / 1e6:g} ms'
            detail = f'no joint positions within {age} before and after the anchor (joint_max_age_ms), missing: {missing}'
            return Drop(stamp_ns, JOINTS, Reason.NO_JOINTS, detail)
        positions, joints_ns = joints
        offsets = self._options.stamp_offsets_ns
        stamps = {name: frames[name].stamp_ns for name in self._spec.cameras}
        full_images = {name: full for name in self._spec.cameras if (full := frames[name].full) is not None}
        return Observation(
            stamp_ns=stamp_ns,
            images=np.asarray(cv2.merge([frames[name].pixels for name in self._spec.cameras]), np.uint8),
            joints=self._spec.standardise(positions),
            joint_positions=positions,
            stamps_ns={**stamps, JOINTS: joints_ns - offsets.get(JOINTS, 0)},
            full_images=full_images,
            offset_ns=anchor.offset_ns,
            offsets_ns=offsets,
        )
