"""The synchroniser: one set for each frame of the anchor camera.

Driven by the order of messages and their stamps alone, never by the wall clock, so that a bag gives the sets that the
robot had. Every anchor frame ends as exactly one Observation or one Drop.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.pipeline.data import JOINTS, Drop, Frame, JointSample, Observation, Outcome, Reason, Reject
from fused_encoder_ros.pipeline.joints import JointBuffer
from fused_encoder_ros.spec import JOINT_STD_EPSILON, ObservationSpec

MAX_FRAMES = 256
"""Frames kept of one camera, and anchors kept waiting, whatever the stamps say."""

MAX_JOINT_SAMPLES = 4096
"""Samples kept of one joint, whatever the stamps say."""


@dataclass(frozen=True)
class SyncOptions:
    """How sets are matched. All times are differences of stamps, nanoseconds.

    Attributes:
        anchor: the camera whose every frame asks for a set.
        tolerance_ns: a follower frame further than this from the anchor's stamp is no match.
        camera_period_ns: declared frame period of the followers; an earlier frame within half of it is taken without
            waiting for the next. 0 always waits for the next.
        max_wait_ns: an anchor gives up on a stream that is silent once a newer anchor is this much later.
        joint_max_age_ns: joints rest on samples no further than this from the anchor's stamp.
        horizon_ns: how long frames and joints are kept; a stamp that is this much before its stream's newest means
            that the clock jumped.
    """

    anchor: str = 'global'
    tolerance_ns: int = 20_000_000
    camera_period_ns: int = 0
    max_wait_ns: int = 200_000_000
    joint_max_age_ns: int = 100_000_000
    horizon_ns: int = 1_000_000_000

    def __post_init__(self) -> None:
        needed = max(self.tolerance_ns, self.joint_max_age_ns, self.max_wait_ns)
        if self.horizon_ns < needed:
            raise ConfigError(
                f'horizon_s: {self.horizon_ns / 1e9} is shorter than tolerance_ms, joint_max_age_ms or max_wait_ms '
                f'({needed / 1e6} ms); make the horizon longer'
            )


class _FrameBuffer:
    """The recent frames of one follower camera, sorted by stamp."""

    def __init__(self, options: SyncOptions) -> None:
        self._options = options
        self._stamps: list[int] = []
        self._frames: dict[int, Frame] = {}

    def __len__(self) -> int:
        return len(self._stamps)

    def clear(self) -> None:
        self._stamps.clear()
        self._frames.clear()

    def add(self, frame: Frame) -> None:
        if frame.stamp_ns not in self._frames:
            insort(self._stamps, frame.stamp_ns)
        self._frames[frame.stamp_ns] = frame
        oldest_ns = self._stamps[-1] - self._options.horizon_ns
        stale = max(bisect_left(self._stamps, oldest_ns), len(self._stamps) - MAX_FRAMES)
        for stamp in self._stamps[:stale]:
            del self._frames[stamp]
        del self._stamps[:stale]

    def nearest(self, stamp_ns: int) -> Frame | None:
        """The frame nearest to the stamp, however far; of two equally near, the earlier."""
        at = bisect_left(self._stamps, stamp_ns)
        around = self._stamps[max(at - 1, 0) : at + 1]
        return self._frames[min(around, key=lambda stamp: abs(stamp - stamp_ns))] if around else None

    def is_final(self, stamp_ns: int) -> bool:
        """Whether no frame still to come, of a stream in order, can be nearer to the stamp."""
        if self._stamps and self._stamps[-1] >= stamp_ns:
            return True
        before = bisect_right(self._stamps, stamp_ns)
        period_ns = self._options.camera_period_ns
        return before > 0 and 2 * (stamp_ns - self._stamps[before - 1]) <= period_ns


class _Clock:
    """Follows the stamps of every stream, and tells a jump of the clock from lateness.

    When one stream jumps backwards past the horizon (a looped bag, a clock set back), the others still have messages
    of the old time under way. Those are `STRAGGLER`s until the stream jumps too, or until it has gone on past the
    horizon in its old time, which means that it never will.
    """

    ON_TIME, JUMPED, STRAGGLER = range(3)

    def __init__(self, sources: Sequence[str], horizon_ns: int) -> None:
        self._sources = tuple(sources)
        self._horizon_ns = horizon_ns
        self.reset()

    def reset(self) -> None:
        self._newest: dict[str, int] = {}
        self._left_behind: dict[str, int] = {}

    def observe(self, source: str, stamp_ns: int) -> int:
        newest = self._newest.get(source)
        backwards = newest is not None and stamp_ns < newest - self._horizon_ns
        if source in self._left_behind:
            if not backwards and stamp_ns <= self._left_behind[source] + self._horizon_ns:
                self._newest[source] = max(stamp_ns, self._newest[source])
                return self.STRAGGLER
            del self._left_behind[source]
            self._newest[source] = stamp_ns
            return self.ON_TIME
        if backwards:
            self._left_behind = {other: ns for other, ns in self._newest.items() if other != source}
            self._newest[source] = stamp_ns
            return self.JUMPED
        self._newest[source] = stamp_ns if newest is None else max(newest, stamp_ns)
        return self.ON_TIME


class Synchroniser:
    """Matches frames and joint samples into sets.

    Call `push_frame` and `push_joints` in the order in which messages arrived; each returns what has been decided by it.
    `flush` ends every anchor that still waits.
    """

    def __init__(self, spec: ObservationSpec, options: SyncOptions) -> None:
        if options.anchor not in spec.cameras:
            raise ConfigError(f'anchor: {options.anchor!r} is no camera; use one of {list(spec.cameras)}')
        self._spec = spec
        self._options = options
        self._pending: deque[Frame] = deque()
        self._followers = {name: _FrameBuffer(options) for name in spec.cameras if name != options.anchor}
        self._joints = JointBuffer(spec.joint_names, options.horizon_ns, options.joint_max_age_ns, MAX_JOINT_SAMPLES)
        self._normalise = _joint_normaliser(spec)
        self._clock = _Clock((*spec.cameras, JOINTS), options.horizon_ns)
        self._last_decided_ns = -1
        self._newest_anchor_ns = -1

    @property
    def pending(self) -> int:
        """Number of anchor frames that wait for their followers or joints."""
        return len(self._pending)

    @property
    def buffered(self) -> int:
        """Number of frames and joint positions held."""
        return len(self._pending) + sum(map(len, self._followers.values())) + len(self._joints)

    def push_frame(self, camera: str, frame: Frame) -> list[Outcome]:
        """Take a frame of one of the spec's cameras."""
        if camera == self._options.anchor:
            return self._push(camera, frame.stamp_ns, lambda: self._add_anchor(frame))
        return self._push(camera, frame.stamp_ns, lambda: self._followers[camera].add(frame))

    def push_joints(self, sample: JointSample) -> list[Outcome]:
        """Take a joint sample."""
        return self._push(JOINTS, sample.stamp_ns, lambda: self._joints.add(sample))

    def flush(self, reason: Reason, detail: str = '', stream: str = '') -> list[Outcome]:
        """Drop every waiting anchor for the reason given, and forget everything."""
        drops: list[Outcome] = [
            Drop(frame.stamp_ns, stream or self._options.anchor, reason, detail) for frame in self._pending
        ]
        self._clear()
        self._clock.reset()
        return drops

    def _clear(self) -> None:
        self._pending.clear()
        for buffer in self._followers.values():
            buffer.clear()
        self._joints.clear()
        self._last_decided_ns = self._newest_anchor_ns = -1

    def _push(self, source: str, stamp_ns: int, add: Callable[[], list[Outcome] | None]) -> list[Outcome]:
        if stamp_ns <= 0:
            return [
                self._refuse(source, stamp_ns, Reason.BAD_STAMP, 'the stamp is zero: the driver does not set header.stamp')
            ]
        outcomes: list[Outcome] = []
        timing = self._clock.observe(source, stamp_ns)
        if timing == _Clock.STRAGGLER:
            return [self._refuse(source, stamp_ns, Reason.CLOCK_JUMP, 'a message from before the clock jumped')]
        if timing == _Clock.JUMPED:
            detail = f'{source} jumped backwards: everything buffered was let go'
            outcomes += [Drop(f.stamp_ns, source, Reason.CLOCK_JUMP, detail) for f in self._pending]
            self._clear()
        outcomes += add() or []
        return outcomes + self._decide()

    def _refuse(self, source: str, stamp_ns: int, reason: Reason, detail: str) -> Outcome:
        kind = Drop if source == self._options.anchor else Reject
        return kind(stamp_ns, source, reason, detail)

    def _add_anchor(self, frame: Frame) -> list[Outcome]:
        anchor = self._options.anchor
        if frame.stamp_ns <= self._last_decided_ns:
            detail = 'the stamp is not after that of an earlier set: a duplicate, or out of order by too much'
            return [Drop(frame.stamp_ns, anchor, Reason.BAD_STAMP, detail)]
        if any(waiting.stamp_ns == frame.stamp_ns for waiting in self._pending):
            return [Drop(frame.stamp_ns, anchor, Reason.BAD_STAMP, 'the stamp is that of an earlier frame: a duplicate')]
        self._newest_anchor_ns = max(self._newest_anchor_ns, frame.stamp_ns)
        at = len(self._pending)
        while at and self._pending[at - 1].stamp_ns > frame.stamp_ns:
            at -= 1
        self._pending.insert(at, frame)
        return []

    def _decide(self) -> list[Outcome]:
        """Decide the oldest anchors, as far as that can be done in order."""
        outcomes: list[Outcome] = []
        while self._pending:
            stamp_ns = self._pending[0].stamp_ns
            complete = self._joints.reaches(stamp_ns) and all(buffer.is_final(stamp_ns) for buffer in self._followers.values())
            overdue = self._newest_anchor_ns - stamp_ns >= self._options.max_wait_ns or len(self._pending) > MAX_FRAMES
            if not (complete or overdue):
                break
            self._last_decided_ns = stamp_ns
            outcomes.append(self._match(self._pending.popleft()))
        return outcomes

    def _match(self, anchor: Frame) -> Outcome:
        stamp_ns = anchor.stamp_ns
        frames = {self._options.anchor: anchor}
        for name, buffer in self._followers.items():
            frame = buffer.nearest(stamp_ns)
            if frame is None:
                return Drop(stamp_ns, name, Reason.NO_MATCH, f'no {name} frame within the horizon')
            distance_ns = abs(frame.stamp_ns - stamp_ns)
            if distance_ns > self._options.tolerance_ns:
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
            images=np.concatenate([frames[name].pixels for name in self._spec.cameras], axis=2),
            joints=self._normalise(positions),
            joint_positions=positions,
            stamps_ns={**stamps, JOINTS: joints_ns},
        )


def _joint_normaliser(spec: ObservationSpec) -> Callable[[np.ndarray], np.ndarray]:
    """Standardise in float64, then round once to the float32 that the encoder takes."""
    if spec.joint_mean is None or spec.joint_std is None:
        return lambda positions: positions.astype(np.float32)
    mean = np.asarray(spec.joint_mean)
    divisor = np.asarray(spec.joint_std) + JOINT_STD_EPSILON
    return lambda positions: ((positions - mean) / divisor).astype(np.float32)
