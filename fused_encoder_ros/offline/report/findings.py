"""What the facts mean and what to do about it. To teach the report another fault, add a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import IntEnum
from shlex import quote
from typing import Any

from fused_encoder_ros.offline.report.facts import Facts
from fused_encoder_ros.offline.report.likely import likely_topics
from fused_encoder_ros.offline.report.streams import Stream
from fused_encoder_ros.offline.report.wording import capital, count, per_cent, printable, some, span
from fused_encoder_ros.pipeline.data import JOINTS, Reason
from fused_encoder_ros.settings import absolute
from fused_encoder_ros.spec import CAMERAS

_GOOD_SHARE, _POOR_SHARE = 0.95, 0.5
_WORTH_SHARE, _SAME_SHARE = 0.02, 0.01
"""Settings are worth changing for so much more of the anchor frames; so little makes no difference."""
_LAG_MS = {JOINTS: 200.0, **dict.fromkeys(CAMERAS, 10.0)}
_DRIFT_MS = 1.0
"""Drift along the whole bag that is worth a word."""
_ABSENT_S = 1.0
_LOST_SHARE = 0.01


class Severity(IntEnum):
    """How bad it is, the worst first."""

    FAIL = 0
    WARN = 1
    NOTE = 2
    PASS = 3


@dataclass(frozen=True)
class Finding:
    """One fault or remark: what is so, what to do, and the options of the command that do it."""

    severity: Severity
    title: str
    advice: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The outcome in one sentence, and all that it rests on, the worst first."""

    severity: Severity
    sentence: str
    findings: list[Finding]

    def __str__(self) -> str:
        lines = [f'{self.severity.name}: {self.sentence}']
        for finding in self.findings:
            lines.append(f'  {finding.severity.name.lower()}  {finding.title}: {finding.advice}')
            lines += [f'        {option}' for option in finding.options]
        return '\n'.join(map(printable, lines))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        findings = [{**asdict(finding), 'severity': finding.severity.name.lower()} for finding in self.findings]
        return {'verdict': self.severity.name.lower(), 'sentence': self.sentence, 'findings': findings}


Findings = Iterator[Finding]


def judge(facts: Facts) -> Verdict:
    """Apply every rule."""
    findings = sorted((finding for rule in RULES for finding in rule(facts)), key=lambda finding: finding.severity)
    worst = min((f.severity for f in findings if f.severity is not Severity.NOTE), default=Severity.PASS)
    sets, anchors = facts.counts.sets, facts.counts.anchors
    became = f'{count(sets)} of {count(anchors)} anchor frames became sets'
    first = findings[0].title if findings else ''
    if not sets:
        sentence = f'No set can be made of this bag: {first}.'
    elif worst is Severity.PASS:
        furthest = max(facts.worst_skew_ms.values(), default=0.0)
        sentence = f'{became}, none with data further than {span(furthest)} from its anchor.'
    else:
        sentence = f'{became}. {capital(first)}.'
    return Verdict(worst, sentence, findings)


def _missing_topics(facts: Facts) -> Findings:
    missing = {source: stream for source, stream in facts.streams.items() if stream.problem}
    if not missing:
        return
    here = {topic.name for topic in facts.topics}
    likely = likely_topics(facts)
    wrong = [stream.problem for stream in missing.values() if absolute(stream.topic) in here]
    absent = [absolute(stream.topic) for stream in missing.values() if absolute(stream.topic) not in here]
    advice = [f'There is no {some(absent)}'] if absent else []
    advice += [capital(problem) for problem in wrong]
    advice.append(
        'Likely meant, going by type and name, and to be checked with the list of topics below:'
        if likely
        else 'No other topic has a fitting type; all of them are listed below'
    )
    options = tuple(f'--topic {quote(f"{source}={topic}")}' for source, topic in likely.items())
    end = '' if likely else '.'
    yield Finding(Severity.FAIL, f'the bag has no usable topic for {some(list(missing))}', '. '.join(advice) + end, options)


def _silent_topics(facts: Facts) -> Findings:
    silent = [source for source, stream in facts.streams.items() if not stream.problem and not stream.messages]
    if silent:
        topics = some([absolute(facts.streams[source].topic) for source in silent])
        advice = f'The bag has {topics}, but nothing came. Did the drivers run? Does their QoS fit the recorder?'
        yield Finding(Severity.FAIL, f'there is no message of {some(silent)}', advice)


