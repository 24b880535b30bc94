"""What the synchroniser must answer, found the slow way: all that has come in plain lists, all of it looked at each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.pipeline.frames import MAX_FRAMES, SHORT_STEPS, STEPS_LEARNED
from fused_encoder_ros.pipeline.options import SyncOptions
from fused_encoder_ros.pipeline.sync import MAX_JOINT_SAMPLES


@dataclass(frozen=True)
class Message:
    """One message: its number in the recording and, of joints, the position of each joint that it brings."""

    number: int
    source: str
    stamp_ns: int
    positions: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """What became of a message.

    Attributes:
        kind: 'set', 'drop' or 'reject'.
        reason, stream: of a drop or a reject.
        used: of a set, the number of the message taken from each camera.
        positions: of a set, each joint at its stamp.
        joints_ns: of a set, the oldest stamp that the positions speak for.
    """

    kind: str
    stamp_ns: int
    reason: str = ''
    stream: str = ''
    used: Mapping[str, int] = field(default_factory=dict)
    positions: tuple[float, ...] = ()
    joints_ns: int = 0


def interpolate(samples: list[tuple[int, float]], stamp_ns: int, max_age_ns: int) -> tuple[float, int] | None:
    """The position at a stamp and the stamp that it speaks for; None where the samples do not say."""
    before = max((s for s in samples if s[0] <= stamp_ns), default=None)
    after = min((s for s in samples if s[0] >= stamp_ns), default=None)
    if before is None or stamp_ns - before[0] > max_age_ns:
        return None
    if after is None:
        return before[1], before[0]
    if after[0] - stamp_ns > max_age_ns:
        return None
    if after[0] == before[0]:
        return before[1], stamp_ns
    share = (stamp_ns - before[0]) / (after[0] - before[0])
    return (1 - share) * before[1] + share * after[1], stamp_ns


class Oracle:
    """Answers each message of a recording as the synchroniser must."""

    def __init__(self, cameras: tuple[str, ...], joint_count: int, options: SyncOptions) -> None:
        self.options = options
        self.cameras = cameras
        self.followers = [camera for camera in cameras if camera != options.anchor]
        self.joints = range(joint_count)
        # Every stream that can be on a clock of its own, with what came of it and is still remembered.
        self.came: dict[str | int, list[Message]] = {stream: [] for stream in (*self.followers, *self.joints)}
        # Of each follower, since it was forgotten last: the stamps of its frames that were the newest when they came.
        self.in_order: dict[str | int, list[int]] = {camera: [] for camera in self.followers}
        self.waiting: list[Message] = []
        self.anchors: list[int] = []
        self.decided: list[int] = []
        self.jump: tuple[int, int] | None = None

    @property
    def remembered(self) -> int:
        """Number of frames and joint positions remembered."""
        return len(self.waiting) + sum(len(messages) for messages in self.came.values())

    def push(self, message: Message) -> list[Verdict]:
        """Everything that this message decides."""
        verdicts = self._accept_anchor(message) if message.source == self.options.anchor else self._accept(message)
        while self.waiting:
            oldest = min(self.waiting, key=lambda m: m.stamp_ns)
            if not self._decidable(oldest.stamp_ns):
                break
            self.waiting.remove(oldest)
            self.decided.append(oldest.stamp_ns)
            verdicts.append(self._verdict(oldest))
        return verdicts

    def _accept(self, message: Message) -> list[Verdict]:
        stamp_ns = message.stamp_ns
        if stamp_ns <= 0:
            return [Verdict('reject', stamp_ns, 'bad_stamp', message.source)]
        if self._is_of_old_time(stamp_ns):
            return [Verdict('reject', stamp_ns, 'clock_jump', message.source)]
        for stream in message.positions if message.source == JOINTS else (message.source,):
            came = self.came[stream]
            if any(m.stamp_ns > stamp_ns + self.options.horizon_ns for m in came):
                came = []
                self.in_order[stream] = []
            if all(earlier_ns < stamp_ns for earlier_ns in self.in_order.setdefault(stream, [])):
                self.in_order[stream].append(stamp_ns)
            if stamp_ns not in {m.stamp_ns for m in came}:
                came = [*came, message]
            wanted_ns = min(max(m.stamp_ns for m in came), *(m.stamp_ns for m in self.waiting), 10**30)
            came = [m for m in came if m.stamp_ns >= wanted_ns - self.options.horizon_ns]
            most = MAX_JOINT_SAMPLES if message.source == JOINTS else MAX_FRAMES
            self.came[stream] = sorted(came, key=lambda m: m.stamp_ns)[-most:]
        return []

    def _is_of_old_time(self, stamp_ns: int) -> bool:
        if self.jump is None:
            return False
        from_ns, to_ns = self.jump
        half_ns = (from_ns - to_ns) // 2
        now_ns = max(self.anchors)
        return now_ns <= to_ns + half_ns and now_ns + half_ns < stamp_ns <= from_ns + self.options.horizon_ns

    def _accept_anchor(self, message: Message) -> list[Verdict]:
        stamp_ns = message.stamp_ns
        if stamp_ns <= 0:
            return [Verdict('drop', stamp_ns, 'bad_stamp', message.source)]
        verdicts: list[Verdict] = []
        if any(anchor_ns > stamp_ns + self.options.horizon_ns for anchor_ns in self.anchors):
            verdicts = self._jump_back(stamp_ns)
        if any(stamp_ns <= decided_ns for decided_ns in self.decided) or stamp_ns in {m.stamp_ns for m in self.waiting}:
            return [*verdicts, Verdict('drop', stamp_ns, 'bad_stamp', message.source)]
        self.waiting.append(message)
        self.anchors.append(stamp_ns)
        return verdicts

    def _jump_back(self, to_ns: int) -> list[Verdict]:
        """The anchor's clock went back: what is of the old time goes, and nothing else."""
        from_ns = max(self.anchors)
        self.jump = from_ns, to_ns
        for stream, came in self.came.items():
            if any(m.stamp_ns > to_ns + (from_ns - to_ns) // 2 for m in came):
                self.came[stream] = []
                self.in_order[stream] = []
        lost = sorted(m.stamp_ns for m in self.waiting if m.stamp_ns >= to_ns)
        self.waiting = [m for m in self.waiting if m.stamp_ns < to_ns]
        self.anchors = [anchor_ns for anchor_ns in self.anchors if anchor_ns < to_ns]
        if any(decided_ns >= to_ns for decided_ns in self.decided):
            # The old time had sets already: the new one begins without a past.
            self.decided = []
            self.anchors = [m.stamp_ns for m in self.waiting]
        return [Verdict('drop', stamp_ns, 'clock_jump', self.options.anchor) for stamp_ns in lost]

    def _decidable(self, stamp_ns: int) -> bool:
        given_up = len(self.waiting) > MAX_FRAMES or sum(a >= stamp_ns + self.options.max_wait_ns for a in self.anchors) >= 2
        return given_up or all(self._settled(stream, stamp_ns) for stream in self.came)

    def _settled(self, stream: str | int, stamp_ns: int) -> bool:
        stamps = [m.stamp_ns for m in self.came[stream]]
        if any(stamp >= stamp_ns for stamp in stamps):
            return True
        soonest = self.options.match == 'soonest'
        if isinstance(stream, int):
            return soonest and self._joint(stream, stamp_ns) is not None
        near = [stamp_ns - stamp for stamp in stamps]
        if soonest and any(distance <= self.options.tolerance_ns for distance in near):
            return True
        return bool(self._expected(stream, stamp_ns))

    def _expected(self, camera: str, stamp_ns: int) -> list[Message]:
        """The frames that need not wait for a nearer one, by what their camera had sent when they came."""
        stamps, reaches_ns = self.in_order[camera], {}
        for i in range(len(stamps)):
            steps = sorted(b - a for a, b in pairwise(stamps[: i + 1][-STEPS_LEARNED - 1 :]))
            learned = self.options.match == 'expected' and len(steps) == STEPS_LEARNED
            declared_ns = self.options.camera_period_ns if self.options.match != 'soonest' else 0
            period_ns = declared_ns or (steps[SHORT_STEPS - 1] if learned else 0)
            reaches_ns[stamps[i]] = min(period_ns // 2, self.options.tolerance_ns)
        return [m for m in self.came[camera] if 0 < stamp_ns - m.stamp_ns <= reaches_ns.get(m.stamp_ns, 0)]

    def _joint(self, joint: int, stamp_ns: int) -> tuple[float, int] | None:
        samples = [(m.stamp_ns, m.positions[joint]) for m in self.came[joint]]
        return interpolate(samples, stamp_ns, self.options.joint_max_age_ns)

    def _verdict(self, anchor: Message) -> Verdict:
        stamp_ns = anchor.stamp_ns
        used = {anchor.source: anchor.number}
        for camera in self.followers:
            near = [m for m in self.came[camera] if abs(m.stamp_ns - stamp_ns) <= self.options.tolerance_ns]
            if not near:
                return Verdict('drop', stamp_ns, 'no_match', camera)
            expected = self._expected(camera, stamp_ns)
            used[camera] = (expected or [min(near, key=lambda m: (abs(m.stamp_ns - stamp_ns), m.stamp_ns))])[0].number
        answers = [self._joint(joint, stamp_ns) for joint in self.joints]
        found = [answer for answer in answers if answer is not None]
        if len(found) < len(answers):
            return Verdict('drop', stamp_ns, 'no_joints', JOINTS)
        positions = tuple(position for position, _ in found)
        return Verdict('set', stamp_ns, used=used, positions=positions, joints_ns=min(ns for _, ns in found))
