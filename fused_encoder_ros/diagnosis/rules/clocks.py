"""Rules about stamps: unset, repeated, going back, of clocks that differ or drift, or made on arrival."""

from __future__ import annotations

from collections.abc import Iterator

from fused_encoder_ros.diagnosis.facts.facts import Facts
from fused_encoder_ros.diagnosis.facts.streams import Stream
from fused_encoder_ros.diagnosis.rules.findings import Finding, Severity
from fused_encoder_ros.diagnosis.wording import count, some, span
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.settings import STAMP_OFFSET

_CAMERA_LAG_MS, _JOINTS_LAG_MS = 10.0, 200.0
_AHEAD_MS, _OLD_MS = 1.0, 1000.0
_DRIFT_MS = 1.0
"""Drift in the whole time that is worth a word."""
_OFFSET_MS = 10.0
"""Half of what followers may be off by default; an offset is told when all of its interval lies beyond."""
_AT_ONCE_MS = 1.0
"""Exposure and transfer of an image take longer than this."""
_SYNCHRONISE = 'Synchronise the clocks (chrony, PTP), or make the drivers stamp with the clock of this machine.'
_STAMP_AT_CAPTURE = 'Make the driver set header.stamp to the time of capture.'
FIND_PUBLISHERS = 'Find out which nodes publish on the topic.'


def unset_stamps(facts: Facts) -> Iterator[Finding]:
    """Stamps of zero or below."""
    for source, stream in facts.streams.items():
        if stream.unset:
            severity = Severity.FAIL if stream.unset == stream.messages else Severity.WARN
            title = f'{count(stream.unset)} of {count(stream.messages)} stamps of {source} are not set'
            evidence = 'The driver does not set header.stamp, so these messages cannot be matched by time.'
            yield Finding(severity, title, evidence, _STAMP_AT_CAPTURE)


def repeated_stamps(facts: Facts) -> Iterator[Finding]:
    """Stamps equal to the one before."""
    for source, stream in facts.streams.items():
        title = f'{count(stream.repeated)} of {count(stream.messages)} stamps of {source} repeat the previous stamp'
        if stream.stands_still:
            evidence = 'The driver does not give each message its own stamp.'
            yield Finding(Severity.FAIL, title, evidence, _STAMP_AT_CAPTURE)
        elif stream.repeated and source != JOINTS:
            evidence = 'Frames were sent twice, or two drivers publish on the same topic.'
            yield _many_publishers(facts, source, Severity.WARN, title, evidence)


def backward_stamps(facts: Facts) -> Iterator[Finding]:
    """Stamps before the one before."""
    back = {
        source: stream.furthest_back_ms
        for source, stream in facts.streams.items()
        # Several publishers of joints may well be a little out of step.
        if stream.furthest_back_ms > (_JOINTS_LAG_MS if source == JOINTS else 0.0)
    }
    if back:
        title = f'stamps of {some(list(back))} go back, by up to {span(max(back.values()))}'
        evidence = 'Possible causes: a bag that plays in a loop, a clock that was set back, or two drivers on the same topic.'
        yield _many_publishers(facts, next(iter(back)), Severity.WARN, title, evidence)


def _many_publishers(facts: Facts, source: str, severity: Severity, title: str, evidence: str) -> Finding:
    commands = tuple(f'ros2 topic info -v {topic}' for topic in facts.streams[source].topics)
    return Finding(severity, title, evidence, FIND_PUBLISHERS, commands=commands)


def _delays(facts: Facts) -> dict[str, float]:
    return {source: s.delay.middle_ms for source, s in facts.streams.items() if s.delay and not s.stands_still}


def _nearest_other(source: str, values: dict[str, float]) -> float | None:
    """Difference to the most similar of the other cameras, so that the odd one out is named and not the others."""
    others = [values[source] - value for camera, value in values.items() if camera not in (source, JOINTS)]
    return min(others, key=abs, default=None)


