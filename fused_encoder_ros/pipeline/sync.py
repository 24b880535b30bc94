"""The synchroniser: one set for each frame of the anchor camera.

Driven by the order of messages and their stamps alone, never by the wall clock, so that a bag gives the sets that the
robot had. Every anchor frame ends as exactly one Observation or one Drop.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.pipeline.data import JOINTS, Drop, Frame, JointSample, Observation, Outcome, Reason, Reject
from fused_encoder_ros.pipeline.history import NEVER, History
from fused_encoder_ros.pipeline.joints import JointBuffer
from fused_encoder_ros.spec import ObservationSpec

MAX_FRAMES = 256
"""Frames kept of one camera, and anchors kept waiting, whatever the stamps say."""

MAX_JOINT_SAMPLES = 4096
"""Samples kept of one joint, whatever the stamps say."""

CAMERAS = 'cameras'
PARTS = (CAMERAS, JOINTS)
"""What an anchor waits for: the frames of the followers, and the joints."""

MATCHES = ('expected', 'nearest', 'soonest')
"""What an anchor may wait for; `SyncOptions` says what each means."""

STEPS_LEARNED = 16
SHORT_STEPS = 3
"""The next frame of a camera is expected after the third shortest of its last sixteen steps: lost frames and a rate that has
fallen make steps longer, which does not matter then, and jitter makes one frame in six come sooner, by little."""


@dataclass(frozen=True)
class SyncOptions:
    """How sets are matched. All times are differences of stamps, nanoseconds.

    `match` says what an anchor waits for. With 'nearest' it waits until no better frame and no better joint sample can
    come: the next frame of each follower, and a sample of each joint at or after the anchor's stamp. With 'expected' it
    does so too, but takes a follower's earlier frame, if within `tolerance_ns`, where that is at least as near as the next
    one is expected to be, by the last `STEPS_LEARNED` steps from stamp to stamp of that camera; until there have been so
    many it waits. It takes that frame also when the next one has come already, so that the choice depends on the stamps of
    each camera alone. With 'soonest' it
    takes the nearest of what has come as soon as that is within the limits: of each follower a frame within
    `tolerance_ns`, of each joint the interpolated position if samples lie around the stamp, else the last one before
    it, held, if within `joint_max_age_ns`. Neither extrapolates. Under 'soonest' the skew is larger, and the sets
    depend on which topic's message came first, so that a bag gives the robot's sets only if it holds the messages in
    the order in which the node had them.

    Attributes:
        anchor: the camera whose every frame asks for a set.
        match: one of `MATCHES`.
        tolerance_ns: a follower frame further than this from the anchor's stamp is no match.
        camera_period_ns: declared frame period of the followers, instead of one that is learned: the next frame is
            expected after it, with 'nearest' too. 0 declares none.
        max_wait_ns: an anchor gives up on a stream that is silent once two newer anchors are this much later.
        joint_max_age_ns: joints rest on samples no further than this from the anchor's stamp.
        horizon_ns: how long frames and joints are kept; a stamp that is this much before its stream's newest means
            that the stream's clock jumped.
    """

    anchor: str = 'global'
    match: str = 'expected'
    tolerance_ns: int = 20_000_000
    camera_period_ns: int = 0
    max_wait_ns: int = 200_000_000
    joint_max_age_ns: int = 100_000_000
    horizon_ns: int = 1_000_000_000

    def __post_init__(self) -> None:
        if self.match not in MATCHES:
            raise ConfigError(f'match: {self.match!r} is unknown; use one of {list(MATCHES)}')
        needed = max(self.tolerance_ns, self.joint_max_age_ns, self.max_wait_ns)
        if self.horizon_ns < needed:
            raise ConfigError(
                f'horizon_s: {self.horizon_ns / 1e9} is shorter than tolerance_ms, joint_max_age_ms or max_wait_ms '
                f'({needed / 1e6} ms); make the horizon longer'
            )


class _Kept(NamedTuple):
    """A frame, and how long after its stamp it is as near as the next one was expected to be when it came."""

    frame: Frame
    reach_ns: int


class _FrameBuffer(History[_Kept]):
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
        self.begin_again_after_jump(frame.stamp_ns)
        self.add(frame.stamp_ns, _Kept(frame, self._learn(frame.stamp_ns)), asked_ns)

    def clear(self) -> None:
        """Forget everything, and what was learned."""
        super().clear()
        self._steps_ns.clear()

    def _learn(self, stamp_ns: int) -> int:
        """Take a stamp into account; returns the frame's `reach_ns`."""
        at = bisect_left(self.stamps_ns, stamp_ns)
        if at == len(self):
            self._steps_ns.extend(stamp_ns - newest_ns for newest_ns in self.stamps_ns[-1:])
            return self._next_step_ns() // 2
        # The second of one stamp takes the place of the first. One that comes late says nothing of what comes next.
        is_known = at < len(self) and self.stamps_ns[at] == stamp_ns
        return self.items[at].reach_ns if is_known else 0

    def _next_step_ns(self) -> int:
        """After how long the next frame is expected; 0 says nothing."""
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
        return min(around, key=lambda frame: abs(frame.stamp_ns - stamp_ns), default=None)

    def _expected(self, stamp_ns: int) -> Frame | None:
        """The first frame before a stamp that was expected to be as near as the one after it."""
        begin, end = (bisect_left(self.stamps_ns, ns) for ns in (stamp_ns - self._options.tolerance_ns, stamp_ns))
        near = (kept.frame for kept in self.items[begin:end] if stamp_ns - kept.frame.stamp_ns <= kept.reach_ns)
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
    `flush` ends every anchor that still waits.

    Attributes:
        on_settled: called with the stamp of the oldest waiting anchor and `CAMERAS` or `JOINTS`, once it need not wait for
            these any more, for measuring.
    """

    def __init__(self, spec: ObservationSpec, options: SyncOptions) -> None:
        if options.anchor not in spec.cameras:
            raise ConfigError(f'anchor: {options.anchor!r} is no camera; use one of {list(spec.cameras)}')
        self._spec = spec
        self._options = options
        self._pending: deque[Frame] = deque()
        self._followers = {name: _FrameBuffer(options) for name in spec.cameras if name != options.anchor}
        self._joints = JointBuffer(spec.joint_names, options.horizon_ns, options.joint_max_age_ns, MAX_JOINT_SAMPLES)
        self._last_decided_ns = -1
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
        return self._joints.stale(self._last_decided_ns) if self._last_decided_ns >= 0 else []

    @property
    def _asked_ns(self) -> int:
        """The earliest stamp that still waits for its set."""
        return self._pending[0].stamp_ns if self._pending else NEVER

    @property
    def _newest_anchor_ns(self) -> int:
        return self._pending[-1].stamp_ns if self._pending else self._last_decided_ns

    def set_options(self, options: SyncOptions) -> None:
        """Go by other options from the next message on. Raises ConfigError if they name another anchor."""
        if options.anchor != self._options.anchor:
            raise ConfigError(f'anchor: cannot become {options.anchor} while sets are made')
        self._options = options
        for buffer in self._followers.values():
            buffer.set_options(options)
        self._joints.set_limits(options.horizon_ns, options.joint_max_age_ns)

    def push_frame(self, camera: str, frame: Frame) -> list[Outcome]:
        """Take a frame of one of the spec's cameras."""
        if camera == self._options.anchor:
            outcomes = self._bad_stamp(camera, frame.stamp_ns) or self._add_anchor(frame)
        else:
            outcomes = self._bad_stamp(camera, frame.stamp_ns)
            if not outcomes:
                self._followers[camera].take(frame, self._asked_ns)
        return outcomes + self._decide()

    def push_joints(self, sample: JointSample) -> list[Outcome]:
        """Take a joint sample."""
        outcomes = self._bad_stamp(JOINTS, sample.stamp_ns)
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
        self._last_decided_ns = -1
        self._jump = None
        return drops

    def _bad_stamp(self, source: str, stamp_ns: int) -> list[Outcome]:
        if stamp_ns <= 0:
            detail = f'the stamp is {"zero" if stamp_ns == 0 else "negative"}: the driver does not set header.stamp'
            return [self.refuse(source, stamp_ns, Reason.BAD_STAMP, detail)]
        if source != self._options.anchor and self._is_of_old_time(stamp_ns):
            ahead_s = (stamp_ns - self._newest_anchor_ns) / 1e9
            detail = f'{source} is {ahead_s:.1f} s ahead of the anchor, whose clock jumped back: a message from before'
            return [self.refuse(source, stamp_ns, Reason.CLOCK_JUMP, detail)]
        return []

    def _is_of_old_time(self, stamp_ns: int) -> bool:
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
        is_ahead = stamp_ns > self._newest_anchor_ns + jump.half_ns
        return is_ahead and stamp_ns <= jump.from_ns + self._options.horizon_ns

    def refuse(self, source: str, stamp_ns: int, reason: Reason, detail: str) -> Outcome:
        """The outcome of a message that cannot be used: a Drop for the anchor camera, a Reject for any other source."""
        kind = Drop if source == self._options.anchor else Reject
        return kind(stamp_ns, source, reason, detail)

    def _add_anchor(self, frame: Frame) -> list[Outcome]:
        outcomes: list[Outcome] = []
        if frame.stamp_ns < self._newest_anchor_ns - self._options.horizon_ns:
            outcomes = self._rewind(frame.stamp_ns)
        if frame.stamp_ns <= self._last_decided_ns:
            detail = 'the stamp is not after that of an earlier set: a duplicate, out of order, or a loop within horizon_s'
            return [self.refuse(self._options.anchor, frame.stamp_ns, Reason.BAD_STAMP, detail)]
        if any(waiting.stamp_ns == frame.stamp_ns for waiting in self._pending):
            detail = 'the stamp is that of an earlier frame: a duplicate'
            return [self.refuse(self._options.anchor, frame.stamp_ns, Reason.BAD_STAMP, detail)]
        at = len(self._pending)
        while at and self._pending[at - 1].stamp_ns > frame.stamp_ns:
            at -= 1
        self._pending.insert(at, frame)
        return outcomes

    def _rewind(self, stamp_ns: int) -> list[Outcome]:
        """The anchor's clock jumped back to a stamp: let the old time go, of every stream."""
        distance_s = (self._newest_anchor_ns - stamp_ns) / 1e9
        detail = f'the clock of {self._options.anchor} jumped back by {distance_s:.1f} s'
        old = [frame for frame in self._pending if frame.stamp_ns >= stamp_ns]
        self._jump = jump = _Jump(self._newest_anchor_ns, stamp_ns)
        # What lies before the new stamp is of the new time: one wild stamp ahead of it takes nothing along.
        self._pending = deque(frame for frame in self._pending if frame.stamp_ns < stamp_ns)
        self._told.clear()
        if self._last_decided_ns >= stamp_ns:
            self._last_decided_ns = -1
        for buffer in self._followers.values():
            buffer.clear_if_after(stamp_ns + jump.half_ns)
        self._joints.clear_if_after(stamp_ns + jump.half_ns)
        return [Drop(frame.stamp_ns, self._options.anchor, Reason.CLOCK_JUMP, detail) for frame in old]

    def _decide(self) -> list[Outcome]:
        """Decide the oldest anchors, as far as that can be done in order."""
        outcomes: list[Outcome] = []
        while self._pending:
            stamp_ns = self._pending[0].stamp_ns
            settled = PARTS if self._is_overdue(stamp_ns) else self._settled(stamp_ns)
            for part in settled:
                if part not in self._told:
                    self.on_settled(stamp_ns, part)
                    self._told.add(part)
            if len(settled) < len(PARTS):
                break
            self._told.clear()
            self._last_decided_ns = stamp_ns
            outcomes.append(self._match(self._pending.popleft()))
        return outcomes

    def _settled(self, stamp_ns: int) -> Sequence[str]:
        """Which parts of the set need not be waited for."""
        are_settled = {
            CAMERAS: all(buffer.is_settled(stamp_ns) for buffer in self._followers.values()),
            JOINTS: self._joints.is_settled(stamp_ns, may_hold=self._options.match == 'soonest'),
        }
        return [part for part in PARTS if are_settled[part]]

    def _is_overdue(self, stamp_ns: int) -> bool:
        if len(self._pending) < 3:
            return False
        # By the newest but one: a single stamp ahead of its time must not hurry the others.
        waited_ns = self._pending[-2].stamp_ns - stamp_ns
        return waited_ns >= self._options.max_wait_ns or len(self._pending) > MAX_FRAMES

    def _match(self, anchor: Frame) -> Outcome:
        stamp_ns = anchor.stamp_ns
        frames = {self._options.anchor: anchor}
        for name, buffer in self._followers.items():
            frame = buffer.best(stamp_ns)
            if frame is None:
                return Drop(stamp_ns, name, Reason.NO_MATCH, f'no {name} frame within the horizon')
            distance_ns = abs(frame.stamp_ns - stamp_ns)
            if distance_ns > self._options.tolerance_ns:
                if buffer.begins_after(stamp_ns):
                    detail = f'{name} frames of that time are not kept any more, or never came; horizon_s keeps them longer'
                    return Drop(stamp_ns, name, Reason.NO_MATCH, detail)
                detail = (
                    f'the nearest {name} frame is {distance_ns / 1e6:.1f} ms from the anchor; '
                    f'tolerance_ms is {self._options.tolerance_ns / 1e6:g}'
                )
                return Drop(stamp_ns, name, Reason.NO_MATCH, detail)
            frames[name] = frame
        joints = self._joints.at(stamp_ns)
        if isinstance(joints, list):
            missing = ', '.join(joints) if len(joints) < len(self._spec.joint_names) else 'every joint'
            detail = f'no position within {self._options.joint_max_age_ns / 1e6:g} ms of the anchor: {missing}'
            return Drop(stamp_ns, JOINTS, Reason.NO_JOINTS, detail)
        positions, joints_ns = joints
        stamps = {name: frames[name].stamp_ns for name in self._spec.cameras}
        return Observation(
            stamp_ns=stamp_ns,
            images=np.asarray(cv2.merge([frames[name].pixels for name in self._spec.cameras]), np.uint8),
            joints=self._spec.standardise(positions),
            joint_positions=positions,
            stamps_ns={**stamps, JOINTS: joints_ns},
        )
