"""Messages of one input that the node never saw: how many, and where they went. No rclpy here."""

from __future__ import annotations

_SETTLING_NS = 2_000_000_000


class Losses:
    """Counts the messages that the middleware lost, and those that were overwritten in the node's own queue.

    The middleware reports the first. It does not report the second: they are the gaps in the publisher's numbering that its
    losses do not explain. Both count from two seconds after the first message, and these begin anew when something `joined`.

    Attributes:
        lost: messages that never reached the queue of this node.
        overwritten: messages that newer ones replaced in that queue before the node took them; None until a message was
            numbered.
    """

    def __init__(self) -> None:
        self.lost = 0
        self.overwritten: int | None = None
        self._settled_ns: int | None = None
        self._last_number: int | None = None
        self._forget()

    def _forget(self) -> None:
        self._lost_lately = self._missing_lately = 0
        self._lost_before = self._missing_before = 0

    def arrived(self, now_ns: int) -> None:
        """A message came, at `time.monotonic_ns`."""
        if self._settled_ns is None:
            self._settled_ns = now_ns + _SETTLING_NS

    def joined(self) -> None:
        """A publisher or a subscription is new: what was sent before they knew each other is not lost."""
        self._settled_ns = self._last_number = None
        self._forget()

    def numbered(self, number: int) -> None:
        """The message that came has this number at its publisher, which is the only one of the topic."""
        self.overwritten = self.overwritten or 0
        if self._last_number is not None:
            self._missing_lately += max(0, number - self._last_number - 1)
        self._last_number = number

    def lost_some(self, count: int) -> None:
        """The middleware has lost so many; they count at the next `count`, unless something `joined` meanwhile."""
        self._lost_lately += count

    def count(self, now_ns: int) -> None:
        """Count what was missed since the last call; to be called about twice a second."""
        if self._settled_ns is None or now_ns < self._settled_ns:
            self._forget()
            return
        self.lost += self._lost_lately
        # The middleware may report a loss just before or just after the gap that it leaves, so each waits for one call.
        missing, lost = _unexplained(self._missing_before, self._lost_lately)
        if missing:
            self.overwritten = (self.overwritten or 0) + missing
        missing, _ = _unexplained(self._missing_lately, self._lost_before)
        self._missing_before, self._lost_before = _unexplained(missing, lost)
        self._lost_lately = self._missing_lately = 0


def _unexplained(missing: int, lost: int) -> tuple[int, int]:
    """What remains of both when they are set off against each other."""
    both = min(missing, lost)
    return missing - both, lost - both
