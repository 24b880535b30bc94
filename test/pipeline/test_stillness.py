from __future__ import annotations

import numpy as np

from fused_encoder_ros.pipeline.data import Frame
from fused_encoder_ros.pipeline.stillness import Stillness

MS = 1_000_000


def frame(ms: int, value: int) -> Frame:
    return Frame(ms * MS, np.full((84, 84, 3), value, np.uint8))


def test_one_bit_of_one_pixel_is_a_change() -> None:
    stillness = Stillness()
    for ms in (1, 34, 67):
        stillness.see(frame(ms, 7))
    assert stillness.for_s == 0.066
    other = frame(100, 7)
    other.pixels[83, 83, 2] ^= 1
    stillness.see(other)
    assert stillness.for_s == 0
    stillness.see(frame(133, 7))
    assert stillness.for_s == 0


def test_a_clock_set_back_begins_anew() -> None:
    """As of a looped bag: the time is never negative, and never that of another lap."""
    stillness = Stillness()
    for ms, expected_s in ((5000, 0), (5100, 0.1), (1, 0), (51, 0.05)):
        stillness.see(frame(ms, 7))
        assert stillness.for_s == expected_s


def test_a_frame_without_a_stamp_tells_nothing() -> None:
    stillness = Stillness()
    for ms in (0, 1_700_000_000_000, 1_700_000_000_050):
        stillness.see(frame(ms, 7))
    assert stillness.for_s == 0.05


def test_a_late_frame_does_not_begin_anew() -> None:
    stillness = Stillness()
    for ms in (1, 101, 67, 134):
        stillness.see(frame(ms, 7))
    assert stillness.for_s == 0.133
