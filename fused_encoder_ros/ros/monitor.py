"""What the node knows about its own running: inputs, latencies, and why nothing comes out. No rclpy here."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fused_encoder_ros.content.watch import Watcher
from fused_encoder_ros.pipeline.data import JOINTS, Drop, Feature, Observation, Outcome, Reason, Reject
from fused_encoder_ros.pipeline.images import image_content
from fused_encoder_ros.pipeline.outputs import STAGES
from fused_encoder_ros.pipeline.sync import CAMERAS
from fused_encoder_ros.ros.losses import Losses
from fused_encoder_ros.ros.worker import Timing

_WINDOW = 1000
_WAITS = {CAMERAS: 'wait_cameras', JOINTS: 'wait_joints'}
_OWN_FAULTS = (Reason.UNDECODABLE, Reason.BAD_STAMP, Reason.CLOCK_JUMP)
_LOG_INTERVAL_NS = 5_000_000_000
_NUMBER = re.compile(r'(?<=[ (])[0-9.]+')  # not the digits in names


class InputMonitor:
    """Health of one input, as seen when its messages arrive.

    Attributes:
        messages: how many came.
        losses: how many did not come, and why.
        rejects: messages that could not be used, by reason.
        problem: why the last message could not be used; empty when it could.
        content: what the last image held; empty for joints.
        crowd: why messages may be of two senders; empty when they are not.

    Args:
        source: whose messages they are.
        label: what the log calls it.
        log: takes (severity, text); called at most once in five seconds for a problem, and when it has gone.
    """

    def __init__(self, source: str, label: str, log: Callable[[str, str], None]) -> None:
        self._source = source
        self._label = label
        self.messages = 0
        self.rejects: Counter[str] = Counter()
        self.problem = ''
        self.losses = Losses()
        self.content = ''
        self.crowd = ''
        self._usable_content = ''
        self.last_arrival_ns: int | None = None
        self._since_ns = time.monotonic_ns()
        self._arrivals: deque[int] = deque(maxlen=64)
        self._sizes: deque[int] = deque(maxlen=64)
        self._log = log
        self._last_log_ns: int | None = None
        self._logged = False
        self._told: dict[str, tuple[int, int]] = {}
        self._last_change_ns: int | None = None

    def arrived(self, message: Any, now_ns: int) -> None:
        """A message came, at `time.monotonic_ns`."""
        self.messages += 1
        self.last_arrival_ns = now_ns
        self._arrivals.append(now_ns)
        self.losses.arrived(now_ns)
        if self._source != JOINTS:
            self._sizes.append(len(message.data))
            self.content = image_content(message)

    def tell_missed(self, why_lost: Callable[[], str], why_overwritten: Callable[[], str], now_ns: int) -> None:
        """Count the messages that did not come and log them with their cause, each kind at most once in five seconds."""
        self.losses.count(now_ns)
        self._tell('the middleware lost', self.losses.lost, why_lost, now_ns)
        self._tell('in the queue of this node, newer messages replaced', self.losses.overwritten or 0, why_overwritten, now_ns)

    def _tell(self, what: str, count: int, why: Callable[[], str], now_ns: int) -> None:
        told, told_ns = self._told.get(what, (0, None))
        if count > told and _is_due(told_ns, now_ns):
            self._log('warn', f'{self._label}: {what} {count} message(s) so far: {why()}')
            self._told[what] = count, now_ns

    def judged(self, outcomes: Sequence[Outcome], now_ns: int) -> None:
        """The outcomes of the message that came."""
        faults = [
            o for o in outcomes if isinstance(o, (Drop, Reject)) and o.stream == self._source and o.reason in _OWN_FAULTS
        ]
        if not faults:
            if self._logged:
                self._log('info', f'{self._label}: usable again')
            self.problem, self._logged = '', False
            self._note_content(now_ns)
            return
        self.rejects[str(faults[0].reason)] += 1
        self.problem = faults[0].detail
        if not self._logged and _is_due(self._last_log_ns, now_ns):
            self._log('warn', f'{self._label}: {self.problem}')
            self._logged, self._last_log_ns = True, now_ns

    def _note_content(self, now_ns: int) -> None:
        # The features go on, but of other pixels than before: a driver that restarted with other settings, or another camera.
        before, self._usable_content = self._usable_content, self.content
        if before and self.content != before and _is_due(self._last_change_ns, now_ns):
            self._log('warn', f'{self._label}: images are now {self.content}; before, they were {before}')
            self._last_change_ns = now_ns

    def published_by(self, count: int, topic: str) -> None:
        """How many publishers a camera's topic has now: of two, each set would take whichever frame is nearer."""
        crowd = f'{topic} has {count} publishers (two cameras, or a driver that has not ended yet); sets may mix their frames'
        crowd = crowd if count > 1 else ''
        if crowd != self.crowd:
            self._log('warn' if crowd else 'info', crowd or f'{topic} no longer has a second publisher')
            self.crowd = crowd

    def rate_hz(self, now_ns: int) -> float | None:
        """Arrival rate over the last messages; falls when they stop. None before the second."""
        if len(self._arrivals) < 2:
            return None
        return len(self._arrivals) / max((now_ns - self._arrivals[0]) / 1e9, 1e-9)

    @property
    def jitter_ms(self) -> float | None:
        """Half the width of the middle nine tenths of the steps between arrivals; None before the third message."""
        if len(self._arrivals) < 3:
            return None
        low, high = np.percentile(np.diff(self._arrivals), [5, 95]).tolist()
        return float(high - low) / 2e6

    def bytes_per_s(self, now_ns: int) -> float | None:
        """Of image data; None for joints and before the second message."""
        rate_hz = self.rate_hz(now_ns)
        return None if rate_hz is None or not self._sizes else rate_hz * sum(self._sizes) / len(self._sizes)

    def age_s(self, now_ns: int) -> float | None:
        """Seconds since the last message; None before the first."""
        return None if self.last_arrival_ns is None else (now_ns - self.last_arrival_ns) / 1e9

    def silent_for_s(self, now_ns: int) -> float:
        """Seconds since the last message, or since listening began."""
        return (now_ns - (self.last_arrival_ns or self._since_ns)) / 1e9


