"""The node's state as a DiagnosticArray."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from fused_encoder_ros.model import Model
from fused_encoder_ros.pipeline.pipeline import Pipeline
from fused_encoder_ros.ros.inputs import Input
from fused_encoder_ros.ros.monitor import InputMonitor, Latencies, Tally
from fused_encoder_ros.ros.worker import SelfHealingModel

NOT_AVAILABLE = 'n/a'


def input_status(node_name: str, source: Input, monitor: InputMonitor, silence_s: float) -> DiagnosticStatus:
    """State of one input: ERROR when it is silent, WARN when its messages are not usable."""
    now_ns = time.monotonic_ns()
    age_s, rate_hz = monitor.age_s(now_ns), monitor.rate_hz(now_ns)
    publishers = len(source.publishers)
    if monitor.silent_for_s(now_ns) > silence_s:
        level, message = DiagnosticStatus.ERROR, silence_cause(source, monitor, silence_s)
    elif monitor.problem:
        level, message = DiagnosticStatus.WARN, monitor.problem
    else:
        level, message = DiagnosticStatus.OK, 'receiving'
    values = {
        'topic': source.resolved_topic,
        'publishers': publishers,
        'reliability': source.reliability,
        'messages': monitor.messages,
        'rate_hz': _number(rate_hz),
        'age_s': _number(age_s),
        **{f'rejected: {reason}': count for reason, count in monitor.rejects.items()},
    }
    return _status(f'{node_name}: {source.source}', level, message, values)


def encoder_status(
    node_name: str,
    model: Model,
    health: SelfHealingModel,
    tally: Tally,
    latencies: Latencies,
    pipeline: Pipeline,
    silent: bool,
) -> DiagnosticStatus:
    """State of the sets and of the encoder: ERROR when the engine fails or no set comes out, WARN on random weights."""
    failure = health.failure  # the worker goes on
    if failure:
        level, message = DiagnosticStatus.ERROR, failure
    elif silent:
        level, message = DiagnosticStatus.ERROR, 'no set comes out'
    elif model.is_random:
        level, message = DiagnosticStatus.WARN, 'no checkpoint was given: features come from RANDOM weights'
    else:
        level, message = DiagnosticStatus.OK, 'encoding'
    published, faults = tally.published, tally.faults  # the worker goes on counting
    encoding = pipeline.counts.sets - published - faults - tally.unencoded
    values: dict[str, object] = {
        'anchors': pipeline.counts.anchors,
        'sets': published,
        'waiting': pipeline.pending + encoding,
        **{f'dropped: {reason}': count for reason, count in sorted(tally.all_drops(faults).items())},
        **{f'skew_max_ms: {source}': _number(ms) for source, ms in tally.worst_skew_ms().items()},
    }
    for stage, percentiles in latencies.percentiles().items():
        for name, value in zip(('p50', 'p95', 'p99'), percentiles or (None, None, None)):
            values[f'latency_ms: {stage} {name}'] = _number(value)
    values |= {
        'design': model.design,
        'engine': model.engine.name,
        'precision': model.engine.precision,
        'engine_error': f'{model.engine_error:.1e}',
        'engine_reason': model.engine_reason,
        'engine_state': failure or 'running',
        'engine_rebuilds': health.rebuilds,
        'start_up_ms': f'{model.start_up_s * 1e3:.0f}',
        'device': str(model.engine.device),
        'threads': model.threads,
        'model_hash': model.hash,
        'random_weights': model.is_random,
    }
    return _status(f'{node_name}: encoder', level, message, values)


def silence_cause(source: Input, monitor: InputMonitor, silence_s: float) -> str:
    """Why an input is silent or unusable, in one clause; empty when it is neither."""
    silent_for_s = monitor.silent_for_s(time.monotonic_ns())
    if silent_for_s <= silence_s:
        return monitor.problem and f'{source.resolved_topic}: {monitor.problem}'
    publishers = len(source.publishers)
    cause = source.mismatch()
    if not cause and publishers == 0:
        cause = f'nobody publishes it: start the driver, or set topics.{source.source}'
    text = f'{source.resolved_topic}: 0 messages in {silent_for_s:.1f} s, {publishers} publisher(s)'
    return f'{text}, {cause}' if cause else text


def explain_silence(
    inputs: Sequence[Input],
    monitors: Mapping[str, InputMonitor],
    tally: Tally,
    drops_before: Mapping[str, int],
    silence_s: float,
) -> str:
    """Why no set comes out: silent or unusable inputs, else the reasons of the drops since `drops_before`."""
    causes = [cause for source in inputs if (cause := silence_cause(source, monitors[source.source], silence_s))]
    recent = {reason: count - drops_before.get(reason, 0) for reason, count in tally.all_drops().items()}
    reasons = ', '.join(f'{reason} {count}' for reason, count in recent.items() if count)
    if not causes and reasons:
        causes = [f'every anchor frame was dropped ({reasons}); the last: {tally.last_detail}']
    return '; '.join(causes) or 'messages arrive on every input, and sets should follow'


def _status(name: str, level: bytes, message: str, values: Mapping[str, object]) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id='',
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )


def _number(value: float | None) -> str:
    return NOT_AVAILABLE if value is None else f'{value:.3f}'
