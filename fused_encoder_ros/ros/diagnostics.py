"""The node's state as a DiagnosticArray."""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from fused_encoder_ros.content.features import FAR, FeatureWatch
from fused_encoder_ros.content.inspector import watcher_of
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.pipeline.pipeline import Pipeline
from fused_encoder_ros.ros.inputs import Input
from fused_encoder_ros.ros.monitor import HeldLevel, Latencies, Tally, resident_bytes
from fused_encoder_ros.ros.worker import SelfHealingModel
from fused_encoder_ros.settings import Settings

if TYPE_CHECKING:
    from fused_encoder_ros.model import Model

NOT_AVAILABLE = 'n/a'

_OK, _WARN, _ERROR = range(3)
_LEVELS = (DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR)

_RECENT_REPORTS = 10
"""Over how many reports, one a second, the share of drops is taken."""

Problems = list[tuple[int, str]]


class Diagnostics:
    """Makes a status of the encoder and one of each input.

    ERROR: an input is silent, no set comes out, or the engine fails. WARN: messages are lost, cannot be used or may be of
    two senders, do not look like the training data, a threshold of the parameters `diagnostics.*` is passed, or the weights
    are random.
    """

    def __init__(
        self,
        node_name: str,
        inputs: Sequence[Input],
        pipeline: Pipeline,
        model: Model,
        health: SelfHealingModel,
        tally: Tally,
        latencies: Latencies,
        features: FeatureWatch | None,
    ) -> None:
        self._node_name = node_name
        self._inputs = inputs
        self._pipeline = pipeline
        self._model = model
        self._health = health
        self._tally = tally
        self._latencies = latencies
        self._features = features
        self._watcher = watcher_of(pipeline)
        self._held: defaultdict[str, HeldLevel] = defaultdict(HeldLevel)
        self._missed_before: dict[str, tuple[int, int]] = {}
        self._ended: deque[tuple[int, int]] = deque(maxlen=_RECENT_REPORTS + 1)

    def report(self, settings: Settings, silence: str, encoders: int) -> list[DiagnosticStatus]:
        """Every status, for one report a second.

        Args:
            settings: the parameters as they stand.
            silence: why no set comes out; empty when sets do.
            encoders: how many nodes publish features on the topic of this one.
        """
        return [self._encoder(settings, silence, encoders), *(self._input(input_, settings) for input_ in self._inputs)]

    def _input(self, input_: Input, settings: Settings) -> DiagnosticStatus:
        monitor, now_ns = input_.monitor, time.monotonic_ns()
        age_s, rate_hz = monitor.age_s(now_ns), monitor.rate_hz(now_ns)
        is_camera = input_.source != JOINTS
        problems: Problems = []
        if cause := silence_cause(input_, settings.values['silence_s']):
            problems.append((_WARN if monitor.problem else _ERROR, cause))
        still_s = self._pipeline.still_for_s(input_.source) if is_camera and monitor.messages else None
        if still_s is not None and 0 < settings.values['diagnostics.max_still_s'] < still_s:
            same = f'the picture has been the same, bit for bit, for {still_s:.1f} s'
            problems.append((_WARN, f'{same}; check whether the camera is frozen or covered'))
        distance = None
        if self._watcher:
            distance = self._watcher.distances.get(input_.source)
            problems += [(_WARN, str(fault)) for fault in self._watcher.faults if fault.source == input_.source]
        if monitor.crowd:
            problems.append((_WARN, monitor.crowd))
        least = 'diagnostics.min_camera_rate_hz' if is_camera else 'diagnostics.min_joint_rate_hz'
        if rate_hz is not None and rate_hz < settings.values[least]:
            problems.append((_WARN, f'{rate_hz:.1f} Hz is below {least}'))
        losses = monitor.losses
        before = self._missed_before.get(input_.label, (0, 0))
        self._missed_before[input_.label] = missed = losses.lost, losses.overwritten or 0
        if lost := missed[0] - before[0]:
            problems.append((_WARN, f'the middleware lost {lost} message(s) in the last second'))
        if overwritten := missed[1] - before[1]:
            problems.append((_WARN, f'the queue of this node overwrote {overwritten} message(s) in the last second'))
        values = {
            'topic': input_.resolved_topic,
            'publishers': len(input_.publishers),
            'reliability': input_.reliability,
            'messages': monitor.messages,
            'rate_hz': _number(rate_hz),
            'jitter_ms': _number(monitor.jitter_ms),
            'age_s': _number(age_s),
            'bytes_per_s': _number(monitor.bytes_per_s(now_ns)),
            'content': monitor.content or NOT_AVAILABLE,
            'still_s': _number(still_s),
            'distance_from_training': _number(distance),
            'lost': losses.lost,
            'overwritten': NOT_AVAILABLE if losses.overwritten is None else losses.overwritten,
            **{f'rejected: {reason}': count for reason, count in monitor.rejects.items()},
            'anchors_dropped': self._tally.drops_for(input_.source),
        }
        return self._status(input_.label, problems, 'receiving', values, settings)

    def _encoder(self, settings: Settings, silence: str, encoders: int) -> DiagnosticStatus:
        model, tally = self._model, self._tally
        failure = self._health.failure  # the worker goes on
        published, faults = tally.published, tally.faults  # the worker goes on counting
        drops = tally.all_drops(faults)
        stages = self._latencies.percentiles()
        stale = self._pipeline.stale_joints
        problems: Problems = [(_ERROR, failure)] if failure else [(_ERROR, f'no set comes out: {silence}')] if silence else []
        if model.is_random:
            problems.append((_WARN, 'no checkpoint was given: features come from RANDOM weights'))
        if encoders > 1:
            fix = 'stop all but one, or give each its own namespace'
            problems.append((_WARN, f'{encoders} nodes publish features on the same topic; {fix}'))
        share = self._recent_drop_share(published, sum(drops.values()))
        if share is not None and share > settings.values['diagnostics.max_drop_share']:
            problems.append((_WARN, f'{share:.0%} of the last anchor frames gave no set; the last drop: {tally.last_detail}'))
        most_ms, total = settings.values['diagnostics.max_latency_ms'], stages['total']
        if most_ms and total and total[1] > most_ms:
            problems.append((_WARN, f'the latency (p95) of {total[1]:.0f} ms is above diagnostics.max_latency_ms'))
        if stale:
            problems.append((_WARN, f'no recent position of the joints {", ".join(stale)}'))
        distance = self._features.recent if self._features else None
        if distance is not None and distance > FAR:
            far = f'features are {distance:.1f} times as far away as those of the training data ever are'
            problems.append((_WARN, f'{far}; check that the robot sees and does what it did in training'))
        encoding = self._pipeline.counts.sets - published - faults - tally.unencoded
        values: dict[str, object] = {
            'anchors': self._pipeline.counts.anchors,
            'sets': published,
            'waiting': self._pipeline.pending + encoding,
            **{f'dropped: {reason}': count for reason, count in sorted(drops.items())},
            'recent_drop_share': _number(share),
            'stale_joints': ', '.join(stale) or 'none',
            'feature_distance': _number(distance),
            **{f'skew_max_ms: {source}': _number(ms) for source, ms in tally.worst_skew_ms().items()},
        }
        for stage, percentiles in stages.items():
            for name, value in zip(('p50', 'p95', 'p99'), percentiles or (None, None, None)):
                values[f'latency_ms: {stage} {name}'] = _number(value)
        return self._status('encoder', problems, 'encoding', values | self._engine(failure), settings)

    def _engine(self, failure: str) -> dict[str, object]:
        model, on_device = self._model, self._model.device_bytes
        return {
            'design': model.design,
            'engine': model.engine.name,
            'precision': model.engine.precision,
            'engine_error': f'{model.engine_error:.1e}',
            'engine_reason': model.engine_reason,
            'engine_state': failure or 'running',
            'engine_rebuilds': self._health.rebuilds,
            'start_up_ms': f'{model.start_up_s * 1e3:.0f}',
            'device': str(model.engine.device),
            'threads': model.threads,
            'model_hash': model.hash,
            'random_weights': model.is_random,
            'memory_mib': f'{resident_bytes() / 2**20:.1f}',
            'device_memory_mib': NOT_AVAILABLE if on_device is None else f'{on_device / 2**20:.1f}',
        }

    def _recent_drop_share(self, published: int, dropped: int) -> float | None:
        self._ended.append((published, dropped))
        sets, drops = published - self._ended[0][0], dropped - self._ended[0][1]
        return drops / (sets + drops) if sets + drops else None

    def _status(
        self, name: str, problems: Problems, good: str, values: Mapping[str, object], settings: Settings
    ) -> DiagnosticStatus:
        level = max((level for level, _ in problems), default=_OK)
        message = '; '.join(text for one, text in problems if one == level) or good
        held = self._held[name].update(level, message, time.monotonic_ns(), settings.values['diagnostics.hold_s'])
        return DiagnosticStatus(
            level=_LEVELS[held[0]],
            name=f'{self._node_name}: {name}',
            message=held[1],
            hardware_id='',
            values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
        )


