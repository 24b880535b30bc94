"""A robot that runs, listened to for a while through the node's own subscriptions."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import ReliabilityPolicy
from rclpy.utilities import get_rmw_implementation_identifier

from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.ros.inputs import Input
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.settings.topics import Topic, expected_kind

_DISCOVERY_S = 4.0
"""A graph is known after a second or two, longer on a busy machine."""
_SETTLING_S = 0.5
_REFRESH_S = 0.5


class LiveRobot:
    """The messages of the encoder's sources as they arrive, and what the ROS graph says of their topics.

    Args:
        settings: topics and QoS of the node; relative topics count from the root.
        seconds: how long to listen.

    Attributes:
        path: None, for there is no bag.
        message_count: 0, for it is not known before.
        largest_image: bytes of the largest image message that has come.
    """

    path = None
    message_count = 0

    def __init__(self, settings: Settings, seconds: float) -> None:
        self._settings = settings
        self._seconds = seconds
        self._arrived: deque[tuple[Input, Any, int]] = deque()
        self._refresh_at = 0.0
        self.largest_image = 0
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context)
        self._node = rclpy.create_node('fused_encoder_doctor', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._inputs = [
            Input(self._node, source, topic, settings, lambda severity, text: None)
            for source, topics in settings.topics.items()
            for topic in topics
        ]
        for heard in self._inputs:
            heard.registerCallback(self._on_message, heard)

    def __enter__(self) -> LiveRobot:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for heard in self._inputs:
            heard.close()
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    @property
    def rmw(self) -> str:
        """The middleware's name."""
        return str(get_rmw_implementation_identifier())

    @property
    def topics(self) -> list[Topic]:
        """Every topic that somebody publishes, by name; messages are not counted."""
        return [
            Topic(name, kind, None)
            for name, _ in sorted(self._node.get_topic_names_and_types())
            # The types named there are those of subscriptions too.
            for kind in sorted({publisher.topic_type for publisher in self._node.get_publishers_info_by_topic(name)})
        ]

    @property
    def kinds(self) -> dict[str, str]:
        """Message type of each source with a topic that somebody publishes as it should be."""
        return {heard.source: expected_kind(heard.source, heard.topic) for heard in self._inputs if not _lack(heard)}

    @property
    def lacks(self) -> dict[str, str]:
        """Why each source that lacks one of its topics does."""
        lacks: dict[str, list[str]] = {}
        for heard in self._inputs:
            if problem := _lack(heard):
                lacks.setdefault(heard.source, []).append(problem)
        return {source: '; '.join(problems) for source, problems in lacks.items()}

    @property
    def offered(self) -> dict[str, list[str]]:
        """Reliability that each source's publishers offer."""
        names = {ReliabilityPolicy.RELIABLE: 'reliable', ReliabilityPolicy.BEST_EFFORT: 'best_effort'}
        offered: dict[str, list[str]] = {}
        for heard in self._inputs:
            here = [names.get(publisher.qos_profile.reliability, 'unknown') for publisher in heard.publishers]
            offered.setdefault(heard.source, []).extend(here)
        return offered

    @property
    def unreached(self) -> list[str]:
        """Sources whose publishers are found, but from which nothing arrives."""
        return list(dict.fromkeys(heard.source for heard in self._inputs if heard.is_unreached))

    def messages(self) -> Iterator[tuple[str, Any, int]]:
        """Yield (source, message, time of arrival in nanoseconds), until the time is over."""
        self._wait_for_publishers()
        end = time.monotonic() + self._seconds
        while time.monotonic() < end:
            self._spin_once(end)
            while self._arrived:
                heard, message, at_ns = self._arrived.popleft()
                if heard.source != JOINTS:
                    self.largest_image = max(self.largest_image, len(message.data))
                yield heard.source, message, at_ns

    def _wait_for_publishers(self) -> None:
        """Until every source has been heard, or for so long that it will not be."""
        missing, end = {heard.topic for heard in self._inputs}, time.monotonic() + _DISCOVERY_S
        while missing and time.monotonic() < end:
            self._spin_once(end)
            missing -= {heard.topic for heard, _, _ in self._arrived}
            self._arrived.clear()
        # Subscriptions may just have been made anew.
        settled = time.monotonic() + _SETTLING_S
        while time.monotonic() < settled:
            self._spin_once(settled)
        self._arrived.clear()

    def _spin_once(self, end: float) -> None:
        now = time.monotonic()
        if now >= self._refresh_at:
            self._refresh_at = now + _REFRESH_S
            for heard in self._inputs:
                heard.refresh()
        self._executor.spin_once(timeout_sec=max(min(end, self._refresh_at) - now, 0.0))

    def _on_message(self, message: Any, heard: Input) -> None:
        # The system's clock, by which drivers stamp.
        self._arrived.append((heard, message, time.time_ns()))


def _lack(heard: Input) -> str:
    """Why an input cannot be heard, or an empty string."""
    kinds = {publisher.topic_type for publisher in heard.publishers}
    expected = expected_kind(heard.source, heard.topic)
    if not kinds:
        return f'nobody publishes {heard.resolved_topic} for {heard.source}'
    if expected not in kinds:
        return f'topic {heard.resolved_topic} is {", ".join(sorted(kinds))}, but topics.{heard.source} needs {expected}'
    return ''
