"""What the facts mean and what to do about it. To teach another fault, add a rule."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fused_encoder_ros.diagnosis.facts.facts import Facts
from fused_encoder_ros.diagnosis.rules import clocks, content
from fused_encoder_ros.diagnosis.rules.findings import Finding, Severity, Verdict, worst_first, worst_of
from fused_encoder_ros.diagnosis.rules.likely import likely_joints, likely_topics, other_arm
from fused_encoder_ros.diagnosis.wording import capital, count, per_cent, some, span
from fused_encoder_ros.pipeline.data import JOINTS, Reason
from fused_encoder_ros.settings import Value, is_compressed
from fused_encoder_ros.settings.dds import PROFILE_VARIABLES

_GOOD_SHARE, _POOR_SHARE = 0.95, 0.5
_WORTH_SHARE, _SAME_SHARE = 0.02, 0.01
"""Settings are worth changing for so much more of the anchor frames; so little makes no difference."""
_ABSENT_S = 1.0
_LOST_SHARE = 0.01

Findings = Iterator[Finding]


def judge(facts: Facts) -> Verdict:
    """Apply every rule."""
    findings = worst_first(finding for rule in RULES for finding in rule(facts))
    worst = worst_of(findings)
    sets, anchors = facts.counts.sets, facts.counts.anchors
    became = f'{count(sets)} of {count(anchors)} anchor frames became sets'
    first = findings[0].title if findings else ''
    if not sets:
        sentence = f'No set can be made from this {facts.noun}: {first}.'
    elif worst is Severity.PASS:
        furthest = max(facts.worst_skew_ms.values(), default=0.0)
        sentence = f'{became}, with a skew of at most {span(furthest)}.'
    else:
        sentence = f'{became}. {capital(first, facts.streams)}.'
    return Verdict(worst, sentence, findings)


def _missing_topics(facts: Facts) -> Findings:
    missing = {source: stream for source, stream in facts.streams.items() if stream.problem}
    if not missing:
        return
    here = {topic.name for topic in facts.topics}
    likely = likely_topics(facts, missing)
    wrong = [stream.problem for stream in missing.values() if here.issuperset(stream.topics)]
    absent = [topic for stream in missing.values() for topic in stream.topics if topic not in here]
    told = [f'There is no topic {some(absent)}'] if absent else []
    told += [capital(problem, facts.streams) for problem in wrong]
    if likely:
        fix = 'The values given here are a guess from the types and names of the topics. Check them.'
    else:
        told.append('No other topic has a suitable type')
        fix = 'Start the drivers.' if facts.noun == 'robot' else 'Record the topics of every source.'
    if any(source != JOINTS for source in missing):
        fix += ' If the robot has other cameras, name them in the parameter cameras.'
    title = f'the {facts.noun} has no usable topic for {some(list(missing))}'
    yield Finding(Severity.FAIL, title, f'{". ".join(told)}.', fix, _topic_parameters(facts, likely))


def _topic_parameters(facts: Facts, likely: dict[str, str]) -> dict[str, Value]:
    """Parameters that make these the sources' topics."""
    here = {topic.name for topic in facts.topics}
    parameters: dict[str, Value] = {f'topics.{source}': topic for source, topic in likely.items()}
    if JOINTS in likely:
        kept = [topic for topic in facts.streams[JOINTS].topics if topic in here]
        arms = [likely[JOINTS], *other_arm(likely[JOINTS], facts.topics)]
        parameters[f'topics.{JOINTS}'] = list(dict.fromkeys([*kept, *arms]))
    cameras = {source: stream.topic for source, stream in facts.streams.items() if source != JOINTS}
    is_raw = any(not is_compressed(topic) for source, topic in likely.items() if source != JOINTS)
    if is_raw and facts.settings.values['image_transport'] == 'compressed':
        # Which would append its suffix; each topic then says its transport by its own name.
        return {'image_transport': 'raw', **{f'topics.{name}': topic for name, topic in cameras.items()}, **parameters}
    return parameters


