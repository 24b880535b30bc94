"""The node's executor: rclpy's, which looks for services and events now and then instead of at every message."""

from __future__ import annotations

import time
from typing import Any

from rclpy.executors import SingleThreadedExecutor
from rclpy.service import Service

from fused_encoder_ros.ros.distributions import EventHandler

_PERIOD_S = 0.1


class MessagesFirstExecutor(SingleThreadedExecutor):
    """Messages and timers as they come; services, and events such as a message lost, ten times a second.

    A lifecycle node has a dozen services, and every publisher and subscription two or three events. rclpy goes through all
    of them each time that it waits, twice a message: beside 500 joint messages a second that takes more than everything
    that the node does with messages.
    """

    _due_s = 0.0
    _is_due = True

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """As rclpy's."""
        self._is_due = time.monotonic() >= self._due_s
        super().spin_once(timeout_sec)

    def can_execute(self, entity: Any) -> bool:
        """Whether to wait for it; rclpy asks before each time that it waits."""
        if isinstance(entity, (EventHandler, Service)):
            if not self._is_due:
                return False
            self._due_s = time.monotonic() + _PERIOD_S
        return super().can_execute(entity)
