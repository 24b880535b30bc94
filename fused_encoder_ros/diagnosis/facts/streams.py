"""What one stream is like by itself: rate, gaps, and what its stamps say beside the times of recording."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.diagnosis.facts.recording import Stamps, Track, as_stamps
from fused_encoder_ros.settings import absolute

_DRIFT_BINS = 24
_DRIFT_LEAST_S = 5.0
_EXACT_NS = 1_000
"""Delays below this are no delays: the time of recording was taken from the stamp, or the other way round."""


@dataclass(frozen=True)
class Steps:
    """The steps from stamp to stamp of a stream.

    Attributes:
        period_ms: the middle step.
        jitter_ms: half the width of the middle nine tenths of the steps.
        longest_gap_ms, longest_gap_at_s: the longest step, and when it began, from the stream's first stamp.
        lost: messages missing in the long steps, by the period.
    """

    period_ms: float
    jitter_ms: float
    longest_gap_ms: float
    longest_gap_at_s: float
    lost: int

    @classmethod
    def between(cls, stamps: Stamps) -> Steps | None:
        """The forward steps of stamps in the order of arrival, ns; None when there is none."""
        forward = np.diff(stamps) > 0
        if not forward.any():
            return None
        steps_ms, begins = np.diff(stamps)[forward] / 1e6, stamps[:-1][forward]
        low, period_ms, high = np.percentile(steps_ms, [5, 50, 95]).tolist()
        longest = int(steps_ms.argmax())
        return cls(
            period_ms=period_ms,
            jitter_ms=(high - low) / 2,
            longest_gap_ms=float(steps_ms[longest]),
            longest_gap_at_s=float(begins[longest] - stamps[0]) / 1e9,
            lost=_lost(steps_ms, period_ms),
        )


def _lost(steps_ms: NDArray[np.float64], period_ms: float) -> int:
    """Messages missing in the long steps. A short step after a long one means that a message was late, not lost."""
    following = np.minimum(np.append(steps_ms[1:], period_ms), period_ms)
    is_long = steps_ms > 1.5 * period_ms
    return int((np.round((steps_ms + following)[is_long] / period_ms) - 2).clip(0).sum())


@dataclass(frozen=True)
class Delay:
    """Time of recording minus the stamp, corrected by `stamp_offset_ms`.

    It holds the way from the sensor to the recorder and whatever the two clocks differ by; the bag cannot tell the two apart.

    Attributes:
        middle_ms: the median.
        spread_ms: width of the middle nine tenths.
        drift_ms_per_minute: how fast it grows; None where the bag is too short, the stamps jump or
            the delay scatters too much to say.
        is_exact: every delay is zero: stamp and time of recording are one and the same.
    """

    middle_ms: float
    spread_ms: float
    drift_ms_per_minute: float | None
    is_exact: bool

    @classmethod
    def between(cls, stamps: Stamps, recorded: Stamps) -> Delay | None:
        """Of stamps and times of recording, ns; None for none."""
        if not stamps.size:
            return None
        delays_ms = (recorded - stamps) / 1e6
        low, middle, high = np.percentile(delays_ms, [5, 50, 95]).tolist()
        is_exact = bool(np.abs(recorded - stamps).max() < _EXACT_NS)
        in_order = bool((np.diff(stamps) >= 0).all())
        drift = _drift((recorded - recorded[0]) / 1e9, delays_ms) if in_order else None
        return cls(middle, high - low, drift, is_exact)


def _drift(seconds: NDArray[np.float64], delays_ms: NDArray[np.float64]) -> float | None:
    """The slope in ms a minute, where it stands out from the scatter."""
    if seconds[-1] < _DRIFT_LEAST_S or seconds.size < 4 * _DRIFT_BINS:
        return None
    # Medians, since single messages come late, and then a line.
    parts = np.array_split(np.arange(seconds.size), _DRIFT_BINS)
    at = np.array([np.median(seconds[part]) for part in parts])
    middle = np.array([np.median(delays_ms[part]) for part in parts])
    slope, start = np.polyfit(at, middle, 1)
    scatter = float(np.std(middle - (start + slope * at)))
    along = abs(slope) * float(at[-1] - at[0])
    return float(slope) * 60 if along > 6 * scatter else None


@dataclass(frozen=True)
class Stream:
    """One source of the bag.

    Attributes:
        source, topics, kind: name, topics from the root and message type; the type is empty where there is no such topic.
        problem: why one of the topics is not there, or an empty string.
        messages: how many.
        usable: how many with content and a stamp that a set can be made of, each stamp once.
        rate_hz: messages a second of recording; None for fewer than two.
        steps: period and gaps; None when fewer than two stamps are usable.
        begins_s, ends_s: first and last message, seconds of the recording.
        contents: messages by encoding and size, the most frequent first.
        undecodable, detail: messages that could not be used, and the last reason.
        unset: stamps of zero or below.
        repeated: stamps equal to the one before.
        backwards: stamps before the one before; `furthest_back_ms` is the largest such step.
        delay: time of recording minus corrected stamp; None when no stamp is set.
        longest_still_s, still_until_s: the longest time for which no bit of its picture changed, and when it ended, seconds of
            the recording.
    """

    source: str
    topics: list[str]
    kind: str
    problem: str
    messages: int
    usable: int
    rate_hz: float | None
    steps: Steps | None
    begins_s: float | None
    ends_s: float | None
    contents: dict[str, int]
    undecodable: int
    detail: str
    unset: int
    repeated: int
    backwards: int
    furthest_back_ms: float
    delay: Delay | None
    longest_still_s: float
    still_until_s: float

    @property
    def topic(self) -> str:
        """Its topics in a word; a camera has one."""
        return ', '.join(self.topics)

    @property
    def stands_still(self) -> bool:
        """Whether most stamps are the same as the one before."""
        return 2 * self.repeated > self.messages


def rate_hz(count: int, span_s: float) -> float | None:
    """Rate of so many events with so many seconds from the first to the last; None where that tells nothing."""
    return (count - 1) / span_s if span_s > 0 else None


def describe_stream(
    source: str, topics: Sequence[str], kind: str, problem: str, track: Track, begin_ns: int, offset_ns: int
) -> Stream:
    """The facts of one track; `begin_ns` is where the recording begins, `offset_ns` is added to its stamps."""
    stamps, recorded = as_stamps(track.stamps), as_stamps(track.recorded)
    is_set = stamps > 0
    steps_ns = np.diff(stamps[is_set])
    span_s = float(recorded[-1] - recorded[0]) / 1e9 if stamps.size else 0.0
    return Stream(
        source=source,
        topics=[absolute(topic) for topic in topics],
        kind=kind,
        problem=problem,
        messages=stamps.size,
        usable=track.usable.size,
        rate_hz=rate_hz(stamps.size, span_s),
        steps=Steps.between(stamps[is_set]),
        begins_s=float(recorded[0] - begin_ns) / 1e9 if stamps.size else None,
        ends_s=float(recorded[-1] - begin_ns) / 1e9 if stamps.size else None,
        contents=dict(track.contents.most_common()),
        undecodable=track.undecodable,
        detail=track.detail,
        unset=int((~is_set).sum()),
        repeated=int((steps_ns == 0).sum()),
        backwards=int((steps_ns < 0).sum()),
        furthest_back_ms=float(-steps_ns.min(initial=0)) / 1e6,
        delay=Delay.between(stamps[is_set] + offset_ns, recorded[is_set]),
        longest_still_s=track.longest_still_s,
        still_until_s=max(track.still_until_ns - begin_ns, 0) / 1e9,
    )