def _reliability(facts: Facts) -> Findings:
    deaf = [source for source, offered in facts.offered.items() if 'best_effort' in offered and not _is_heard(facts, source)]
    if deaf and facts.settings.values['reliability'] == 'reliable':
        title = f'a reliable subscription receives nothing from {some(deaf)}'
        evidence = f'The parameter reliability is reliable, but a publisher of {some(deaf)} offers best_effort.'
        fix = 'Set it to auto: the node then uses the QoS of its publishers.'
        yield Finding(Severity.FAIL, title, evidence, fix, {'reliability': 'auto'})


def _is_heard(facts: Facts, source: str) -> bool:
    """Whether a running robot's best-effort publishers are heard all the same: Zenoh refuses none."""
    is_all = set(facts.offered[source]) == {'best_effort'}
    return is_all and facts.noun == 'robot' and facts.streams[source].messages > 0


def _two_publishers(facts: Facts) -> Findings:
    for source, offered in facts.offered.items():
        # A bag lists those that came one after the other as well.
        if source != JOINTS and facts.noun == 'robot' and len(offered) > 1:
            topic = facts.streams[source].topic
            evidence = f'They all publish on {topic}, so a set may contain an image of any of them.'
            title = f'{len(offered)} publishers send {source}'
            fix = 'Stop the publishers that do not belong there.'
            yield Finding(Severity.WARN, title, evidence, fix, commands=(f'ros2 topic info -v {topic}',))


def _silent_topics(facts: Facts) -> Findings:
    silent = [source for source, stream in facts.streams.items() if not stream.problem and not stream.messages]
    unreached = [source for source in silent if source in facts.unreached]
    if unreached:
        yield _unreached(unreached)
    silent = [source for source in silent if source not in unreached]
    if silent:
        topics = [topic for source in silent for topic in facts.streams[source].topics]
        evidence = f'The {facts.noun} has {some(topics)}, but no message came.'
        fix = 'Check that the drivers run, and that their QoS is compatible.'
        commands = tuple(f'ros2 topic hz {topic}' for topic in topics) if facts.noun == 'robot' else ()
        yield Finding(Severity.FAIL, f'there is no message of {some(silent)}', evidence, fix, commands=commands)


def _unreached(sources: list[str]) -> Finding:
    title = f'nothing arrives from the publishers of {some(sources)}'
    evidence = 'Discovery finds them, but no message came, and not even the names of their nodes.'
    fix = (
        'If the drivers run in another container, or as another user, Fast DDS cannot share memory with them: start both '
        'with the same shared memory and network and as the same user, or let Fast DDS use UDP for both. Between two '
        'machines, check that the firewall lets UDP through.'
    )
    # Fast DDS ignores the variable where one of the others brings transports.
    udp = f'export FASTDDS_BUILTIN_TRANSPORTS=UDPv4; unset {" ".join(PROFILE_VARIABLES)} ROS_AUTOMATIC_DISCOVERY_RANGE'
    commands = ('docker run --ipc=host --network=host ...', udp)
    return Finding(Severity.FAIL, title, evidence, fix, commands=commands)


def _undecodable(facts: Facts) -> Findings:
    useless = [source for source, s in facts.streams.items() if s.undecodable and s.undecodable == s.messages]
    likely = likely_topics(facts, useless)
    for source, stream in facts.streams.items():
        if stream.undecodable:
            title = f'{count(stream.undecodable)} of {count(stream.messages)} messages of {source} cannot be used'
            severity = Severity.FAIL if source in useless else Severity.WARN
            fix = f'Correct what the driver sends, or set topics.{source} to another topic.'
            parameters = _topic_parameters(facts, {source: likely[source]}) if source in likely else {}
            yield Finding(severity, title, f'The last of them: {stream.detail}.', fix, parameters)


