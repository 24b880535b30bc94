"""The comparison as one HTML page."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from pathlib import Path

import numpy as np

from fused_encoder_ros import __version__
from fused_encoder_ros.diagnosis.rules.findings import Verdict
from fused_encoder_ros.diagnosis.wording import count, per_cent, some, span
from fused_encoder_ros.offline.compare.comparison import Comparison, Figures
from fused_encoder_ros.offline.compare.verdict import cosine, number
from fused_encoder_ros.offline.report import charts
from fused_encoder_ros.offline.report.html import Html, tag
from fused_encoder_ros.offline.report.layout import NOTHING, WORDS, banner, document, finding_list, section, table, tiles

KIND = 'comparison of features'

_LISTED = 10
_LEAST = 0.03
"""Height of a bar for what is little, so that it can be seen."""


def render(comparison: Comparison, verdict: Verdict) -> str:
    """The whole page."""
    body = tag(
        'main',
        _header(comparison),
        banner(verdict.severity, verdict.sentence),
        _totals(comparison),
        section('What was found', finding_list(verdict.findings)) if verdict.findings else '',
        _figures(comparison),
        _over_time(comparison),
        _dimensions(comparison),
        _files(comparison),
        _made_with(comparison),
    )
    title = f'{WORDS[verdict.severity]}: {" and ".join(_names(comparison))}'
    return document(KIND, title, body, {'fused_encoder_ros': __version__})


def _names(comparison: Comparison) -> list[str]:
    """Names of both files, with their folders where the names are the same."""
    paths = [Path(side.file) for side in (comparison.a, comparison.b)]
    return [path.name for path in paths] if paths[0].name != paths[1].name else [str(path) for path in paths]


def _header(comparison: Comparison) -> Html:
    first, second = _names(comparison)
    return tag(
        'header',
        tag('p', 'Comparison of features', class_='kind'),
        tag('h1', f'A: {first}, B: {second}'),
        tag('p', 'Sets with equal stamps are compared. Every difference is B minus A.', class_='lead'),
    )


def _totals(comparison: Comparison) -> Html:
    figures = comparison.figures
    return tiles(
        (
            (count(comparison.sets), f'sets in both; {count(comparison.a.alone)} only in A, {count(comparison.b.alone)} in B'),
            (per_cent(comparison.equal / comparison.sets), 'of them are equal, bit for bit'),
            (number(figures.largest) if figures else NOTHING, 'largest difference of a value'),
            (number(figures.median) if figures else NOTHING, 'median difference of a set'),
            (cosine(figures.cosine_least) if figures else NOTHING, 'smallest cosine'),
        )
    )


def _figures(comparison: Comparison) -> Html:
    groups = {
        'all sets in both': comparison.figures,
        'sets with the same frames and joints': comparison.figures_same_inputs,
    }
    found = {name: figures for name, figures in groups.items() if figures}
    if not found:
        return Html('')

    def row(name: str, show: Callable[[Figures], str]) -> list[str]:
        return [name, *(show(figures) for figures in found.values())]

    rows = [
        row('sets', lambda f: count(f.sets)),
        row('difference, median', lambda f: number(f.median)),
        row('difference, 99 %', lambda f: number(f.p99)),
        row('difference, largest', lambda f: number(f.largest)),
        row('difference, largest, relative', lambda f: number(f.relative)),
        row('cosine, median', lambda f: cosine(f.cosine_median)),
        row('cosine, smallest', lambda f: cosine(f.cosine_least)),
    ]
    lead = (
        "A set's difference is the largest absolute difference of its values. Median, 99 % and largest are over the sets. "
        'Relative means relative to the largest value of the set in A.'
    )
    return section('Differences', table('Differences of the sets', ['', *found], rows), lead=lead)


def _over_time(comparison: Comparison) -> Html:
    over_time = comparison.over_time
    part = span(1e3 * over_time.part_s)
    highest = max((value for value in over_time.largest if value is not None), default=0.0)
    lanes = []
    if highest:
        about = f'The largest difference in each {part}, {number(highest)} at most'
        lanes.append(_lane('largest difference', [value or 0.0 for value in over_time.largest], highest, 'set', about))
    counted = (
        ('other frames or joints', over_time.other_inputs, 'nearest'),
        ('only in A', over_time.a_alone, 'drop'),
        ('only in B', over_time.b_alone, 'drop'),
    )
    for name, counts, style in counted:
        if any(counts):
            about = f'{name}: sets in each {part}, {count(sum(counts))} in all'
            lanes.append(_lane(name, counts, max(counts), style, about, count(sum(counts))))
    if not lanes:
        return Html('')
    ticks = charts.ticks(charts.time_ticks(over_time.part_s * len(over_time.largest)))
    axis = tag('div', tag('span'), ticks, tag('span'), class_='lane')
    lead = (
        f'In parts of {part}, from {_when(over_time.begin_ns)}. A full bar is the largest value of its row. On the right are '
        'the largest difference and numbers of sets.'
    )
    if comparison.worst_ns is not None and highest:
        at = charts.clock(round((comparison.worst_ns - over_time.begin_ns) / 1e9, 3))
        lead += f' The largest difference is at {at}, stamp {comparison.worst_ns} ns.'
    return section('Along the recording', tag('div', *lanes, axis, class_='timeline'), lead=lead)


def _lane(name: str, values: Sequence[float], highest: float, style: str, about: str, total: str = '') -> Html:
    drawing = charts.lane([value and max(value / highest, _LEAST) for value in values], style, about)
    label = tag('span', total or number(highest), class_='number')
    return tag('div', tag('span', name), drawing, label, class_='lane')


def _when(stamp_ns: int) -> str:
    try:
        return datetime.fromtimestamp(stamp_ns / 1e9, timezone.utc).strftime('%Y-%m-%d %H:%M:%S UTC')
    except (OverflowError, ValueError):  # a stamp may be anything
        return f'{stamp_ns} ns'


def _dimensions(comparison: Comparison) -> Html:
    largest, means = comparison.dimensions_largest, comparison.dimensions_mean
    if not any(largest):
        return Html('')
    highest = max(largest)
    about = f'The largest difference of each of {len(largest)} dimensions, {number(highest)} at most'
    lane = _lane('largest difference', largest, highest, 'set', about)
    size = len(largest)
    marks = [((index + 0.5) / size, str(index)) for index in range(0, size, max(size // 8, 1))]
    axis = tag('div', tag('span'), charts.ticks(marks), tag('span'), class_='lane')
    worst = [index for index in np.argsort(largest)[::-1][:_LISTED].tolist() if largest[index]]
    rows = [[str(index), number(largest[index]), f'{means[index]:+.3g}'.replace('-', '−')] for index in worst]
    return section(
        'By dimension',
        tag('div', lane, axis, class_='timeline'),
        table('Dimensions that differ most', ['dimension', 'largest difference', 'mean of B minus A'], rows),
        lead='Over all sets in both. A mean far from zero is a shift; one near zero is noise.',
    )


def _files(comparison: Comparison) -> Html:
    a, b = comparison.a, comparison.b

    def row(name: str, values: tuple[object, object]) -> list[str]:
        return [name, *(f'{value:,}' if isinstance(value, int) else str(value) for value in values)]

    rows = [
        row('file', (a.file, b.file)),
        row('sets', (a.sets, b.sets)),
        row('only here', (a.alone, b.alone)),
        row('of these before the start or after the end of the other file', (a.alone_outside, b.alone_outside)),
        row('features with NaN or infinity', (a.not_finite, b.not_finite)),
    ]
    return section('Files', table('Both files', ['', 'A', 'B'], rows, 'text parameters'))


def _made_with(comparison: Comparison) -> Html:
    rows = [(name, _value(a), _value(b)) for name, a, b in comparison.made_with]
    lacks = [
        f'{letter} does not contain: {some(missing, 20)}.'
        for letter, own, other in (('A', comparison.a, comparison.b), ('B', comparison.b, comparison.a))
        if (missing := [key for key in other.made_with if key not in own.made_with])
    ]
    told = table('What differs', ['what', 'A', 'B'], rows, 'text parameters') if rows else tag('p', 'Nothing differs.')
    lead = 'Differences in spec, matching, model, engine and version, as far as both files contain them. '
    return section('Made with', told, lead=lead + ' '.join(lacks))


def _value(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
