"""What came lately from one stream, sorted by stamp and bounded."""

from __future__ import annotations

import sys
from bisect import bisect_left
from typing import Generic, TypeVar

T = TypeVar('T')

NEVER = sys.maxsize
"""A stamp later than every stamp."""


class History(Generic[T]):
    """The recent items of one stream, sorted by stamp.

    Of two with one stamp the first to come stays. Otherwise a set could have either, depending on when the second came.
    An item more than a horizon before the newest means that the stream's clock jumped: the history begins again.

    Args:
        horizon_ns: how long items are kept; may be set anew.
        limit: most items kept, whatever the stamps say.
    """

    def __init__(self, horizon_ns: int, limit: int) -> None:
        self.horizon_ns = horizon_ns
        self._limit = limit
        self.stamps_ns: list[int] = []
        self.items: list[T] = []

    def __len__(self) -> int:
        return len(self.stamps_ns)

    def add(self, stamp_ns: int, item: T, asked_ns: int = NEVER) -> None:
        """Insert an item, then forget those a horizon older than both the newest and `asked_ns`.

        Args:
            asked_ns: the earliest stamp that somebody still waits to have answered. A stall or a step of the clock
                must not take away what it needs.
        """
        stamps = self.stamps_ns
        self.begin_again_after_jump(stamp_ns)
        if not stamps or stamp_ns > stamps[-1]:
            stamps.append(stamp_ns)
            self.items.append(item)
        else:
            at = bisect_left(stamps, stamp_ns)
            if stamps[at] != stamp_ns:
                stamps.insert(at, stamp_ns)
                self.items.insert(at, item)
        oldest_ns = min(stamps[-1], asked_ns) - self.horizon_ns
        if stamps[0] < oldest_ns or len(stamps) > self._limit:
            stale = max(bisect_left(stamps, oldest_ns), len(stamps) - self._limit)
            del stamps[:stale], self.items[:stale]

    def begin_again_after_jump(self, stamp_ns: int) -> None:
        """Forget everything if a stamp that comes next lies more than a horizon back."""
        if self.stamps_ns and stamp_ns < self.stamps_ns[-1] - self.horizon_ns:
            self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.stamps_ns.clear()
        self.items.clear()

    def clear_if_after(self, stamp_ns: int) -> None:
        """Forget everything if the newest item is later than the stamp."""
        if self.stamps_ns and self.stamps_ns[-1] > stamp_ns:
            self.clear()

    def reaches(self, stamp_ns: int) -> bool:
        """Whether an item at or after the stamp has come."""
        return bool(self.stamps_ns) and self.stamps_ns[-1] >= stamp_ns

    def copy(self) -> History[T]:
        """A history of the same items that goes its own way."""
        twin: History[T] = History(self.horizon_ns, self._limit)
        twin.stamps_ns, twin.items = self.stamps_ns[:], self.items[:]
        return twin
