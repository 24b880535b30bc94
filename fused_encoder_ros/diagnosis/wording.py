"""Numbers as a person reads them."""

from __future__ import annotations

from collections.abc import Collection

from fused_encoder_ros.content.offsets import Offset

_UNITS_MS = ((1_000, 'ms'), (120_000, 's'), (7_200_000, 'min'), (172_800_000, 'h'))
_MS_A_UNIT = {'ms': 1, 's': 1_000, 'min': 60_000, 'h': 3_600_000, 'days': 86_400_000}


def span(ms: float, signed: bool = False) -> str:
    """A length of time in the unit that suits it: `4.2 ms`, `33 s`, `2.1 h`."""
    unit = next((name for limit, name in _UNITS_MS if abs(ms) < limit), 'days')
    value = ms / _MS_A_UNIT[unit]
    digits = 1 if abs(value) < 99.95 else 0
    rounded = round(value, digits) or 0.0  # no minus zero
    return f'{rounded:{"+" if signed and rounded else ""},.{digits}f} {unit}'.replace('-', '−')


def describe_offset(offset: Offset) -> str:
    """The offset of a camera's stamps, or why it cannot be told."""
    if offset.ms is None or offset.low_ms is None or offset.high_ms is None:
        return f'unknown: {offset.problem}'
    interval = f'95 %: {span(offset.low_ms, True)} to {span(offset.high_ms, True)}'
    return f'{span(offset.ms, True)} relative to the joints ({interval}), from {span(1e3 * offset.motion_s)} of motion'


def per_cent(share: float) -> str:
    """A share; never rounded up to all or down to nothing."""
    value = 100 * share
    if 99.95 <= value < 100 or 0 < value < 0.05:
        return '> 99.9 %' if value > 50 else '< 0.1 %'
    return f'{value:.0f} %' if value in (0, 100) else f'{value:.1f} %'


def count(number: int) -> str:
    """A whole number with its thousands apart."""
    return f'{number:,}'


def some(names: list[str], most: int = 6) -> str:
    """The first few of a list of names."""
    return ', '.join(names[:most]) + (f' and {len(names) - most} more' if len(names) > most else '')


def capital(sentence: str, names: Collection[str] = ()) -> str:
    """A sentence with a capital letter, unless it begins with the name of a parameter or one of `names`."""
    word = sentence.partition(' ')[0]
    is_name = '_' in word or word in names
    return sentence if is_name else sentence[:1].upper() + sentence[1:]


def printable(text: str) -> str:
    """Text without control characters, reversals of direction and the like, which a bag's strings may hold."""
    return ''.join(character if character.isprintable() else '\N{REPLACEMENT CHARACTER}' for character in text)
