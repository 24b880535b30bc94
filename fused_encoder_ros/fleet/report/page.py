"""The run report as one HTML page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from fused_encoder_ros.diagnosis.wording import count, per_cent, some, span
from fused_encoder_ros.fleet.manifest import BEGUN, DONE, FAILED, Record
from fused_encoder_ros.fleet.report.comparison import DISTANCE, LEAST_BAGS, Measure, drop_share
from fused_encoder_ros.fleet.report.overview import Overview, bags
from fused_encoder_ros.offline.report import charts
from fused_encoder_ros.offline.report.html import Html, breakable, join, picture, tag
from fused_encoder_ros.offline.report.layout import NOTHING, WORDS, banner, data_uri, document, section, table, tiles

KIND = 'run report'

_LISTED = 5000
"""Rows of the table of bags."""

_REASONS = 50
"""Rows of the tables of reasons."""

_MOST_BARS = 250
_NAMED = 6
_LANES = ('drops', 'length', 'skew', 'brightness', DISTANCE)
_UNITS = (('TB', 10**12), ('GB', 10**9), ('MB', 10**6), ('kB', 10**3))


def render(overview: Overview, previews: Mapping[str, bytes | None]) -> str:
    """The whole page. `previews` are JPEG files of the bags in `overview.shown`, by name; None where a bag has none."""
    body = tag(
        'main',
        _header(overview),
        banner(overview.severity, overview.sentence),
        _totals(overview),
        _bag_by_bag(overview),
        _failed(overview),
        _begun(overview),
        _standing_out(overview, previews),
        _distributions(overview),
        _drops(overview),
        _bags(overview),
        _made_with(overview),
    )
    title = f'{WORDS[overview.severity]}: run report of {_name(overview)}'
    versions = {'fused_encoder_ros': ', '.join(sorted({record.version for record in overview.records}))}
    return document(KIND, title, body, versions, _part('run.css'), _part('bags.js'))


def _part(name: str) -> str:
    return files(__package__).joinpath(name).read_text()


def _name(overview: Overview) -> str:
    return PurePosixPath(overview.folder.partition('?')[0]).name or overview.folder


def _header(overview: Overview) -> Html:
    made_with = overview.made_with
    told = [f'{made_with.get("kind", "run").capitalize()} of {bags(len(overview.records))} into {overview.folder}']
    if model := made_with.get('model'):
        told.append(f'model {model["hash"][:12]}, engine {model["engine"]}, {model["precision"]}')
    return tag(
        'header', tag('p', 'Run report', class_='kind'), tag('h1', _name(overview)), tag('p', ', '.join(told), class_='lead')
    )


def _totals(overview: Overview) -> Html:
    done = overview.of(DONE)
    anchors, sets = (sum(record.summary[key] for record in done) for key in ('anchors', 'sets'))
    dropped = sum(_drop_counts(done).values())
    recorded_s = sum(record.summary['span_s'] for record in done)
    return tiles(
        (
            (count(len(done)), f'of {bags(len(overview.records))} done'),
            (count(sets), f'sets of {count(anchors)} anchor frames'),
            (per_cent(dropped / anchors) if anchors else NOTHING, 'of the anchor frames dropped'),
            (span(1e3 * recorded_s), 'of recording'),
            (_size(sum(record.bag.size for record in done)), 'of bags done'),
        )
    )


def _size(size: int) -> str:
    unit, bytes_each = next(((unit, each) for unit, each in _UNITS if size >= each), _UNITS[-1])
    return f'{size / bytes_each:.3g} {unit}'


def _bag_by_bag(overview: Overview) -> Html:
    """Lanes over all bags; several share a bar where there are many."""
    names = sorted(record.bag.name for record in overview.records)
    if len(names) < LEAST_BAGS:
        return Html('')
    parts = [part.tolist() for part in np.array_split(names, min(len(names), _MOST_BARS))]

    def lane(name: str, values: Mapping[str, float], middle: float, style: str, told: str) -> Html:
        highest = max(values.values(), default=0.0) or 1.0
        inside = [[values[bag] for bag in part if bag in values] for part in parts]
        heights = [max(part, key=lambda value: abs(value - middle), default=0.0) / highest for part in inside]
        drawing = charts.lane(heights, style, f'{name} of each bag, at most {told}')
        return tag('div', tag('span', name), drawing, tag('span', told, class_='number'), class_='lane')

    failed = {record.bag.name: 1.0 for record in overview.of(FAILED)}
    standing = dict.fromkeys(overview.comparison.reasons, 1.0)
    lanes = [
        lane('failed', failed, 0.0, 'drop', count(len(failed))),
        lane('stand out', standing, 0.0, 'nearest', count(len(standing))),
    ]
    for measure in overview.comparison.measures:
        if measure.name.startswith(_LANES):
            told = measure.show(max(measure.values.values()))
            lanes.append(lane(measure.name, measure.values, measure.middle, 'set', told))
    lead = 'The bags are sorted by name. A full bar is the largest value, which is printed on the right.'
    if len(names) > len(parts):
        lead += ' If several bags share a bar, it shows the one furthest from the median.'
    return section('Bag by bag', tag('div', *lanes, class_='timeline'), lead=lead)


def _drop_counts(records: list[Record]) -> Counter[str]:
    drops: Counter[str] = Counter()
    for record in records:
        drops.update(record.summary['drops'])
    return drops


def _failed(overview: Overview) -> Html:
    named: dict[str, list[str]] = {}
    for record in overview.of(FAILED):
        named.setdefault(_reason(record), []).append(record.bag.name)
    if not named:
        return Html('')
    reasons = sorted(named, key=lambda reason: -len(named[reason]))
    rows = [(count(len(named[reason])), reason, _names(named[reason])) for reason in reasons[:_REASONS]]
    return section(
        'Failed',
        table('Reasons for failures', ['bags', 'reason', 'which'], rows, 'text failures'),
        lead='A second run with the same options tries them again.' + _left_out(len(reasons)),
    )


def _reason(record: Record) -> str:
    """Why a bag failed, without its own name, so that equal reasons are equal."""
    return record.reason.removeprefix(f'bag {record.bag.uri}').lstrip(': ').replace(record.bag.uri, 'the bag')


def _names(names: list[str]) -> Html:
    more = [f'and {count(len(names) - _NAMED)} more'] if len(names) > _NAMED else []
    return join(*(tag('div', breakable(name)) for name in [*names[:_NAMED], *more]))


def _left_out(reasons: int) -> str:
    return f' The {_REASONS} most frequent of {count(reasons)} reasons.' if reasons > _REASONS else ''


def _begun(overview: Overview) -> Html:
    begun = [record.bag.name for record in overview.of(BEGUN)]
    if not begun:
        return Html('')
    lead = (
        'A run is working on these bags, or it was stopped; then a second run does them again. Bags that were never begun are '
        'not listed here.'
    )
    return section('Begun and not finished', tag('p', some(begun, 20)), lead=lead)


def _standing_out(overview: Overview, previews: Mapping[str, bytes | None]) -> Html:
    comparison = overview.comparison
    cameras = overview.made_with.get('spec', {}).get('cameras', [])
    of_cameras = f'Each picture is a set from the middle of the bag: {", ".join(cameras)}.' if cameras else ''
    are_enough = len(overview.of(DONE)) >= LEAST_BAGS
    lead = (
        'Each figure is compared with the median of all bags that are done. A bag stands out if a figure is more than five '
        f'robust standard deviations away, or further if there are only a few bags. {of_cameras}'
    )
    if not are_enough:
        lead = f'Fewer than {LEAST_BAGS} bags are done, which is too few to know what is usual. {of_cameras}'
    shown = [name for name in comparison.reasons if name in previews]
    cards = [_card(name, [reason.sentence for reason in comparison.reasons[name]], previews[name]) for name in shown]
    more = len(comparison.reasons) - len(shown)
    typical = [_card(name, [], previews[name]) for name in comparison.typical if name in previews]
    none = tag('p', 'No bag stands out.') if are_enough else ''
    return section(
        'Standing out',
        tag('div', *cards, class_='bags-shown') if cards else none,
        tag('p', f'{count(more)} more bags stand out less; they are in the table of bags.', class_='lead more')
        if more
        else '',
        tag('h3', 'Usual bags, for comparison' if are_enough else 'Some of the bags') if typical else '',
        tag('div', *typical, class_='bags-shown') if typical else '',
        lead=lead,
    )


def _card(name: str, reasons: list[str], preview: bytes | None) -> Html:
    view = tag('p', 'no picture', class_='lead')
    if preview:
        view = picture(data_uri('image/jpeg', preview), alt=f'A set from the middle of {name}')
    told = tag('ul', *(tag('li', reason) for reason in reasons)) if reasons else ''
    return tag('figure', view, tag('figcaption', tag('strong', breakable(name)), told))


def _distributions(overview: Overview) -> Html:
    plots, alike = [], []
    for measure in overview.comparison.measures:
        values = list(measure.values.values())
        marked = [measure.values[name] for name, distance in measure.distances().items() if distance > 1]
        low, middle, high = (measure.show(value) for value in np.percentile(values, [5, 50, 95]).tolist())
        if low == high and not marked:
            alike.append(tag('div', tag('dt', measure.name), tag('dd', middle)))
            continue
        told = f'{middle} ({low} to {high})'
        about = f'Histogram: {measure.name} of {bags(len(values))}, {told}; {count(len(marked))} stand out.'
        caption = tag('figcaption', tag('strong', measure.name), tag('div', told))
        plots.append(tag('figure', caption, charts.distribution(values, marked, measure.show, about)))
    if not plots and not alike:
        return Html('')
    lead = (
        'Each bag counts once. The figures are the median and, in brackets, the range of the middle 90 %. Orange bars are '
        "bags that stand out by this figure. A skew is the 95th percentile over a bag's sets. The distance of features is how "
        "far a bag's mean feature is from the median of all bags."
    )
    return section(
        'Over the run',
        tag('div', *plots, class_='plots small') if plots else '',
        join(tag('h3', 'Nearly the same in every bag'), tag('dl', *alike, class_='alike')) if alike else '',
        lead=lead,
    )


def _drops(overview: Overview) -> Html:
    done = overview.of(DONE)
    drops = _drop_counts(done)
    if not drops:
        return section('Drops', tag('p', 'Every anchor frame became a set.')) if done else Html('')
    anchors = sum(record.summary['anchors'] for record in done)
    rows = []
    for reason, number in drops.most_common(_REASONS):
        having = [record for record in done if record.summary['drops'].get(reason)]
        worst = max(having, key=lambda record: record.summary['drops'][reason])
        most = f'{worst.bag.name}: {count(worst.summary["drops"][reason])}'
        rows.append((reason, count(number), per_cent(number / anchors), count(len(having)), most))
    header = ['reason', 'anchor frames', 'of all', 'bags', 'most in']
    return section(
        'Drops',
        table('Drops by reason', header, rows, 'text reasons'),
        lead='Anchor frames without a set, by reason, over all bags that are done.' + _left_out(len(drops)),
    )


_COLUMNS = ('bag', 'status', 'sets', 'drops', 'sets/s', 'skew', 'length', 'features', 'remarks')


def _bags(overview: Overview) -> Html:
    order = {name: number for number, name in enumerate(overview.comparison.reasons)}
    ranks = {FAILED: 0, BEGUN: 1, DONE: 2}
    records = sorted(overview.records, key=lambda r: (ranks[r.status], order.get(r.bag.name, len(order)), r.bag.name))
    distances = next((measure for measure in overview.comparison.measures if measure.name == DISTANCE), None)
    head = tag('tr', *(tag('th', tag('button', column, type='button'), scope='col') for column in _COLUMNS))
    rows = [tag('tr', *_row(record, overview, distances)) for record in records[:_LISTED]]
    label = tag(
        'label',
        'Show bags whose row contains ',
        tag('input', id='filter', type='search', placeholder='for example: stands out'),
    )
    shown = tag('span', f'{count(len(rows))} of {count(len(records))}', id='shown', role='status')
    every = tag('table', tag('caption', 'Every bag'), tag('thead', head), tag('tbody', *rows), class_='bags')
    lead = (
        'Failed bags come first, then those that stand out. Click on a column to sort. Skew: the largest of the 95th '
        'percentiles. Features: distance from the median of all bags.'
    )
    return section('Bags', tag('p', label, shown, class_='filter'), tag('div', every, class_='scroll'), lead=lead)


def _row(record: Record, overview: Overview, distances: Measure | None) -> Iterator[Html]:
    name, summary = record.bag.name, record.summary
    reasons = overview.comparison.reasons.get(name, [])
    yield tag('th', breakable(name), scope='row')
    status = 'stands out' if reasons else record.status
    yield tag('td', tag('span', status, class_=f'status {status.replace(" ", "-")}'))
    if record.status != DONE:
        yield from [_figure(None, '')] * 6
        yield tag('td', _reason(record))
        return
    share, rate_hz = drop_share(summary), summary['rate_hz']
    skew_ms = max((skew['p95_ms'] for skew in summary.get('skew_ms', {}).values()), default=None)
    distance = distances.values.get(name) if distances else None
    yield _figure(summary['sets'], count(summary['sets']))
    yield _figure(share, per_cent(share or 0))
    yield _figure(rate_hz, f'{rate_hz or 0:.1f}')
    yield _figure(skew_ms, span(skew_ms or 0))
    yield _figure(summary['span_s'], span(1e3 * summary['span_s']))
    yield _figure(distance, f'{distance or 0:.3g}')
    most = [f'{reason} {count(number)}' for reason, number in Counter(summary['drops']).most_common(2)]
    yield tag('td', '; '.join(reason.sentence for reason in reasons) or ', '.join(most))


def _figure(value: float | None, text: str) -> Html:
    """A cell that sorts by its value."""
    return tag('td', NOTHING if value is None else text, data_value=None if value is None else f'{value:.6g}', class_='figure')


def _made_with(overview: Overview) -> Html:
    rows = [(name, json.dumps(value, ensure_ascii=False)) for name, value in _flat(overview.made_with)]
    return section('Made with', table('What the results are made with', ['what', 'value'], rows, 'text parameters'))


def _flat(values: Mapping[str, Any], at: str = '') -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f'{at}{key}.')
        else:
            yield f'{at}{key}', value