def _joint_names(facts: Facts) -> Findings:
    joints, names = facts.joints, facts.settings.spec.joint_names
    if joints.missing and facts.streams[JOINTS].messages:
        title = f'{len(joints.missing)} of {len(names)} joints never come: {some(joints.missing, 4)}'
        told = [f'The {facts.noun} has joints with other names: {some(joints.extra, 20)}.'] if joints.extra else []
        near = likely_joints(joints.missing, joints.extra)
        told += [f'joint_names has {name}, the {facts.noun} has {other}.' for name, other in near.items()]
        fix = 'Set joint_names to the names that the robot publishes, in the order of the training data.'
        is_whole = len(near) == len(joints.missing)
        renamed = {'joint_names': [near.get(name, name) for name in names]} if is_whole else {}
        yield Finding(Severity.FAIL, title, ' '.join(told) or 'No message contains them.', fix, renamed)
    elif joints.extra:
        title = f'{len(joints.extra)} published joints are not in joint_names'
        yield Finding(Severity.NOTE, title, f'They are not used: {some(joints.extra, 20)}.')


def _slow_joints(facts: Facts) -> Findings:
    anchor = facts.streams[facts.anchor].steps
    age_ms = facts.settings.sync.joint_max_age_ns / 1e6
    for group in facts.joints.groups:
        period_ms = group.steps.period_ms if group.steps else 0.0
        title = f'{some(group.names, 2)} come every {span(period_ms)}'
        if period_ms > age_ms:
            evidence = (
                f'joint_max_age_ms is {age_ms:g}. Samples further than that from an anchor frame are not used, so anchor '
                'frames are dropped.'
            )
            yield Finding(Severity.FAIL, title, evidence, 'Publish the joints faster.')
        elif anchor and period_ms > 1.05 * anchor.period_ms:
            evidence = (
                f'That is slower than the anchor ({span(anchor.period_ms)}). Positions are interpolated between samples, '
                'which misses quick motion if the samples are so far apart.'
            )
            yield Finding(Severity.WARN, title, evidence, 'Publish the joints faster.')
        elif group.steps and group.steps.longest_gap_ms > age_ms:
            at = span(1e3 * group.steps.longest_gap_at_s)
            title = f'{some(group.names, 2)} pause for {span(group.steps.longest_gap_ms)}, {at} after their first message'
            evidence = 'Positions are not interpolated across such a gap, so the anchor frames in it are dropped.'
            yield Finding(Severity.WARN, title, evidence, 'Check the node that publishes them, and the load of its machine.')


def _tolerance(facts: Facts) -> Findings:
    enough_ms = facts.what_if.enough_ms.get(facts.anchor)
    if enough_ms is None or facts.jumps:
        return
    now, then = (facts.what_if.cell(facts.anchor, ms).share for ms in (facts.tolerance_ms, enough_ms))
    better: dict[str, Value] = {'tolerance_ms': enough_ms}
    if then - now >= _WORTH_SHARE:
        severity = Severity.FAIL if now < _POOR_SHARE else Severity.WARN
        title = f'tolerance_ms {facts.tolerance_ms:g} is too small: {enough_ms:g} is enough'
        evidence = f'With {enough_ms:g} ms, {per_cent(then)} of the anchor frames become sets instead of {per_cent(now)}.'
        fix = 'Increase tolerance_ms, if your task tolerates data that far apart.'
        yield Finding(severity, title, evidence, fix, better)
        return
    followers = [s for name, s in facts.streams.items() if name not in (facts.anchor, JOINTS)]
    shortest_ms = min((s.steps.period_ms for s in followers if s.steps), default=facts.tolerance_ms)
    if facts.tolerance_ms > shortest_ms:
        title = f'tolerance_ms {facts.tolerance_ms:g} is more than a frame period ({span(shortest_ms)})'
        evidence = 'If a frame is lost, the set silently takes the frame before or after it.'
        yield Finding(Severity.WARN, title, evidence, f'Decrease tolerance_ms: {enough_ms:g} is enough here.', better)


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
        evidence = (
            f'{per_cent(then.share)} of its frames become sets, with a skew of {span(then.p99_ms)} (99th percentile). With '
            f'{anchor} it is {per_cent(now.share)}, with a skew of {span(now.p99_ms)}.'
        )
        fix = 'Change the anchor only if the training data are made with the same anchor.'
        yield Finding(Severity.NOTE, title, evidence, fix, {'anchor': best})