def _undecodable(facts: Facts) -> Findings:
    for source, stream in facts.streams.items():
        if stream.undecodable:
            severity = Severity.FAIL if stream.undecodable == stream.messages else Severity.WARN
            title = f'{count(stream.undecodable)} of {count(stream.messages)} messages of {source} cannot be used'
            yield Finding(severity, title, f'The last one: {stream.detail}.')


def _unset_stamps(facts: Facts) -> Findings:
    for source, stream in facts.streams.items():
        if stream.unset:
            severity = Severity.FAIL if stream.unset == stream.messages else Severity.WARN
            title = f'{count(stream.unset)} of {count(stream.messages)} stamps of {source} are not set'
            yield Finding(
                severity, title, 'The driver leaves header.stamp at zero, so nothing can be matched by time. Let it stamp.'
            )


def _joint_names(facts: Facts) -> Findings:
    joints = facts.joints
    if joints.missing and facts.streams[JOINTS].messages:
        total = len(facts.settings.spec.joint_names)
        title = f'{len(joints.missing)} of {total} joints never come: {some(joints.missing, 4)}'
        other = f' The bag has these other names: {some(joints.extra, 20)}.' if joints.extra else ''
        advice = f'Set joint_names to the names of the robot, in the order of the training data.{other}'
        yield Finding(Severity.FAIL, title, advice)
    elif joints.extra:
        title = f'{len(joints.extra)} published joints are not in joint_names'
        yield Finding(Severity.NOTE, title, f'They are left out: {some(joints.extra, 20)}.')


def _slow_joints(facts: Facts) -> Findings:
    anchor = facts.streams[facts.anchor].steps
    age_ms = facts.settings.sync.joint_max_age_ns / 1e6
    for group in facts.joints.groups:
        period_ms = group.steps.period_ms if group.steps else 0.0
        title = f'{some(group.names, 2)} come every {span(period_ms)}'
        if period_ms > age_ms:
            advice = f'joint_max_age_ms is {age_ms:g}, so no position is near enough to an image. Publish joints faster.'
            yield Finding(Severity.FAIL, title, advice)
        elif anchor and period_ms > 1.05 * anchor.period_ms:
            advice = f'That is slower than the anchor ({span(anchor.period_ms)}): a line over so long hides quick motion.'
            yield Finding(Severity.WARN, title, advice)
        elif group.steps and group.steps.longest_gap_ms > age_ms:
            at = span(1e3 * group.steps.longest_gap_at_s)
            title = f'{some(group.names, 2)} pause for {span(group.steps.longest_gap_ms)}, {at} after they begin'
            yield Finding(
                Severity.WARN, title, 'Joints are not interpolated across a gap; the anchor frames in it are dropped.'
            )


def _delays(facts: Facts) -> dict[str, float]:
    return {source: s.delay.middle_ms for source, s in facts.streams.items() if s.delay and not s.stands_still}


def _nearest_other(source: str, values: dict[str, float]) -> float | None:
    """Difference to the most similar of the other cameras, so that the odd one out is named and not the others."""
    others = [values[source] - value for camera, value in values.items() if camera not in (source, JOINTS)]
    return min(others, key=abs, default=None)


def _lags(facts: Facts) -> Findings:
    delays = _delays(facts)
    for source in delays:
        lag_ms = _nearest_other(source, delays)
        # Of two alone, the anchor is taken for the right one.
        of_two = source == facts.anchor and len(set(delays) - {JOINTS}) == 2
        if lag_ms is None or abs(lag_ms) < _LAG_MS[source] or of_two:
            continue
        severity = Severity.FAIL if not facts.counts.sets and abs(lag_ms) > facts.tolerance_ms else Severity.WARN
        title = f'{source} lags by {span(lag_ms)}' if lag_ms > 0 else f'{source} is ahead by {span(-lag_ms)}'
        advice = (
            f'Its messages are recorded {span(abs(lag_ms))} {"later" if lag_ms > 0 else "sooner"} after their stamps than '
            'those of the other cameras. Either they are longer under way, which costs latency only, or its clock is off by '
            'that much, and then every set pairs moments that far apart. Compare the clocks (chrony, PTP), or film a clock.'
        )
        yield Finding(severity, title, advice)