def _odd_delays(facts: Facts) -> dict[str, float]:
    """By source, how much longer its messages are under way than those of the other cameras, where that is much."""
    delays, odd = _delays(facts), {}
    for source in delays:
        scatter = facts.streams[source].delay
        lag_ms = _nearest_other(source, delays)
        if lag_ms is None or scatter is None or source == _right_of_two(facts, delays):
            continue
        if abs(lag_ms) >= max(_JOINTS_LAG_MS if source == JOINTS else _CAMERA_LAG_MS, scatter.spread_ms):
            odd[source] = lag_ms
    return odd


def _right_of_two(facts: Facts, delays: dict[str, float]) -> str:
    """Of two cameras alone the one that is taken for right: the anchor, or the quicker one."""
    cameras = [source for source in delays if source != JOINTS]
    if len(cameras) != 2:
        return ''
    return facts.anchor if facts.anchor in cameras else min(cameras, key=lambda camera: delays[camera])


def offsets(facts: Facts) -> Iterator[Finding]:
    """Cameras whose pictures show another moment than their stamps say."""
    for camera in facts.offsets:
        offset, name = facts.offsets[camera], f'{STAMP_OFFSET}{camera}'
        if offset.ms is None or offset.low_ms is None or offset.high_ms is None:
            continue
        if camera in facts.trained_offsets:
            yield from _offset_to_training(facts, camera, offset.ms, (offset.high_ms - offset.low_ms) / 2)
            continue
        if not offset.is_beyond(_OFFSET_MS):
            continue
        title = (
            f'pictures of {camera} are {span(abs(offset.ms))} {"older" if offset.ms < 0 else "newer"} than their stamps say'
        )
        evidence = (
            f'The motion in the pictures fits that of the joints best if {span(offset.ms, True)} is added to the stamps '
            f'(95 % interval: {span(offset.low_ms, True)} to {span(offset.high_ms, True)}, measured over '
            f'{span(1e3 * offset.motion_s)} of motion).'
        )
        fix = f'{_STAMP_AT_CAPTURE} Or set {name}, to the same value for the training data and on the robot.'
        corrected = round(facts.settings.values[name] + offset.ms, 1)
        yield Finding(Severity.WARN, title, evidence, fix, {name: corrected})


def _offset_to_training(facts: Facts, camera: str, ms: float, half_ms: float) -> Iterator[Finding]:
    """An offset that the training data had too is right as it is; only the difference is told."""
    trained, name = facts.trained_offsets[camera], f'{STAMP_OFFSET}{camera}'
    difference = ms - trained.ms
    if abs(difference) - half_ms - trained.half_ms <= _OFFSET_MS:
        return
    title = f'pictures of {camera} are {span(abs(difference))} {"older" if difference < 0 else "newer"} than in training'
    evidence = (
        f'Relative to the joints, their stamps are off by {span(ms, True)} ± {span(half_ms)}. In training it was '
        f'{span(trained.ms, True)} ± {span(trained.half_ms)}, measured on {count(trained.bags)} bag(s).'
    )
    corrected = round(facts.settings.values[name] + difference, 1)
    fix = f'Correct the difference with {name}.'
    yield Finding(Severity.WARN, title, evidence, fix, {name: corrected})


def _with_offset(facts: Facts) -> list[str]:
    return [camera for camera, offset in facts.offsets.items() if offset.is_beyond(_OFFSET_MS)]


def lags(facts: Facts) -> Iterator[Finding]:
    """Streams whose stamps lie otherwise to their arrival than those of the others, where no motion explains it."""
    known = _with_offset(facts)
    for source, lag_ms in _odd_delays(facts).items():
        if source in known:
            continue
        severity = Severity.FAIL if not facts.counts.sets and abs(lag_ms) > facts.tolerance_ms else Severity.WARN
        title = f'{source} lags by {span(lag_ms)}' if lag_ms > 0 else f'{source} is ahead by {span(-lag_ms)}'
        sooner = f'Its messages arrive {span(abs(lag_ms))} {"later" if lag_ms > 0 else "sooner"} after their stamps'
        if _delays(facts)[source] < -_AHEAD_MS:
            cause = 'They even arrive before the time in their stamps. So its clock is wrong'
        else:
            longer = 'they' if lag_ms > 0 else 'the others'
            cause = f'Either {longer} take longer to arrive, which only adds latency. Or its clock is wrong by that much'
        evidence = f'{sooner} than those of the other cameras. {cause}, and every set then combines moments that far apart.'
        check = '' if source == JOINTS else 'To compare the clocks, film one running clock with this camera and another one. '
        yield Finding(severity, title, evidence, f'{check}{_SYNCHRONISE}')


