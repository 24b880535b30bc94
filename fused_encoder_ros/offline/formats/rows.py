"""Rows that wait to be written together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_MOST_ROWS = 4096
_MOST_BYTES = 1 << 25
"""Images at full resolution take megabytes a row."""


class Rows:
    """Rows with the same columns, as many as are written at once."""

    def __init__(self) -> None:
        self._columns: dict[str, list[Any]] = {}
        self._count = self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether it is time to write them."""
        return self._count >= _MOST_ROWS or self._bytes >= _MOST_BYTES

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row."""
        for name, value in row.items():
            self._columns.setdefault(name, []).append(value)
            self._bytes += getattr(value, 'nbytes', 8)
        self._count += 1

    def take(self) -> dict[str, list[Any]]:
        """The columns, which are empty then."""
        columns, self._columns = self._columns, {}
        self._count = self._bytes = 0
        return columns