def _is_due(last_log_ns: int | None, now_ns: int) -> bool:
    return last_log_ns is None or now_ns - last_log_ns >= _LOG_INTERVAL_NS


class Latencies:
    """The latest latencies by stage, milliseconds. Written by the worker, read by the executor."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[str, deque[float]] = {stage: deque(maxlen=_WINDOW) for stage in STAGES}

    def add(self, latency_ms: Mapping[str, float]) -> None:
        """Take the stages of one set."""
        with self._lock:
            for stage, value in latency_ms.items():
                self._windows[stage].append(value)

    def percentiles(self) -> dict[str, tuple[float, float, float] | None]:
        """p50, p95 and p99 by stage; None before the first set."""
        with self._lock:
            windows = {stage: np.array(window) for stage, window in self._windows.items()}
        answer: dict[str, tuple[float, float, float] | None] = {}
        for stage, window in windows.items():
            if window.size:
                p50, p95, p99 = np.percentile(window, [50, 95, 99]).tolist()
                answer[stage] = (p50, p95, p99)
            else:
                answer[stage] = None
        return answer


@dataclass
class _Arrival:
    arrived_ns: int
    transport_ms: float
    frames: int = 0
    decoded_ns: int = 0
    settled_ns: dict[str, int] = field(default_factory=dict)


class ArrivalClock:
    """Remembers when each anchor frame arrived, to tell the stages of its latency. Used by both threads."""

    _LIMIT = 1024

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals: dict[int, _Arrival] = {}

    def arrived(self, stamp_ns: int, now_ns: int, clock_ns: int) -> None:
        """An anchor frame came at `time.monotonic_ns` and at the ROS clock's time."""
        with self._lock:
            # A second frame of the same stamp is a duplicate: the set is of the first.
            self._arrivals.setdefault(stamp_ns, _Arrival(now_ns, (clock_ns - stamp_ns) / 1e6)).frames += 1
            if len(self._arrivals) > self._LIMIT:
                del self._arrivals[next(iter(self._arrivals))]

    def decoded(self, stamp_ns: int) -> None:
        """It has been decoded by now."""
        with self._lock:
            if (arrival := self._arrivals.get(stamp_ns)) and not arrival.decoded_ns:
                arrival.decoded_ns = time.monotonic_ns()

    def settled(self, stamp_ns: int, part: str) -> None:
        """It need not wait for a part of its set any more, see `Synchroniser`."""
        with self._lock:
            if arrival := self._arrivals.get(stamp_ns):
                arrival.settled_ns[part] = time.monotonic_ns()

    def refused(self, stamp_ns: int) -> None:
        """A frame of this stamp was refused; an earlier one of the same stamp may still be under way."""
        with self._lock:
            if arrival := self._arrivals.get(stamp_ns):
                arrival.frames -= 1
                if not arrival.frames:
                    del self._arrivals[stamp_ns]

    def forget(self, stamp_ns: int) -> _Arrival | None:
        """An anchor frame has ended; returns when it came."""
        with self._lock:
            return self._arrivals.pop(stamp_ns, None)

    def stages(self, feature: Feature, timing: Timing, clock_ns: int) -> dict[str, float]:
        """Latency in milliseconds by stage, of a feature that was just published."""
        stages = {
            'queue': (timing.taken_ns - timing.posted_ns) / 1e6,
            'encode': (timing.encoded_ns - timing.taken_ns) / 1e6,
            'publish': (time.monotonic_ns() - timing.encoded_ns) / 1e6,
            'total': (clock_ns - feature.stamp_ns) / 1e6,
        }
        if arrival := self.forget(feature.stamp_ns):
            stages |= {
                'transport': arrival.transport_ms,
                'decode': (arrival.decoded_ns - arrival.arrived_ns) / 1e6,
                'wait': (timing.posted_ns - arrival.decoded_ns) / 1e6,
                **{_WAITS[part]: (at_ns - arrival.decoded_ns) / 1e6 for part, at_ns in arrival.settled_ns.items()},
            }
        return stages