def _drifts(facts: Facts) -> Findings:
    delays = {source: s.delay for source, s in facts.streams.items() if s.delay and not s.stands_still}
    drifts = {source: delay.drift_ms_per_minute or 0.0 for source, delay in delays.items()}
    for source in drifts:
        drift = _nearest_other(source, drifts)
        along_ms = abs(drift or 0.0) * facts.duration_s / 60
        if drift is None or source == JOINTS or along_ms < _DRIFT_MS:
            continue
        title = f'the clock of {source} drifts by {span(abs(drift))} a minute'
        advice = (
            f'Its stamps {"fall behind" if drift > 0 else "run ahead of"} those of the other cameras, by {span(along_ms)} '
            'along this bag. Let the driver stamp with the system clock, or synchronise the device to it (PTP).'
        )
        yield Finding(Severity.WARN, title, advice)


def _arrival_stamps(facts: Facts) -> Findings:
    cameras = {source: s for source, s in facts.streams.items() if source != JOINTS and s.delay}
    exact = [source for source, s in cameras.items() if s.delay and s.delay.is_exact]
    if exact and len(exact) == len(cameras):
        title = 'stamps and times of recording are the same'
        advice = 'The bag was converted, or stamped when recorded: it cannot show delays, lags or drift.'
        yield Finding(Severity.NOTE, title, advice)
        return
    for source, stream in cameras.items():
        if source in exact or _jitters_on_arrival(stream):
            advice = (
                'Its stamps follow the times of recording in all their jitter, as those of a driver do that stamps when an '
                'image arrives. They then lag behind the capture by an unknown time. Let the driver stamp at capture.'
            )
            yield Finding(Severity.WARN, f'{source} looks stamped on arrival', advice)


def _jitters_on_arrival(stream: Stream) -> bool:
    steps, delay = stream.steps, stream.delay
    if steps is None or delay is None:
        return False
    return steps.jitter_ms > max(1.5, 0.05 * steps.period_ms) and delay.spread_ms < 0.5 * steps.jitter_ms


def _repeated_stamps(facts: Facts) -> Findings:
    for source, stream in facts.streams.items():
        title = f'{count(stream.repeated)} of {count(stream.messages)} stamps of {source} repeat the one before'
        if stream.stands_still:
            yield Finding(Severity.FAIL, title, 'The driver does not stamp each message by itself. Let it stamp at capture.')
        elif stream.repeated and source != JOINTS:
            yield Finding(Severity.WARN, title, 'Frames were sent twice, or two drivers publish on one topic.')


def _backward_stamps(facts: Facts) -> Findings:
    back = {
        source: stream.furthest_back_ms
        for source, stream in facts.streams.items()
        # Several publishers of joints may well be a little out of step.
        if stream.furthest_back_ms > (_LAG_MS[JOINTS] if source == JOINTS else 0.0)
    }
    if back:
        title = f'stamps of {some(list(back))} go back, by up to {span(max(back.values()))}'
        yield Finding(Severity.WARN, title, 'A bag played in a loop, a clock that was set, or two drivers on one topic.')


def _tolerance(facts: Facts) -> Findings:
    enough_ms = facts.what_if.enough_ms.get(facts.anchor)
    if enough_ms is None or facts.jumps:
        return
    now, then = (facts.what_if.cell(facts.anchor, ms).share for ms in (facts.tolerance_ms, enough_ms))
    option = (f'--set tolerance_ms={enough_ms:g}',)
    if then - now >= _WORTH_SHARE:
        severity = Severity.FAIL if now < _POOR_SHARE else Severity.WARN
        title = f'tolerance_ms {facts.tolerance_ms:g} is too small: {enough_ms:g} is enough'
        advice = f'With {enough_ms:g} ms, {per_cent(then)} of the anchor frames become sets instead of {per_cent(now)}.'
        yield Finding(severity, title, advice, option)
        return
    followers = [s for name, s in facts.streams.items() if name not in (facts.anchor, JOINTS)]
    shortest_ms = min((s.steps.period_ms for s in followers if s.steps), default=facts.tolerance_ms)
    if facts.tolerance_ms > shortest_ms:
        title = f'tolerance_ms {facts.tolerance_ms:g} is more than a frame period ({span(shortest_ms)})'
        advice = f'A lost frame is then replaced by its neighbour without a word. {enough_ms:g} is enough here.'
        yield Finding(Severity.WARN, title, advice, option)


