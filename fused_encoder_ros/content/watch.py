"""Watches a stream of observations: which faults hold, since when, and which there were."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

from fused_encoder_ros.content.judgement import ContentFault, judge
from fused_encoder_ros.content.looks import LOOKS_PER_S, Look, Looker
from fused_encoder_ros.content.reference import Reference
from fused_encoder_ros.pipeline.data import Observation

WINDOW = 15
"""Looks that are judged together: three seconds."""

_STRIDE = int(LOOKS_PER_S)
_CONFIRMED = 2
"""A fault is told when it was seen in so many judgements in a row, one a second."""

_DOUBTFUL = {'moved': 6, 'unlike': 6, 'beyond_training': 6}
"""These take longer: what is new in view for a few seconds may look like them, and an arm may reach further once."""

_GONE = 3
"""And is over when it was not seen in so many."""


@dataclass
class _Track:
    """One fault through successive judgements."""

    fault: ContentFault
    since_ns: int
    seen: int = 0
    missed: int = 0

    @property
    def is_confirmed(self) -> bool:
        """Whether it was seen often enough to be told."""
        return self.seen >= _DOUBTFUL.get(self.fault.fault, _CONFIRMED)

    @property
    def patience(self) -> int:
        """After how many judgements without it the fault is over, or never was."""
        return _GONE if self.is_confirmed else 2 if self.fault.fault in _DOUBTFUL else 1


@dataclass
class Told:
    """A fault of a whole stream.

    Attributes:
        source, fault, title, evidence, fix, about: as those of `ContentFault`, in the latest wording.
        first_ns, last_ns: stamps of the observations with which it was told first and last.
    """

    source: str
    fault: str
    title: str
    evidence: str
    fix: str
    about: str
    first_ns: int
    last_ns: int


class Watcher:
    """Watches what observations show. Its findings depend on the observations alone, so bag and live agree.

    Attributes:
        reference: what the training data were like.
        faults: what is wrong now.
        told: every fault that there was, by key.
        distances: how far each camera, and the joints, are from the training data; 1 is as far as the training data go.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self._looker = Looker(reference.profile.fed['cameras'])
        self._window: deque[Look] = deque(maxlen=WINDOW)
        self._looks = 0
        self._tracks: dict[tuple[str, str, str], _Track] = {}
        self.faults: tuple[ContentFault, ...] = ()
        self.told: dict[tuple[str, str, str], Told] = {}
        self.distances: dict[str, float] = {}

    def see(self, observation: Observation) -> tuple[ContentFault, ...]:
        """Take the next observation; what is wrong now."""
        look = self._looker.look(observation)
        if look is None:
            return self.faults
        if self._window and look.stamp_ns <= self._window[-1].stamp_ns:
            self._window.clear()
        self._window.append(look)
        self._looks += 1
        if len(self._window) == WINDOW and self._looks % _STRIDE == 0:
            self._judge()
        return self.faults

    def _judge(self) -> None:
        begin_ns, now_ns = self._window[0].stamp_ns, self._window[-1].stamp_ns
        seen = {fault.key: fault for fault in judge(list(self._window), self.reference, self.distances)}
        for key, fault in seen.items():
            track = self._tracks.setdefault(key, _Track(fault, begin_ns))
            track.fault, track.seen, track.missed = fault, track.seen + 1, 0
        for key, track in list(self._tracks.items()):
            if key not in seen:
                track.missed += 1
                if track.missed >= track.patience:
                    del self._tracks[key]
        confirmed = [track for track in self._tracks.values() if track.is_confirmed]
        self.faults = tuple(replace(track.fault, since_ns=track.since_ns) for track in confirmed)
        for fault in self.faults:
            first_ns = self.told[fault.key].first_ns if fault.key in self.told else now_ns
            self.told[fault.key] = Told(
                fault.source, fault.fault, fault.title, fault.evidence, fault.fix, fault.about, first_ns, now_ns
            )