class Tally:
    """What became of every anchor frame, from the pipeline's outcomes and the worker's.

    Each counter has one writing thread: `published` and `faults` the worker's, the others the executor's.

    Attributes:
        published: sets whose feature was published.
        faults: sets that the encoder or the publishing failed for.
        drops: anchor frames that gave no feature for any other reason, by `Drop.key`.
        unencoded: those of them that were complete sets.
    """

    def __init__(self) -> None:
        self.published = 0
        self.drops: Counter[str] = Counter()
        self.unencoded = 0
        self.faults = 0
        self.last_feature_ns: int | None = None
        self.last_detail = ''
        self._by_source: Counter[str] = Counter()
        self._skews: deque[Mapping[str, int]] = deque(maxlen=_WINDOW)

    def matched(self, observation: Observation) -> None:
        """A set was complete."""
        self._skews.append(observation.skew_ns)

    def dropped(self, drop: Drop) -> None:
        """An anchor gave no set."""
        self.drops[drop.key] += 1
        self._by_source[drop.stream] += 1
        self.last_detail = drop.detail

    def all_drops(self, faults: int | None = None) -> dict[str, int]:
        """Drops by reason, the worker's included; `faults` gives a count that was read before."""
        faults = self.faults if faults is None else faults
        return {**self.drops, **({str(Reason.ENCODER_FAULT): faults} if faults else {})}

    def drops_for(self, source: str) -> int:
        """Anchor frames that gave no set because of this source."""
        return self._by_source[source]

    def worst_skew_ms(self) -> dict[str, float]:
        """The largest skew of each source over the last sets."""
        worst: dict[str, float] = {}
        for skews in self._skews:
            for source, skew in skews.items():
                worst[source] = max(worst.get(source, 0.0), abs(skew) / 1e6)
        return worst


def resident_bytes() -> int:
    """Memory of this process that is in RAM."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE')


class ContentLog:
    """Says in one line each what is wrong with what the data show, and when it is over."""

    def __init__(self, log: Callable[[str, str], None], watcher: Watcher | None) -> None:
        self._log = log
        self._watcher = watcher
        self._said: dict[tuple[str, str, str], str] = {}

    def check(self) -> None:
        """Once a second."""
        now = {fault.key: fault for fault in self._watcher.faults} if self._watcher else {}
        for key, fault in now.items():
            if key not in self._said:
                self._log('warn', str(fault))
                self._said[key] = fault.title
        for key in [key for key in self._said if key not in now]:
            self._log('info', f'no longer: {self._said.pop(key)}')


class StallWatch:
    """Sees that this process stood still, by a call that then comes late.

    Args:
        period_s: how often `beat` is to be called.
    """

    _LEAST_S = 0.5
    _REMEMBERED_S = 3.0

    def __init__(self, period_s: float) -> None:
        self._period_s = period_s
        self._last_s: float | None = None
        self._stalled_s = 0.0
        self._until_s = 0.0

    def beat(self, now_s: float) -> float:
        """For how long it stood still within the last three seconds, at `time.monotonic`; 0.0 when it did not."""
        late_s = 0.0 if self._last_s is None else now_s - self._last_s - self._period_s
        self._last_s = now_s
        if late_s >= self._LEAST_S:
            self._stalled_s, self._until_s = late_s, now_s + self._REMEMBERED_S
        return self._stalled_s if now_s < self._until_s else 0.0


class SilenceWatch:
    """Says in one line why no set comes out, again when the cause has changed, and when sets come again."""

    def __init__(self, log: Callable[[str, str], None]) -> None:
        self._log = log
        self._since_ns = time.monotonic_ns()
        self._said = ''

    def check(self, last_feature_ns: int | None, silence_s: float, explain: Callable[[], str]) -> str:
        """Why it has been silent for longer than `silence_s`; empty when it has not."""
        now_ns = time.monotonic_ns()
        silent_s = (now_ns - max(last_feature_ns or 0, self._since_ns)) / 1e9
        if silent_s < silence_s:
            if self._said:
                self._log('info', 'sets are coming again')
                self._said = ''
            return ''
        explanation = explain()
        cause = _NUMBER.sub('', explanation)  # growing counts are no new cause
        if cause != self._said:
            self._said = cause
            self._log('warn', f'no set for {silent_s:.1f} s: {explanation}')
        return explanation


class HeldLevel:
    """A level that goes up at once, and down only after it was lower all the time for a while.

    A camera that comes and goes ten times a minute is then seen as one trouble, not as twenty.
    """

    def __init__(self) -> None:
        self._level = 0
        self._message = ''
        self._seen_ns = 0

    def update(self, level: int, message: str, now_ns: int, hold_s: float) -> tuple[int, str]:
        """The level and message to show, for those that hold now."""
        if level < self._level and now_ns - self._seen_ns < hold_s * 1e9:
            return self._level, f'recovering from: {self._message}'
        self._level, self._message, self._seen_ns = level, message, now_ns
        return level, message