def silence_cause(input_: Input, silence_s: float) -> str:
    """Why an input is silent or unusable, in one clause; empty when it is neither."""
    monitor = input_.monitor
    silent_for_s = monitor.silent_for_s(time.monotonic_ns())
    if silent_for_s <= silence_s:
        return monitor.problem and f'{input_.resolved_topic}: {monitor.problem}'
    publishers = len(input_.publishers)
    cause = input_.mismatch()
    if not cause and publishers == 0:
        cause = f'nobody publishes it: start the driver, or set topics.{input_.source}'
    if not cause and input_.is_unreached:
        cause = (
            'but nothing of it arrives: does it run in another container, or as another user? '
            'See docs/how-to/find-the-fault.md'
        )
    text = f'{input_.resolved_topic}: 0 messages in {silent_for_s:.1f} s, {publishers} publisher(s)'
    return f'{text}, {cause}' if cause else text


def explain_silence(inputs: Sequence[Input], tally: Tally, drops_before: Mapping[str, int], silence_s: float) -> str:
    """Why no set comes out: silent or unusable inputs, else the reasons of the drops since `drops_before`."""
    causes = [cause for input_ in inputs if (cause := silence_cause(input_, silence_s))]
    recent = {reason: count - drops_before.get(reason, 0) for reason, count in tally.all_drops().items()}
    reasons = ', '.join(f'{reason} {count}' for reason, count in recent.items() if count)
    if not causes and reasons:
        causes = [f'every anchor frame was dropped ({reasons}); the last drop: {tally.last_detail}']
    return '; '.join(causes) or 'messages arrive on every input, so sets should come soon'


def _number(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f'{value:.3f}'
