"""One pass over a robot's messages through the real pipeline: what is kept of it, in arrays of numbers."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.pipeline.data import JOINTS, Drop, Observation, Outcome, Reason, stamp_to_ns
from fused_encoder_ros.pipeline.images import image_content
from fused_encoder_ros.pipeline.joints import is_usable
from fused_encoder_ros.pipeline.pipeline import Pipeline
from fused_encoder_ros.settings.topics import Topic

Stamps = NDArray[np.int64]

SET = 'set'
"""What anchors that became sets are counted by; drops by `Drop.key`."""

SAMPLES = 6
"""Sets that are kept whole, from along the bag."""

_LATEST_NS = 2**62
"""A damaged bag may say any time; differences must fit into 64 bits."""

_KINDS = 16
"""Encodings, and lists of joint names, that are told apart in one stream."""


def _numbers() -> array[int]:
    return array('q')


def as_stamps(numbers: array[int]) -> Stamps:
    """The numbers as int64 [N]."""
    return np.frombuffer(numbers, np.int64) if numbers else np.empty(0, np.int64)


class Subject(Protocol):
    """What is examined: a bag, or a robot that runs."""

    @property
    def path(self) -> Path | None:
        """The bag; None when the messages come live."""

    @property
    def topics(self) -> list[Topic]:
        """Every topic that there is."""

    @property
    def kinds(self) -> Mapping[str, str]:
        """Message type of each source that has its topic."""

    @property
    def lacks(self) -> Mapping[str, str]:
        """Why each other source has none."""

    @property
    def offered(self) -> Mapping[str, Sequence[str]]:
        """Reliability of each source's publishers, as far as it is known: 'reliable' or 'best_effort'."""

    @property
    def unreached(self) -> Sequence[str]:
        """Sources whose publishers are found, but from which nothing arrives."""

    @property
    def message_count(self) -> int:
        """Number of messages that will come; 0 when it is not known before."""

    def messages(self) -> Iterator[tuple[str, Any, int]]:
        """Yield (source, message, time of arrival in nanoseconds). What is said above holds when they have ended."""


@dataclass
class Track:
    """Every message of one source, in the order of recording.

    Attributes:
        stamps: header stamp, ns.
        recorded: time of recording, ns.
        contents: messages by encoding and size, or by compressed format.
        undecodable: messages that could not be used for what they hold.
        detail: the last reason for that.
        longest_still_s, still_until_ns: the longest time without a change of the picture, and when it ended, of recording.
    """

    stamps: array[int] = field(default_factory=_numbers)
    recorded: array[int] = field(default_factory=_numbers)
    contents: Counter[str] = field(default_factory=Counter)
    undecodable: int = 0
    detail: str = ''
    longest_still_s: float = 0.0
    still_until_ns: int = 0
    _usable: array[int] = field(default_factory=_numbers)

    def add(self, message: Any, stamp_ns: int, recorded_ns: int, problem: str | None) -> None:
        """Take a message; `problem` says why it is undecodable."""
        self.stamps.append(stamp_ns)
        self.recorded.append(min(recorded_ns, _LATEST_NS))
        content = image_content(message) if hasattr(message, 'data') else ''
        if content and (content in self.contents or len(self.contents) < _KINDS):
            self.contents[content] += 1
        if problem is not None:
            self.undecodable += 1
            self.detail = problem
        elif stamp_ns > 0:
            self._usable.append(stamp_ns)

    def stood_still(self, for_s: float, recorded_ns: int) -> None:
        """The picture has not changed for so long now."""
        if for_s > self.longest_still_s:
            self.longest_still_s, self.still_until_ns = for_s, min(recorded_ns, _LATEST_NS)

    @property
    def usable(self) -> Stamps:
        """Stamps of the messages that a set can be made of, sorted, each once."""
        return np.unique(as_stamps(self._usable))


