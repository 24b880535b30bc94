"""Charts as inline SVG. Shapes stretch with the page, labels are HTML beside them and keep their size."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from fused_encoder_ros.diagnosis.facts.matching import Skews
from fused_encoder_ros.diagnosis.wording import count, span
from fused_encoder_ros.offline.report.html import Html, join, tag

_HEIGHT = 100.0
_BIN = 10
_LEAST_BAR = 0.02
_LEAST_MARK = 0.08
_PARTS = 40
_TIME_STEPS_S = (0.01, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21600, 86400)


def lane(heights: Sequence[float], style: str, description: str) -> Html:
    """A strip of bars that touch: heights from 0 to 1, one for each bin."""
    shape = tag('path', d=_bars(heights), class_=style)
    return _drawing(_BIN * len(heights), shape, description)


def histogram(skews: Skews, tolerance_ms: float, description: str) -> Html:
    """Skews of the nearest frames, and over them those of the frames in sets, with the tolerance drawn in."""
    highest = max(*skews.nearest, *skews.sets, 1)
    width, reach = _BIN * len(skews.nearest), skews.edges_ms[-1]

    def x(ms: float) -> float:
        return (ms + reach) / (2 * reach) * width

    inside = min(tolerance_ms, reach)
    shapes = [
        tag('rect', x=_f(x(-inside)), y=0, width=_f(x(inside) - x(-inside)), height=_f(_HEIGHT), class_='inside'),
        tag('path', d=_bars([n and max(n / highest, _LEAST_BAR) for n in skews.nearest]), class_='nearest'),
        tag('path', d=_bars([n and max(n / highest, _LEAST_BAR) for n in skews.sets]), class_='set'),
        *(_upright(x(edge), 'edge') for edge in (-inside, inside)),
        _upright(x(0), 'zero'),
    ]
    axis = ticks([(x(ms) / width, f'{ms:+g}'.replace('-', '−') if ms else '0') for ms in _round_values(-reach, reach, 8)])
    return join(_drawing(width, join(*shapes), description), axis)


def distribution(values: Sequence[float], marked: Sequence[float], show: Callable[[float], str], description: str) -> Html:
    """A histogram of values, those that are marked on top; there is at least one value."""
    low, high = min(values), max(values)
    pad = (high - low) / 50 or abs(high) / 10 or 1.0
    edges = np.linspace(low - pad, high + pad, _PARTS + 1)
    every, on_top = (np.histogram(numbers, edges)[0].tolist() for numbers in (values, marked))
    highest = max(every)
    shapes = [
        tag('path', d=_bars([n and max(n / highest, least) for n in counts]), class_=style)
        for counts, style, least in ((every, 'set', _LEAST_BAR), (on_top, 'drop', _LEAST_MARK))
    ]
    marks = [((value - edges[0]) / (edges[-1] - edges[0]), show(value)) for value in _round_values(edges[0], edges[-1], 4)]
    axis = ticks([(at, label) for at, label in marks if 0.05 < at < 0.95])  # labels at the ends would stick out
    return join(_drawing(_BIN * _PARTS, join(*shapes), description), axis)


def ticks(marks: Sequence[tuple[float, str]]) -> Html:
    """Labels of an axis at shares of its length."""
    # Those at the ends would stick out.
    inner = [(at, label) for at, label in marks if 0.0 <= at <= 1.0]
    return tag(
        'div', *(tag('span', label, style=f'left:{100 * at:.2f}%') for at, label in inner), class_='axis', aria_hidden='true'
    )


def time_ticks(length_s: float) -> list[tuple[float, str]]:
    """Marks of an axis of so many seconds."""
    step = next((step for step in _TIME_STEPS_S if length_s <= 6 * step), length_s / 5)
    return [(step * i / length_s, clock(step * i)) for i in range(int(length_s / step) + 1)] if length_s > 0 else []


def clock(seconds: float) -> str:
    """A time along the bag: `4.5 s`, `2:30`, `1:02:30`."""
    if seconds < 60:
        return f'{seconds:g} s'
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f'{hours}:{minutes:02d}:{rest:02d}' if hours else f'{minutes}:{rest:02d}'


def describe_skews(camera: str, skews: Skews, tolerance_ms: float) -> str:
    """The histogram in a sentence, for those who do not see it."""
    return (
        f'Histogram: nearest frames of {camera} are {span(skews.low_ms, True)} to {span(skews.high_ms, True)} from the anchor '
        f'(5th and 95th percentile), with a median of {span(skews.middle_ms, True)}; the tolerance is {tolerance_ms:g} ms; '
        f'{count(sum(skews.sets))} are in sets, {count(skews.beyond)} are beyond the chart.'
    )


def _drawing(width: float, content: Html, description: str) -> Html:
    box = f'0 0 {_f(width)} {_f(_HEIGHT)}'
    return tag('svg', content, viewBox=box, preserveAspectRatio='none', role='img', aria_label=description)


def _bars(heights: Sequence[float]) -> Html:
    parts = []
    for i, height in enumerate(heights):
        if height > 0:
            top = _f(_HEIGHT * (1 - min(height, 1.0)))
            parts.append(f'M{_BIN * i} {_f(_HEIGHT)}V{top}H{_BIN * (i + 1)}V{_f(_HEIGHT)}z')
    return Html(''.join(parts))


def _upright(x: float, style: str) -> Html:
    return tag('line', x1=_f(x), x2=_f(x), y1=0, y2=_f(_HEIGHT), class_=style)


def _round_values(low: float, high: float, most: int) -> list[float]:
    """Round values from `low` to `high`, at most so many."""
    least = (high - low) / most
    scale = 10.0 ** math.floor(math.log10(least))
    step = next(scale * step for step in (1, 2, 5, 10) if scale * step >= least)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _f(number: float) -> str:
    return f'{number:.1f}'.rstrip('0').rstrip('.')