def stamps_ahead(facts: Facts) -> Iterator[Finding]:
    """Stamps later than the arrival, of streams that agree with the others otherwise."""
    odd = _odd_delays(facts)
    ahead = {source: -ms for source, ms in _delays(facts).items() if ms < -_AHEAD_MS and source not in odd}
    if ahead:
        title = f'stamps of {some(list(ahead))} are up to {span(max(ahead.values()))} in the future'
        evidence = 'They are later than the arrival of their messages, so the clock that makes them is ahead.'
        yield Finding(Severity.WARN, title, evidence, _SYNCHRONISE)


def stamps_behind(facts: Facts) -> Iterator[Finding]:
    """Stamps long before the arrival, of streams that agree with the others."""
    odd = _odd_delays(facts)
    old = {source: ms for source, ms in _delays(facts).items() if ms > _OLD_MS and source not in odd}
    if old and not facts.jumps:
        title = f'stamps of {some(list(old))} are up to {span(max(old.values()))} old on arrival'
        evidence = (
            'Possible causes: a bag that is being played, simulated time, a clock that counts from its own start, or messages '
            'that take this long to arrive. Matching still works, because it compares stamps only with each other. But a '
            "program that compares a feature's stamp with the current time gets a wrong age."
        )
        fix = f'{_SYNCHRONISE} This is not needed with a played bag or simulated time.'
        yield Finding(Severity.WARN, title, evidence, fix)


def drifts(facts: Facts) -> Iterator[Finding]:
    """Clocks that run at another speed."""
    delays = {source: s.delay for source, s in facts.streams.items() if s.delay and not s.stands_still}
    per_minute = {source: delay.drift_ms_per_minute or 0.0 for source, delay in delays.items()}
    for source in per_minute:
        drift = _nearest_other(source, per_minute)
        along_ms = abs(drift or 0.0) * facts.duration_s / 60
        if drift is None or source == JOINTS or along_ms < _DRIFT_MS:
            continue
        title = f'the clock of {source} drifts by {span(abs(drift))} per minute'
        evidence = (
            f'Its stamps {"fall behind" if drift > 0 else "run ahead of"} those of the other cameras, by {span(along_ms)} '
            f'in {span(1e3 * facts.duration_s)}.'
        )
        fix = 'Make the driver stamp with the system clock, or synchronise the camera to the system clock (PTP).'
        yield Finding(Severity.WARN, title, evidence, fix)


def arrival_stamps(facts: Facts) -> Iterator[Finding]:
    """Stamps that were made when the image arrived, not when it was taken."""
    cameras = {source: s for source, s in facts.streams.items() if source != JOINTS and s.delay}
    exact = [source for source, s in cameras.items() if s.delay and s.delay.is_exact]
    if exact and len(exact) == len(cameras):
        title = 'stamps and times of recording are the same'
        evidence = (
            'The bag was converted, or its messages were stamped when they were recorded. So it cannot show delays, lags or '
            'drift.'
        )
        yield Finding(Severity.NOTE, title, evidence)
        return
    for source, stream in cameras.items():
        evidence = _arrival_evidence(stream)
        if evidence:
            told = f'{evidence} Such stamps are later than the capture by an unknown time.'
            yield Finding(Severity.WARN, f'{source} seems to be stamped on arrival', told, _STAMP_AT_CAPTURE)


def _arrival_evidence(stream: Stream) -> str:
    steps, delay = stream.steps, stream.delay
    if delay is None or stream.stands_still:
        return ''
    if abs(delay.middle_ms) < _AT_ONCE_MS:
        near = f'Its stamps are within {abs(delay.middle_ms):.2f} ms of the arrival'
        return f'{near}, but exposure and transfer of an image take longer.'
    if steps and steps.jitter_ms > max(1.5, 0.05 * steps.period_ms) and delay.spread_ms < 0.5 * steps.jitter_ms:
        return 'Its stamps have the same jitter as the arrivals, as if the driver stamps each image when it arrives.'
    return ''