def _rates(facts: Facts) -> Findings:
    anchor_hz = facts.streams[facts.anchor].rate_hz
    for source, stream in facts.streams.items():
        if source == JOINTS or not anchor_hz or not stream.rate_hz or anchor_hz < 1.3 * stream.rate_hz:
            continue
        title = f'{source} is slower than the anchor: {stream.rate_hz:.1f} Hz instead of {anchor_hz:.1f} Hz'
        evidence = 'So several sets share one of its frames, or anchor frames find no frame within tolerance_ms.'
        fix = f'To avoid this, make {source} the anchor, in training too.'
        yield Finding(Severity.NOTE, title, evidence, fix, {'anchor': source})


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
            yield Finding(Severity.WARN, title, longest, 'Check the USB and network connections and the DDS buffers.')


def _late_or_early(facts: Facts) -> Findings:
    for source, stream in facts.streams.items():
        if stream.begins_s is None or stream.ends_s is None:
            continue
        if stream.begins_s > _ABSENT_S:
            title = f'{source} begins {span(1e3 * stream.begins_s)} after the others'
            yield Finding(Severity.WARN, title, 'No set can be made before that.', 'Wait until every driver runs.')
        if facts.duration_s - stream.ends_s > _ABSENT_S:
            title = f'{source} ends {span(1e3 * (facts.duration_s - stream.ends_s))} before the others'
            yield Finding(Severity.WARN, title, 'No set can be made after that.', 'Check the driver and the cable.')


def _changing_content(facts: Facts) -> Findings:
    for source, stream in facts.streams.items():
        if len(stream.contents) > 1:
            title = f'{source} changes its encoding or size'
            evidence = f'It sent {some(list(stream.contents), 4)}. Perhaps two drivers publish on the same topic.'
            command = f'ros2 topic info -v {stream.topic}'
            yield Finding(Severity.WARN, title, evidence, clocks.FIND_PUBLISHERS, commands=(command,))


def _still_pictures(facts: Facts) -> Findings:
    most_s = facts.settings.values['diagnostics.max_still_s']
    for source, stream in facts.streams.items():
        if 0 < most_s < stream.longest_still_s:
            title = f'the picture of {source} does not change for {span(1e3 * stream.longest_still_s)}'
            evidence = (
                'Its images have new stamps but are the same, bit for bit, until '
                f'{span(1e3 * stream.still_until_s)} after the beginning.'
            )
            fix = (
                'Check whether the camera is frozen or covered: some drivers repeat the last image. In a simulation this may '
                'be correct; then set diagnostics.max_still_s to 0.'
            )
            yield Finding(Severity.WARN, title, evidence, fix)


def _drops(facts: Facts) -> Findings:
    drops = {key: number for key, number in facts.counts.drops.items() if key != Reason.END_OF_STREAM}
    if facts.share >= _GOOD_SHARE or not drops:
        return
    severity = Severity.FAIL if facts.share < _POOR_SHARE else Severity.WARN
    most = max(drops, key=lambda key: drops[key])
    title = f'{per_cent(1 - facts.share)} of the anchor frames give no set, mostly because of {most}'
    fix = 'Correct the other findings first. If there are none, check the stream that the last drop names.'
    yield Finding(severity, title, f'The last drop: {facts.details[most]}.', fix)


RULES: tuple[Callable[[Facts], Findings], ...] = (
    _missing_topics,
    _reliability,
    _two_publishers,
    _silent_topics,
    _undecodable,
    clocks.unset_stamps,
    clocks.repeated_stamps,
    _joint_names,
    content.faults,
    _tolerance,
    clocks.offsets,
    clocks.lags,
    _slow_joints,
    _drops,
    clocks.drifts,
    clocks.stamps_ahead,
    clocks.stamps_behind,
    clocks.arrival_stamps,
    clocks.backward_stamps,
    _late_or_early,
    _gaps,
    _changing_content,
    _still_pictures,
    _rates,
    _anchor,
)
"""Causes stand before their effects: of equally bad findings the first one makes the verdict."""