def _anchor(facts: Facts) -> Findings:
    table, anchor = facts.what_if, facts.anchor
    tolerance_ms = max(facts.tolerance_ms, table.enough_ms.get(anchor) or 0.0)
    cells = {camera: table.cell(camera, tolerance_ms) for camera in table.cells}
    now = cells[anchor]
    most = max(cell.share for cell in cells.values())
    good = [camera for camera, cell in cells.items() if cell.p99_ms is not None and cell.share >= most - _SAME_SHARE]
    best = min(good, key=lambda camera: cells[camera].p99_ms or 0.0, default=anchor)
    then = cells[best]
    if facts.jumps or best == anchor or then.p99_ms is None or now.p99_ms is None:
        return
    is_nearer = then.p99_ms < min(0.8 * now.p99_ms, now.p99_ms - 1.0)
    if then.share - now.share >= _WORTH_SHARE or (then.share >= now.share - _SAME_SHARE and is_nearer):
        title = f'{best} would be the best anchor'
        advice = (
            f'{per_cent(then.share)} of its frames become sets within {span(then.p99_ms)}; of {anchor} {per_cent(now.share)} '
            f'within {span(now.p99_ms)} (99th percentiles). Keep the anchor that the training data were made with.'
        )
        yield Finding(Severity.NOTE, title, advice, (f'--set anchor={best}',))


def _rates(facts: Facts) -> Findings:
    anchor_hz = facts.streams[facts.anchor].rate_hz
    for source, stream in facts.streams.items():
        if source == JOINTS or not anchor_hz or not stream.rate_hz or anchor_hz < 1.3 * stream.rate_hz:
            continue
        title = f'{source} is slower than the anchor: {stream.rate_hz:.1f} Hz to {anchor_hz:.1f} Hz'
        yield Finding(
            Severity.NOTE, title, 'Its frames go into several sets each, or anchors find none. An anchor as slow avoids it.'
        )


def _gaps(facts: Facts) -> Findings:
    for source, stream in facts.streams.items():
        if source == JOINTS or not stream.steps or not stream.messages:
            continue
        steps = stream.steps
        share = steps.lost / (stream.messages + steps.lost)
        if share > _LOST_SHARE or steps.longest_gap_ms > max(5 * steps.period_ms, 200.0):
            title = f'{source} loses frames: about {count(steps.lost)} ({per_cent(share)})'
            at = span(1e3 * steps.longest_gap_at_s)
            longest = f'The longest gap is {span(steps.longest_gap_ms)}, {at} after its first frame.'
            yield Finding(Severity.WARN, title, f'{longest} Look at USB, network and DDS buffers.')


def _late_or_early(facts: Facts) -> Findings:
    for source, stream in facts.streams.items():
        if stream.begins_s is None or stream.ends_s is None:
            continue
        if stream.begins_s > _ABSENT_S:
            title = f'{source} begins {span(1e3 * stream.begins_s)} after the others'
            yield Finding(Severity.WARN, title, 'No set is made before. Start recording when every driver runs.')
        if facts.duration_s - stream.ends_s > _ABSENT_S:
            title = f'{source} ends {span(1e3 * (facts.duration_s - stream.ends_s))} before the others'
            yield Finding(Severity.WARN, title, 'No set is made after. Did the driver die, or the cable come loose?')


def _changing_content(facts: Facts) -> Findings:
    for source, stream in facts.streams.items():
        if len(stream.contents) > 1:
            title = f'{source} changes its encoding or size'
            yield Finding(Severity.WARN, title, f'It sent {some(list(stream.contents), 4)}. Two drivers on one topic?')


def _drops(facts: Facts) -> Findings:
    drops = {key: number for key, number in facts.counts.drops.items() if key != Reason.END_OF_STREAM}
    if facts.share >= _GOOD_SHARE or not drops:
        return
    severity = Severity.FAIL if facts.share < _POOR_SHARE else Severity.WARN
    most = max(drops, key=lambda key: drops[key])
    title = f'{per_cent(1 - facts.share)} of the anchor frames give no set, most for {most}'
    yield Finding(severity, title, f'The last one: {facts.details[most]}.')


RULES: tuple[Callable[[Facts], Findings], ...] = (
    _missing_topics,
    _silent_topics,
    _undecodable,
    _unset_stamps,
    _repeated_stamps,
    _joint_names,
    _tolerance,
    _lags,
    _slow_joints,
    _drops,
    _drifts,
    _arrival_stamps,
    _backward_stamps,
    _late_or_early,
    _gaps,
    _changing_content,
    _rates,
    _anchor,
)
"""Causes stand before their effects: of equally bad findings the first one makes the verdict."""
