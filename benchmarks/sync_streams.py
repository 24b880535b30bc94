"""The recorded streams of sync_vs_message_filters.py."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from builtin_interfaces.msg import Time

from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.spec import CAMERAS, DEFAULT_JOINT_NAMES

MS = 1_000_000
T0_NS = 1_700_000_000 * 10**9
DURATION_S = 12.0
NAMES = list(DEFAULT_JOINT_NAMES)
ARMS = ([n for n in NAMES if 'left_joint' in n], [n for n in NAMES if 'right_joint' in n], [n for n in NAMES if 'grip' in n])


@dataclass(frozen=True)
class Case:
    """What is recorded.

    Attributes:
        camera_hz: by `CAMERAS`; their periods are a little off, so that their phases drift.
        joint_hz: of one publisher, or of left arm, right arm and grippers each.
        jitter_ms: most by which transport is longer than 35 ms; a stream stays in order.
        loss: share of all messages that are lost.
        laps: how often the recording is played, as a bag that begins again at once.
        stall_s: begin and end of the time in which the left camera sends nothing.
    """

    name: str
    joint_hz: tuple[float, ...] = (100.0,)
    camera_hz: tuple[float, float, float] = (30.0, 30.0, 30.0)
    jitter_ms: float = 3.0
    loss: float = 0.0
    laps: int = 1
    stall_s: tuple[float, float] = (0.0, 0.0)

    def counts(self, one: Sent) -> bool:
        """Whether the set of an anchor is looked at: not at the ends, and of a looped bag in the last lap."""
        return one.lap == self.laps - 1 and 0.5 <= (one.stamp_ns - T0_NS) / 1e9 <= one.duration_s - 1

    def positions(self, stamp_ns: int) -> np.ndarray:
        """The joints at a stamp: float64 [16], rad, at up to 3 rad/s."""
        return np.sin(np.pi * ((stamp_ns - T0_NS) / 1e9) + np.arange(16) / 3)


@dataclass(frozen=True)
class Sent:
    """One message as it arrives; times in nanoseconds, `lap` counts the rounds of a looped bag."""

    arrived_ns: int
    source: str
    stamp_ns: int
    message: Any
    lap: int
    duration_s: float


CASES = (
    *(Case(f'30 Hz cameras, joints at {hz:g} Hz', (hz,)) for hz in (50.0, 100.0, 200.0, 500.0, 1000.0)),
    Case('arms at 500 Hz and grippers at 100 Hz on one topic', (500.0, 500.0, 100.0)),
    Case('cameras at 30, 15 (right) and 30 Hz', camera_hz=(30.0, 15.0, 30.0)),
    Case('transport 35 to 75 ms', jitter_ms=40.0),
    Case('5 % of all messages lost', loss=0.05),
    Case('left camera stalls for 2 s', stall_s=(4.0, 6.0)),
    Case('a looped bag, second lap', laps=2),
)


def record(case: Case, duration_s: float) -> list[Sent]:
    """Every message in the order of arrival; the same case gives the same messages."""
    sent: list[Sent] = []
    for lap in range(case.laps):
        start_ns = int(lap * duration_s * 1e9)
        for index, camera in enumerate(CAMERAS):
            sent += _camera(case, index, camera, duration_s, lap, start_ns)
        whole = len(case.joint_hz) == 1
        for index, hz in enumerate(case.joint_hz):
            sent += _joints(case, hz, NAMES if whole else ARMS[index], duration_s, lap, start_ns, index)
    # A bag ends with what had arrived by then.
    sent = [one for one in sent if one.arrived_ns < (one.lap + 1) * duration_s * 1e9]
    sent.sort(key=lambda one: one.arrived_ns)
    for number, one in enumerate(sent):
        one.message.number = number
        if one.source != JOINTS:
            one.message.data[0, 0] = list(number.to_bytes(3, 'big'))
    return sent


def _header(stamp_ns: int) -> Any:
    sec, nanosec = divmod(stamp_ns, 10**9)
    return SimpleNamespace(stamp=Time(sec=sec, nanosec=nanosec))


def _camera(case: Case, index: int, camera: str, duration_s: float, lap: int, start_ns: int) -> list[Sent]:
    rng = np.random.default_rng((index, lap) if case.loss else index)
    period_ns = 1e9 / case.camera_hz[index] * (1 + 0.001 * (index - 1))
    sent: list[Sent] = []
    arrived_ns = 0
    for number in range(int(duration_s * 1e9 / period_ns)):
        capture_ns = int((0.13 + 0.31 * index + number) * period_ns + rng.normal(0, 0.3) * MS)
        arrived_ns = max(arrived_ns + 1, start_ns + capture_ns + int((35 + rng.uniform(0, case.jitter_ms)) * MS))
        if rng.random() < case.loss or (index == 0 and case.stall_s[0] <= capture_ns / 1e9 < case.stall_s[1]):
            continue
        pixels = np.zeros((84, 84, 3), np.uint8)
        shape = {'height': 84, 'width': 84, 'step': 252, 'encoding': 'rgb8', 'is_bigendian': 0}
        message = SimpleNamespace(header=_header(T0_NS + capture_ns), data=pixels, **shape)
        sent.append(Sent(arrived_ns, camera, T0_NS + capture_ns, message, lap, duration_s))
    return sent


def _joints(case: Case, hz: float, names: list[str], duration_s: float, lap: int, start_ns: int, index: int) -> list[Sent]:
    rng = np.random.default_rng((9, index))
    take = [NAMES.index(name) for name in names]
    sent: list[Sent] = []
    for number in range(int(duration_s * hz)):
        stamp_ns = T0_NS + int((number + 0.37 * index + rng.uniform(0, 0.1)) / hz * 1e9)
        if rng.random() < case.loss:
            continue
        message = SimpleNamespace(header=_header(stamp_ns), name=names, position=case.positions(stamp_ns)[take])
        sent.append(Sent(start_ns + stamp_ns - T0_NS + MS, JOINTS, stamp_ns, message, lap, duration_s))
    return sent
