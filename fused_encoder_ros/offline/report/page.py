"""The report as one HTML page that needs nothing but itself."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.content.offsets import MOST_MS, Offset
from fused_encoder_ros.diagnosis.facts.facts import Facts, JointGroup
from fused_encoder_ros.diagnosis.facts.matching import Cell
from fused_encoder_ros.diagnosis.facts.recording import SET, Sample
from fused_encoder_ros.diagnosis.facts.streams import Steps, Stream
from fused_encoder_ros.diagnosis.rules.findings import Verdict
from fused_encoder_ros.diagnosis.wording import count, describe_offset, per_cent, some, span
from fused_encoder_ros.offline.preview import LARGEST, shown
from fused_encoder_ros.offline.report import charts
from fused_encoder_ros.offline.report.html import Html, join, picture, tag
from fused_encoder_ros.offline.report.layout import (
    NOTHING,
    WORDS,
    banner,
    data_uri,
    document,
    finding_list,
    section,
    table,
    tiles,
)
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.settings import STAMP_OFFSET


def render(facts: Facts, verdict: Verdict) -> str:
    """The whole page."""
    name = Path(facts.bag).name
    body = tag(
        'main',
        _header(facts, name),
        _verdict(facts, verdict),
        _findings(facts, verdict),
        _timeline(facts),
        _streams(facts),
        _skews(facts),
        _clocks(facts),
        _offsets(facts),
        _what_if(facts),
        _joints(facts),
        _samples(facts),
        _outcomes(facts),
        _topics(facts),
        _parameters(facts),
    )
    title = f'{WORDS[verdict.severity]}: sync report of {name}'
    return document('sync report', title, body, facts.versions)


def _header(facts: Facts, name: str) -> Html:
    when = datetime.fromtimestamp(facts.begin_ns / 1e9, timezone.utc).strftime('%Y-%m-%d %H:%M:%S UTC')
    recorded = f'recorded {when}, {span(1e3 * facts.duration_s)} long' if facts.begin_ns else 'no message of any source'
    return tag('header', tag('p', 'Synchronisation report', class_='kind'), tag('h1', name), tag('p', recorded, class_='lead'))


def _verdict(facts: Facts, verdict: Verdict) -> Html:
    worst = {camera: facts.worst_skew_ms[camera] for camera in facts.skews if camera in facts.worst_skew_ms}
    furthest = max(worst, key=lambda camera: worst[camera], default='')
    rate = facts.counts.sets / facts.duration_s if facts.duration_s else 0.0
    figures = (
        (count(facts.counts.sets), f'sets of {count(facts.counts.anchors)} frames of {facts.anchor}'),
        (f'{rate:.1f} Hz', 'sets per second of recording'),
        (span(worst[furthest]) if worst else NOTHING, f'largest skew in a set{f", of {furthest}" if furthest else ""}'),
        (f'{facts.tolerance_ms:g} ms', 'tolerance'),
    )
    return join(banner(verdict.severity, verdict.sentence), tiles(figures))


def _findings(facts: Facts, verdict: Verdict) -> Html:
    told = finding_list(verdict.findings, facts.streams) if verdict.findings else tag('p', 'Nothing: every check passed.')
    return section('What to do', told)


def _timeline(facts: Facts) -> Html:
    timeline = facts.timeline
    bin_name = charts.clock(timeline.bin_s)
    rows = []
    for source, counts in timeline.messages.items():
        usual = float(np.median([n for n in counts[:-1] if n] or [1]))
        silent = sum(1 for n in counts[:-1] if not n)
        about = f'{source}: messages in each {bin_name}, usually {usual:g}, none in {silent} of {len(counts)} parts'
        rows.append((source, charts.lane([n / usual for n in counts], 'stream', about), f'{count(sum(counts))}'))
    anchors = timeline.anchors
    frames = float(np.median([sum(part) for part in zip(*anchors.values()) if any(part)] or [1]))
    for key in sorted(anchors, key=lambda key: (key != SET, -sum(anchors[key]))):
        counts = anchors[key]
        # A single drop in half an hour must still be seen.
        least, style = (0.0, 'set') if key == SET else (0.3, 'drop')
        about = f'{key}: anchor frames in each {bin_name}, {sum(1 for n in counts if n)} of {len(counts)} parts have some'
        drawing = charts.lane([n and max(n / frames, least) for n in counts], style, about)
        rows.append(('sets' if key == SET else key, drawing, count(sum(counts))))
    lanes = [tag('div', tag('span', a), b, tag('span', c, class_='number'), class_='lane') for a, b, c in rows]
    length_s = timeline.bin_s * len(timeline.messages[JOINTS])
    axis = tag('div', tag('span'), charts.ticks(charts.time_ticks(length_s)), tag('span'), class_='lane')
    lead = (
        f'Messages of each source, then sets and drops of {facts.anchor}, over the time of the bag, in parts of {bin_name}. '
        'A full bar is the usual number, and a gap means that no message came. The bars of drops are enlarged to be visible. '
        'The numbers are totals.'
    )
    return section('Along the bag', tag('div', *lanes, axis, class_='timeline'), lead=lead)


def _streams(facts: Facts) -> Html:
    streams = list(facts.streams.values())

    def row(name: str, show: Callable[[Stream], str]) -> list[str]:
        return [name, *(show(stream) if stream.messages else NOTHING for stream in streams)]

    def steps(show: Callable[[Steps], str]) -> Callable[[Stream], str]:
        return lambda stream: show(stream.steps) if stream.steps else NOTHING

    rows = [
        ['topic', *(stream.topic for stream in streams)],
        ['type', *(stream.kind.split('/')[-1] or 'not in the bag' for stream in streams)],
        ['messages', *(count(stream.messages) for stream in streams)],
        row('rate', lambda s: f'{s.rate_hz:.1f} Hz' if s.rate_hz else NOTHING),
        row('period and jitter', steps(lambda s: f'{span(s.period_ms)} ± {span(s.jitter_ms)}')),
        row('longest gap', steps(lambda s: f'{span(s.longest_gap_ms)} at {span(1e3 * s.longest_gap_at_s)}')),
        row('lost, estimated from gaps', steps(lambda s: count(s.lost))),
        row('encoding and size', lambda s: some(list(s.contents), 3) or NOTHING),
        row('not usable', lambda s: count(s.undecodable)),
        row('odd stamps', _odd_stamps),
    ]
    lead = (
        'Period and gaps come from the stamps, the rate from the times of recording. Jitter is half the range of the middle '
        '90 %.'
    )
    return section('Rates and gaps', table('Each source', ['', *facts.streams], rows, 'wide'), lead=lead)


def _odd_stamps(stream: Stream) -> str:
    oddities = ((stream.unset, 'not set'), (stream.repeated, 'repeated'), (stream.backwards, 'backwards'))
    return ', '.join(f'{count(number)} {what}' for number, what in oddities if number) or 'none'


def _skews(facts: Facts) -> Html:
    plots = []
    for camera, skews in facts.skews.items():
        drawing = charts.histogram(skews, facts.tolerance_ms, charts.describe_skews(camera, skews, facts.tolerance_ms))
        beyond = f', {count(skews.beyond)} beyond the chart' if skews.beyond else ''
        caption = tag('figcaption', tag('strong', camera), f' median {span(skews.middle_ms, True)}{beyond}')
        plots.append(tag('figure', caption, drawing))
    if not plots:
        return section('Skew to the anchor', tag('p', 'There are no two cameras to compare.'))
    legend = tag(
        'p', _key('set', 'in a set'), _key('nearest', 'nearest frame, no set'), _key('inside', 'tolerance'), class_='legend'
    )
    lead = f'Time from each frame of {facts.anchor} to the nearest frame of the follower, ms; negative is earlier.'
    return section('Skew to the anchor', legend, tag('div', *plots, class_='plots'), lead=lead)


def _key(style: str, label: str) -> Html:
    return tag('span', tag('i', class_=style), label)


def _offsets(facts: Facts) -> Html:
    rows: list[list[object]] = []
    for camera, offset in facts.offsets.items():
        told = describe_offset(offset)
        curve = (
            charts.lane(list(offset.explained.values()), 'stream', _describe_curve(camera, offset)) if offset.explained else ''
        )
        used = f'{facts.settings.values[f"{STAMP_OFFSET}{camera}"]:g} ms'
        rows.append([camera, told, curve or NOTHING, used])
    reach = f'−{MOST_MS} to +{MOST_MS} ms'
    header = ['', 'to be added to its stamps', f'motion that the joints explain, by offset, {reach}', 'stamp_offset_ms in use']
    lead = (
        'Offset of the stamps of each camera relative to those of the joints, measured from the motion in its pictures. It is '
        'in addition to stamp_offset_ms, and holds for the middle of the exposure.'
    )
    return section('Time offsets', table('Each camera relative to the joints', header, rows, 'wide'), lead=lead)


def _describe_curve(camera: str, offset: Offset) -> str:
    best = max(offset.explained, key=lambda ms: offset.explained[ms])
    return f'{camera}: at most {per_cent(offset.explained[best])} of the motion is explained, at {span(best, True)}'


def _clocks(facts: Facts) -> Html:
    anchor = facts.streams[facts.anchor].delay
    rows: list[list[object]] = []
    for source, stream in facts.streams.items():
        if stream.delay is None:
            continue
        skews = facts.skews.get(source)
        lies = (
            f'{span(skews.middle_ms, True)} ({span(skews.low_ms, True)} to {span(skews.high_ms, True)})' if skews else NOTHING
        )
        drift = stream.delay.drift_ms_per_minute
        rows.append(
            [
                source,
                'anchor' if source == facts.anchor else lies,
                span(stream.delay.middle_ms, True),
                span(stream.delay.middle_ms - anchor.middle_ms, True) if anchor and source != facts.anchor else NOTHING,
                f'{span(drift, True)}/min' if drift else 'none seen',
            ]
        )
    if not rows:
        return Html('')
    header = [
        '',
        'nearest frame (5 to 95 %)',
        'recorded after its stamp',
        'estimated offset to the anchor',
        'drift to the recorder',
    ]
    lead = (
        'The estimated offset is how much longer a source needs from its stamp to the recorder than the anchor. It is the sum '
        'of the difference in transport time and the difference of the clocks, which the bag alone cannot separate. For a '
        'camera that is stamped on arrival, it shows nothing.'
    )
    return section('Clocks', table('Each source relative to the anchor', header, rows, 'wide'), lead=lead)


def _what_if(facts: Facts) -> Html:
    what_if = facts.what_if
    rows = []
    for i, tolerance_ms in enumerate(what_if.tolerances_ms):
        is_used = tolerance_ms == facts.tolerance_ms
        cells = [
            _cell(cells[i], is_used and anchor == facts.anchor, what_if.enough_ms[anchor] == tolerance_ms)
            for anchor, cells in what_if.cells.items()
        ]
        rows.append([f'{tolerance_ms:g} ms', *cells])
    lead = (
        'Share of the anchor frames that become sets, sets per second, and the 99th percentile of the skew in them, for each '
        'tolerance and anchor, from the recorded stamps. Framed: in use. Bold: the smallest tolerance that is enough if no '
        'frame is lost.'
    )
    if facts.jumps:
        lead = 'A clock jumped back in this bag, so the stamps alone do not show which messages belong together.'
        return section('What if', tag('p', lead))
    if not any(cell.share for cells in what_if.cells.values() for cell in cells):
        return section('What if', tag('p', 'No tolerance and no anchor would give a set.'))
    return section('What if', table('Sets by tolerance and anchor', ['tolerance', *what_if.cells], rows, 'what-if'), lead=lead)


def _cell(cell: Cell, is_used: bool, is_enough: bool) -> Html:
    style = ' '.join(name for name, holds in (('used', is_used), ('enough', is_enough)) if holds)
    skew = f', {span(cell.p99_ms)}' if cell.p99_ms is not None else ''
    said = tag('span', ' in use' if is_used else ' enough', class_='unseen') if style else ''
    bar = tag('i', style=f'width:{100 * cell.share:.1f}%')
    detail = tag('small', f'{cell.rate_hz:.1f} Hz{skew}')
    return tag('div', bar, tag('span', per_cent(cell.share)), detail, said, class_=style or None)


def _joints(facts: Facts) -> Html:
    joints = facts.joints
    total = len(facts.settings.spec.joint_names)
    come = f'{total - len(joints.missing)} of the {total} joints in joint_names are published.'
    lead = f'{come} Positions are interpolated at the stamp of the anchor.'
    rows = [_joint_row(group) for group in joints.groups]
    header = ['joints that come together', 'messages', 'period', 'longest gap', 'distance to the samples used (99 %)']
    groups = table('Joints by publisher', header, rows, 'wide names') if rows else ''
    names = [('Missing', joints.missing), ('Published, but not in joint_names', joints.extra)]
    lists = [tag('p', tag('strong', f'{label}: '), some(found, 60)) for label, found in names if found]
    return section('Joints', groups, *lists, lead=lead)


def _joint_row(group: JointGroup) -> list[object]:
    steps = group.steps
    return [
        some(group.names, 40),
        count(group.messages),
        span(steps.period_ms) if steps else NOTHING,
        span(steps.longest_gap_ms) if steps else NOTHING,
        f'{span(group.age_p99_ms)} away' if group.age_p99_ms is not None else NOTHING,
    ]


def _samples(facts: Facts) -> Html:
    if not facts.samples:
        return section('Sets from along the bag', tag('p', 'There are no sets to show.'))
    size = facts.settings.spec.image_size
    smaller = f', shown at {LARGEST}' if size > LARGEST else ''
    lead = (
        f'What the encoder gets: {size}×{size} pixels per camera{smaller}. Check that all pictures of a set show the same '
        'moment, and that each camera shows its own side.'
    )
    return section(
        'Sets from along the bag', tag('div', *(_sample(facts, one) for one in facts.samples), class_='strip'), lead=lead
    )


def _sample(facts: Facts, sample: Sample) -> Html:
    cameras = facts.settings.spec.cameras
    anchor_ns = sample.stamps_ns[facts.anchor]
    pictures = []
    for i, camera in enumerate(cameras):
        role = 'anchor' if camera == facts.anchor else span(sample.skew_ns[camera] / 1e6, True)
        source = _png(sample.images[..., 3 * i : 3 * i + 3])
        view = picture(source, alt=f'View of {camera}, {role}', width=84, height=84)
        pictures.append(tag('div', view, tag('span', camera), tag('small', role)))
    at = charts.clock(round((sample.at_ns - facts.begin_ns) / 1e9, 1))
    held = sample.skew_ns[JOINTS] / 1e6
    joints = f'joints held from {span(held, True)}' if held else 'joints interpolated'
    caption = tag('figcaption', tag('strong', f'at {at}'), f' stamp {anchor_ns / 1e9:.3f} s, {joints}')
    return tag('figure', tag('div', *pictures, class_='views'), caption)


def _png(pixels: NDArray[np.uint8]) -> str:
    _, data = cv2.imencode('.png', shown(pixels)[..., ::-1])
    return data_uri('image/png', data.tobytes())


def _outcomes(facts: Facts) -> Html:
    counts = facts.counts
    if not counts.drops and not counts.rejects:
        return section('Drops', tag('p', 'Every anchor frame became a set, and every message could be used.'))
    rows = [(key, count(number), facts.details.get(key, '')) for key, number in counts.drops.most_common()]
    rows += [(key, count(number), facts.details.get(key, '')) for key, number in counts.rejects.most_common()]
    lead = (
        'Anchor frames without a set, by reason. Below them, messages of other sources that could not be used, by source and '
        'reason.'
    )
    return section('Drops', table('Reasons', ['reason', 'count', 'the last of them'], rows, 'text drops'), lead=lead)


def _topics(facts: Facts) -> Html:
    used = {topic: source for source, stream in facts.streams.items() if stream.kind for topic in stream.topics}
    rows = [(topic.name, topic.kind, count(topic.messages or 0), used.get(topic.name, '')) for topic in facts.topics]
    return section('Topics of the bag', table('Every topic', ['topic', 'type', 'messages', 'used as'], rows, 'text topics'))


def _parameters(facts: Facts) -> Html:
    rows = [(name, json.dumps(value, ensure_ascii=False)) for name, value in facts.settings.values.items()]
    return section('Parameters', table('Parameters used', ['name', 'value'], rows, 'text parameters'))
