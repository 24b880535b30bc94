"""The node's executor: rclpy's, which looks at the events of the middleware now and then instead of at every message."""

from __future__ import annotations

import time
from typing import Any

from rclpy.executors import SingleThreadedExecutor

from fused_encoder_ros.ros.distributions import EventHandler

_EVENTS_PERIOD_S = 0.1


class MessagesFirstExecutor(SingleThreadedExecutor):
    """Messages, timers and services as they come; events, such as a message lost, ten times a second.

    Every publisher and subscription has two or three events, and rclpy goes through all of them each time that it waits,
    twice a message. Beside 500 joint messages a second that takes more than everything that the node does with messages.
    """

    _events_due_s = 0.0
    _are_events_due = True

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """As rclpy's."""
        self._are_events_due = time.monotonic() >= self._events_due_s
        super().spin_once(timeout_sec)

    def can_execute(self, entity: Any) -> bool:
        """Whether to wait for it; rclpy asks before each time that it waits."""
        if isinstance(entity, EventHandler):
            if not self._are_events_due:
                return False
            self._events_due_s = time.monotonic() + _EVENTS_PERIOD_S
        return super().can_execute(entity)
