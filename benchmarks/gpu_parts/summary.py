"""The summary for a person, and whether the goals are met."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

OURS = ('triton', 'cuda_graph')
BATCH_1_MS, TIMES_EAGER = 0.25, 5.0


def goals(records: dict[str, Any]) -> dict[str, Any]:
    """Of our engines, hot: a set in a quarter of a millisecond, five times as fast as eager, ahead of all else measured."""
    ms = {name: row['p50_ms'] for name, row in _result(records, 'speed').get('hot', {}).items()}
    ms |= {name: row['hot']['p50_ms'] for name, row in _result(records, 'others').items() if 'hot' in row}
    rows = {}
    for name in (name for name in ms if name.split()[1] in OURS):
        design, _, precision = name.split()
        eager = ms[f'{design} eager fp32']
        rivals = {other: ms[other] for other in ms if other.startswith(f'{design} ') and other.split()[1] not in OURS}
        rivals = {other: value for other, value in rivals.items() if other.endswith(precision)} or rivals
        fastest = min(rivals, key=lambda other: rivals[other])
        rows[name] = {
            'p50_ms': ms[name],
            f'within {BATCH_1_MS} ms': ms[name] <= BATCH_1_MS,
            'times eager': round(eager / ms[name], 2),
            f'{TIMES_EAGER:g} times eager': eager / ms[name] >= TIMES_EAGER,
            'fastest other': fastest,
            'ahead of it': ms[name] < rivals[fastest],
        }
    return rows


def _result(records: dict[str, Any], part: str) -> dict[str, Any]:
    return records.get(part, {}).get('result') or {}


def as_text(result: dict[str, Any]) -> str:
    """Everything that was found, and at the end what failed."""
    lines = [result['command'], *_indented(result['machine'])]
    if result['goals']:
        lines += ['', 'goals', *_indented(result['goals'])]
    for name, record in result['parts'].items():
        reason = f': {record["reason"]}' if 'reason' in record else ''
        lines += ['', f'{name}: {record["status"]}, {record["seconds"]:.1f} s{reason}', *_indented(record.get('result') or {})]
    for name, text in result['failed'].items():
        lines += ['', f'FAILED {name}', text]
    count = len(result['failed'])
    return '\n'.join([*lines, '', f'{count} failed: {", ".join(result["failed"])}' if count else 'nothing failed'])


def _indented(values: dict[str, Any], depth: int = 1) -> Iterator[str]:
    """A line for what is simple or holds nothing but simple values; the rest indented."""
    pad = '  ' * depth
    for name, value in values.items():
        if name == 'traceback':
            continue
        if isinstance(value, list) and value and isinstance(value[0], dict):
            yield f'{pad}{name}'
            yield from (f'{pad}  {_in_a_line(row)}' for row in value)
        elif isinstance(value, dict) and any(isinstance(inner, (dict, list)) for inner in value.values()):
            yield f'{pad}{name}'
            yield from _indented(value, depth + 1)
        else:
            yield f'{pad}{name:<44} {_in_a_line(value) if isinstance(value, dict) else value}'


def _in_a_line(values: dict[str, Any]) -> str:
    return ', '.join(f'{name} {value}' for name, value in values.items() if name != 'traceback')