@dataclass(frozen=True)
class Sample:
    """One set as it goes to the encoder: `images` uint8 [S,S,3*cameras], stamps and skews in ns, `at_ns` of recording."""

    images: NDArray[np.uint8]
    stamps_ns: dict[str, int]
    skew_ns: dict[str, int]
    at_ns: int


@dataclass
class Recording:
    """What one pass over the messages leaves.

    Attributes:
        tracks: by source; one without messages is empty.
        joint_names: stamps of the joint messages, by the names that they bring.
        skews: skew of each source in each set, ns.
        decided: time of recording at which an anchor was decided, ns, by `SET` or `Drop.key`.
        details: the last sentence for each reason of a drop or reject.
        samples: the first set of each part of a bag; there are `SAMPLES` parts.
    """

    tracks: dict[str, Track]
    joint_names: dict[tuple[str, ...], array[int]] = field(default_factory=dict)
    skews: dict[str, array[int]] = field(default_factory=dict)
    decided: dict[str, array[int]] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    samples: dict[int, Sample] = field(default_factory=dict)

    def take_message(self, source: str, message: Any, recorded_ns: int, outcomes: Sequence[Outcome]) -> None:
        """Take a message and what the pipeline made of it."""
        stamp_ns = stamp_to_ns(message.header.stamp)
        problem = _problem(outcomes, source, stamp_ns)
        self.tracks[source].add(message, stamp_ns, recorded_ns, problem)
        if source == JOINTS and stamp_ns > 0:
            names = tuple(message.name) if problem is None else _usable_joints(message)
            if names and (names in self.joint_names or len(self.joint_names) < _KINDS):
                self.joint_names.setdefault(names, _numbers()).append(stamp_ns)

    def take_outcomes(self, outcomes: Sequence[Outcome], recorded_ns: int) -> None:
        """Count what was decided."""
        for outcome in outcomes:
            if isinstance(outcome, Observation):
                key = SET
                for source, skew_ns in outcome.skew_ns.items():
                    self.skews.setdefault(source, _numbers()).append(skew_ns)
            elif isinstance(outcome, Drop):
                key = outcome.key
                self.details[key] = outcome.detail
            else:
                self.details[f'{outcome.stream}: {outcome.reason}'] = outcome.detail
                continue
            self.decided.setdefault(key, _numbers()).append(min(recorded_ns, _LATEST_NS))


def record(subject: Subject, pipeline: Pipeline, progress: Callable[[int, int], None]) -> Recording:
    """Push every message through the pipeline.

    Raises:
        BagError: when the bag ends in the middle.
    """
    recording = Recording({source: Track() for source in pipeline.sources})
    total, recorded_ns = subject.message_count, 0
    for number, (source, message, recorded_ns) in enumerate(subject.messages(), 1):
        outcomes = pipeline.push(source, message)
        recording.take_message(source, message, recorded_ns, outcomes)
        recording.take_outcomes(outcomes, recorded_ns)
        if source != JOINTS:
            recording.tracks[source].stood_still(pipeline.still_for_s(source), recorded_ns)
        part = number * SAMPLES // (total + 1)
        one = next((o for o in outcomes if isinstance(o, Observation)), None)
        if one is not None and total and part not in recording.samples:
            recording.samples[part] = Sample(one.images, dict(one.stamps_ns), one.skew_ns, recorded_ns)
        progress(number, total)
    recording.take_outcomes(pipeline.finish(), recorded_ns)
    return recording


def _problem(outcomes: Sequence[Outcome], source: str, stamp_ns: int) -> str | None:
    """Why this very message is undecodable."""
    for o in outcomes:
        if not isinstance(o, Observation) and (o.stream, o.stamp_ns, o.reason) == (source, stamp_ns, Reason.UNDECODABLE):
            return o.detail
    return None


def _usable_joints(message: Any) -> tuple[str, ...]:
    """What a joint message brings when the pipeline found fault with it."""
    if len(message.position) != len(message.name) or len(set(message.name)) != len(message.name):
        return ()
    return tuple(name for name, position in zip(message.name, message.position) if is_usable(position))
