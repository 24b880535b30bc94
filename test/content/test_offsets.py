"""The offset of a camera's stamps, told from motion: near the truth, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from fused_encoder_ros.content.offsets import Offset, OffsetMeter
from fused_encoder_ros.lab import Lab
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.synthetic import Rig

CAMERA = 'left_wrist'
RIG = Rig(seed=5, width=84, height=84, cameras=(CAMERA,), lab=Lab())
SECONDS = 30.0
START_NS = 10**12

Pixels = NDArray[np.uint8]


@cache
def picture(stamp_ns: int) -> Pixels:
    return RIG.image(CAMERA, stamp_ns, 0)


def same(pixels: Pixels, seconds: float) -> Pixels:
    return pixels


def told(
    true_ms: float,
    *,
    joints: Callable[[int], NDArray[np.float64]] = RIG.joint_positions,
    seen: Callable[[Pixels, float], Pixels] = same,
) -> Offset:
    """What is told of a camera to whose stamps `true_ms` must be added."""
    meter = OffsetMeter([CAMERA])
    for event in RIG.events(SECONDS):
        if event.source == JOINTS:
            meter.see_joints(START_NS + event.stamp_ns, joints(event.stamp_ns))
        else:
            pixels = seen(picture(event.stamp_ns), event.stamp_ns / 1e9)
            meter.see_frame(CAMERA, START_NS + event.stamp_ns - round(true_ms * 1e6), pixels)
    return meter.offsets()[CAMERA]


def test_the_offset_and_its_interval() -> None:
    offset = told(-45.0)
    assert offset.ms == pytest.approx(-45.0, abs=5.0) and not offset.problem
    assert offset.low_ms is not None and offset.high_ms is not None and offset.low_ms < -45.0 < offset.high_ms
    assert offset.is_beyond(10.0) and not offset.is_beyond(60.0) and offset.motion_s == pytest.approx(SECONDS, abs=1.0)
    assert abs(max(offset.explained, key=lambda ms: offset.explained[ms]) + 45) <= 10


def test_light_that_changes_is_no_motion() -> None:
    def flickering(pixels: Pixels, seconds: float) -> Pixels:
        gain = (0.7, 1.0, 1.3)[int(seconds / 4) % 3] * (1 + 0.15 * np.sin(2 * seconds))
        return np.clip(pixels * gain, 0, 255).astype(np.uint8)

    offset = told(80.0, seen=flickering)
    assert offset.low_ms is not None and offset.high_ms is not None and offset.low_ms < 80.0 < offset.high_ms


def test_joints_from_several_publishers() -> None:
    """Each message brings one arm."""

    def one_arm(stamp_ns: int) -> NDArray[np.float64]:
        positions = RIG.joint_positions(stamp_ns)
        half = slice(0, 8) if stamp_ns // 10_000_000 % 2 else slice(8, 16)
        positions[half] = np.nan
        return positions

    assert told(-45.0, joints=one_arm).ms == pytest.approx(-45.0, abs=5.0)


def test_a_robot_at_rest() -> None:
    rng = np.random.default_rng(0)
    offset = told(-45.0, joints=lambda stamp_ns: RIG.joint_positions(0) + rng.normal(0, 1e-3, 16))
    assert offset.ms is None and offset.problem == 'no joint moves; 15 s of motion are needed' and not offset.explained


def test_too_little_motion() -> None:
    offset = told(-45.0, joints=lambda stamp_ns: RIG.joint_positions(min(stamp_ns, 6 * 10**9)))
    assert offset.ms is None and offset.problem == 'only 7 s of pictures while a joint moves; 15 s of motion are needed'


@pytest.mark.parametrize(('seed', 'problem'), [(2, 'do not follow the joints'), (4, 'disagree')])
def test_pictures_of_something_else(seed: int, problem: str) -> None:
    """Of which one explains most of their motion, as smooth motion can."""
    other = Rig(seed=seed)
    offset = told(0.0, joints=other.joint_positions)
    assert offset.ms is None and offset.low_ms is None and problem in offset.problem


@pytest.mark.parametrize('noise', [0.0, 3.0])
def test_pictures_without_texture(noise: float) -> None:
    rng = np.random.default_rng(0)

    def wall(pixels: Pixels, seconds: float) -> Pixels:
        return np.clip(rng.normal(128, noise, pixels.shape), 0, 255).astype(np.uint8)

    offset = told(-45.0, seen=wall)
    assert offset.ms is None and offset.problem


def test_an_offset_that_wanders_is_not_one() -> None:
    """Stamps of a clock of its own, which drifts by a tenth of a second."""
    meter = OffsetMeter([CAMERA])
    for event in RIG.events(SECONDS):
        if event.source == JOINTS:
            meter.see_joints(START_NS + event.stamp_ns, RIG.joint_positions(event.stamp_ns))
        else:
            meter.see_frame(CAMERA, START_NS + round(event.stamp_ns * 1.008) - 10**8, picture(event.stamp_ns))
    offset = meter.offsets()[CAMERA]
    assert offset.ms is None and offset.problem


def test_lost_frames() -> None:
    rng = np.random.default_rng(1)
    meter = OffsetMeter([CAMERA])
    for event in RIG.events(SECONDS):
        if event.source == JOINTS:
            meter.see_joints(START_NS + event.stamp_ns, RIG.joint_positions(event.stamp_ns))
        elif rng.random() > 0.03:
            meter.see_frame(CAMERA, START_NS + event.stamp_ns + 60_000_000, picture(event.stamp_ns))
    assert meter.offsets()[CAMERA].ms == pytest.approx(-60.0, abs=5.0)
