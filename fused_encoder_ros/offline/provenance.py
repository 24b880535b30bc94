"""What results were made with, and where that differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


def differences(old: Any, new: Any, at: str = '') -> Iterator[tuple[str, Any, Any]]:
    """Where two values of JSON differ: the name, joined by dots, and both values; None where one has no such name."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            yield from differences(old.get(name), new.get(name), f'{at}.{name}' if at else name)
    elif old != new:
        yield at, old, new


def difference(old: Any, new: Any) -> str:
    """Where two values of JSON differ, in a line; empty when they are equal."""
    return ', '.join(f'{at} {json.dumps(before)}, now {json.dumps(after)}' for at, before, after in differences(old, new))
