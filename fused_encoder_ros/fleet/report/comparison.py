"""Which bags stand out from the others of a run, by figures that every bag has."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fused_encoder_ros.diagnosis.wording import count, per_cent, span
from fused_encoder_ros.fleet.manifest import Record

LEAST_BAGS = 5
"""With fewer nothing can be said to be usual."""

DISTANCE = 'distance of features'

_FAR = 5.0
"""Robust standard deviations from the median that are too many."""

_FEW = 10
"""With so many bags it takes twice as much, since their spread is known less well."""

_NO_DIFFERENCE = 1e-9

_SIGMA = 1.4826
"""Standard deviation of a normal distribution, in median absolute deviations."""


@dataclass(frozen=True)
class Measure:
    """One figure of every bag.

    Attributes:
        name: what it is.
        values: by name of the bag.
        show: a value as text.
        least: a smaller difference from the usual value never stands out.
        side: which values stand out: 1 those above, -1 those below, 0 both.
    """

    name: str
    values: Mapping[str, float]
    show: Callable[[float], str]
    least: float
    side: int = 0

    @property
    def middle(self) -> float:
        """The median."""
        return _median(self.values)

    def distances(self) -> dict[str, float]:
        """How far each bag lies from the median, by name; above 1 it stands out."""
        if len(self.values) < LEAST_BAGS:
            return {}
        middle = self.middle
        spread = _SIGMA * float(np.median([abs(value - middle) for value in self.values.values()]))
        limit = max(_FAR * (1 + _FEW / len(self.values)) * spread, self.least, _NO_DIFFERENCE)
        return {
            name: (self.side * (value - middle) if self.side else abs(value - middle)) / limit
            for name, value in self.values.items()
        }


@dataclass(frozen=True)
class Reason:
    """Why a bag stands out: a sentence, and how far it lies from the others, above 1."""

    sentence: str
    distance: float


@dataclass(frozen=True)
class Comparison:
    """The bags of a run against each other.

    Attributes:
        measures: what they are compared by.
        reasons: of the bags that stand out, by name, the furthest first, and so are the reasons of each.
        typical: names of the other bags, the most usual first.
    """

    measures: list[Measure]
    reasons: dict[str, list[Reason]]
    typical: list[str]


def compare(records: Sequence[Record]) -> Comparison:
    """Compare the bags that are done, by what their summaries say; those of older versions say less."""
    found = _measures({record.bag.name: record.summary for record in records})
    reasons = {record.bag.name: list(_always(record.summary)) for record in records}
    furthest = {record.bag.name: 0.0 for record in records}
    for measure in found:
        for name, distance in measure.distances().items():
            furthest[name] = max(furthest[name], distance)
            if distance > 1:
                told = f'{measure.name} {measure.show(measure.values[name])}, usually {measure.show(measure.middle)}'
                reasons[name].append(Reason(told, distance))
    for of_bag in reasons.values():
        of_bag.sort(key=lambda reason: -reason.distance)
    standing = sorted((name for name in reasons if reasons[name]), key=lambda name: -reasons[name][0].distance)
    typical = sorted((name for name in reasons if not reasons[name]), key=lambda name: furthest[name])
    return Comparison(found, {name: reasons[name] for name in standing}, typical)


def drop_share(summary: Mapping[str, Any]) -> float | None:
    """Share of the anchor frames that gave no set; None where there is no anchor frame."""
    return sum(summary['drops'].values()) / summary['anchors'] if summary['anchors'] else None


def _always(summary: Mapping[str, Any]) -> Iterator[Reason]:
    """What no bag should have, whatever the others are like."""
    if not summary['sets']:
        yield Reason('no sets', math.inf)
    for told in summary.get('content', ()):
        yield Reason(f'{told["title"]} ({told["evidence"]})', math.inf)
    if faults := summary['drops'].get('encoder_fault', 0):
        yield Reason(f'{count(faults)} features contained NaN or infinity', math.inf)


def _measures(summaries: Mapping[str, Mapping[str, Any]]) -> list[Measure]:
    """What the bags of a run are compared by: the figures that at least one has, of summaries by name of the bag."""
    features = {name: summary['features'] for name, summary in summaries.items() if summary.get('features')}
    distances = _distances(features)
    norms = _numbers({name: figures['norm'] for name, figures in features.items()})
    constant = _numbers({name: figures['constant'] for name, figures in features.items()})
    lengths = _numbers({name: summary['span_s'] or None for name, summary in summaries.items()})
    found = [
        Measure('drops', _numbers({name: drop_share(summary) for name, summary in summaries.items()}), per_cent, 0.02, 1),
        Measure(
            'sets per second', _numbers({name: s['rate_hz'] for name, s in summaries.items()}), lambda hz: f'{hz:.1f}', 0.5
        ),
        Measure('length', lengths, _seconds, 1.0, -1),
        *(
            Measure(f'skew of {source}', {name: skew['p95_ms'] for name, skew in skews.items()}, span, 2.0, 1)
            for source, skews in _by_source(summaries, 'skew_ms').items()
            if any(skew['p95_ms'] for skew in skews.values())  # that of the anchor is 0
        ),
        *(
            Measure(f'rate of {source}', rates, lambda hz: f'{hz:.1f} Hz', 0.02 * _median(rates))
            for source, rates in _by_source(summaries, 'rates_hz').items()
        ),
        *(
            Measure(f'brightness of {camera}', values, lambda value: f'{value:.0f}', 15.0)
            for camera, values in _by_source(summaries, 'brightness').items()
        ),
        *(
            Measure(f'unchanged picture of {camera}', values, _seconds, 1.0, 1)
            for camera, values in _by_source(summaries, 'still_s').items()
        ),
        Measure(DISTANCE, distances, _short, 0.5 * _median(distances), 1),
        Measure('norm of features', norms, _short, 0.1 * _median(norms)),
        Measure('constant dimensions', constant, lambda number: f'{number:g}', 3.0, 1),
    ]
    return [measure for measure in found if measure.values]


def _by_source(summaries: Mapping[str, Mapping[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    """What summaries have by source under a key: by source, and then by name of the bag."""
    found: dict[str, dict[str, Any]] = {}
    for name, summary in summaries.items():
        for source, value in summary.get(key, {}).items():
            if value is not None:
                found.setdefault(source, {})[name] = value
    return found


def _distances(features: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """How far the mean feature of each bag lies from the median of all."""
    if not features:
        return {}
    means = np.stack([np.frombuffer(base64.b64decode(figures['mean']), '<f4') for figures in features.values()])
    distances = np.linalg.norm(means - np.median(means, axis=0), axis=1)
    return dict(zip(features, distances.tolist()))


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _median(values: Mapping[str, float]) -> float:
    return float(np.median(list(values.values()))) if values else 0.0


def _seconds(seconds: float) -> str:
    return span(1e3 * seconds)


def _short(value: float) -> str:
    return f'{value:.3g}'
