"""Subscriptions: one for each source, of the reliability that its publishers allow."""

from __future__ import annotations

from typing import Any

from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState

from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.ros.filters import SimpleFilter, Subscriber
from fused_encoder_ros.settings import Settings, is_compressed

_RELIABILITIES = {'reliable': ReliabilityPolicy.RELIABLE, 'best_effort': ReliabilityPolicy.BEST_EFFORT}


class Input(SimpleFilter):
    """The messages of one source, whatever subscription they come through.

    With reliability `auto` it subscribes best effort, which matches any publisher, and changes to reliable as soon as
    every publisher is: images of 0.9 MB are lost in numbers over best effort and default DDS buffers. A best-effort
    publisher that appears later changes it back. The old subscription serves until the new one has its first message.
    """

    def __init__(self, node: Node, source: str, settings: Settings) -> None:
        super().__init__()
        self._node = node
        self.source = source
        self.topic = settings.topics[source]
        self._type = _message_type(source, self.topic)
        self._depth = settings.values['joint_depth' if source == JOINTS else 'image_depth']
        self._wanted = settings.values['reliability']
        self._last_stamp: Any = None
        self._reliability = ReliabilityPolicy.BEST_EFFORT
        self._reliability = self._choose()
        self._subscribers = [self._subscribe()]

    @property
    def resolved_topic(self) -> str:
        """The topic's full name after remapping."""
        return str(self._node.resolve_topic_name(self.topic))

    @property
    def publishers(self) -> list[Any]:
        """Endpoint info of the topic's publishers."""
        return list(self._node.get_publishers_info_by_topic(self.topic))  # which applies remappings itself

    @property
    def reliability(self) -> str:
        """'reliable' or 'best_effort', as subscribed now."""
        return next(name for name, policy in _RELIABILITIES.items() if policy == self._reliability)

    def refresh(self) -> None:
        """Subscribe anew when the publishers ask for another reliability."""
        wanted = self._choose()
        if wanted != self._reliability:
            self._reliability = wanted
            self._close(self._subscribers[1:])  # of an earlier change that no message has come through
            self._subscribers.append(self._subscribe())

    def close(self) -> None:
        """End every subscription."""
        self._close(self._subscribers[:])

    def _subscribe(self) -> Any:
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=self._depth, reliability=self._reliability)
        # Three positional arguments and one by keyword: the call that every release of message_filters takes.
        subscriber = Subscriber(self._node, self._type, self.topic, qos_profile=qos)
        subscriber.registerCallback(self._on_message, subscriber)
        return subscriber

    def _on_message(self, message: Any, subscriber: Any) -> None:
        if len(self._subscribers) > 1 and subscriber is self._subscribers[-1]:
            self._close(self._subscribers[:-1])
            if message.header.stamp == self._last_stamp:
                return  # the old subscription has brought it already
        self._last_stamp = message.header.stamp
        self.signalMessage(message)

    def _close(self, subscribers: list[Any]) -> None:
        for subscriber in subscribers:
            self._node.destroy_subscription(subscriber.sub)
            self._subscribers.remove(subscriber)

    def mismatch(self) -> str:
        """Why publishers that exist cannot be heard; empty when they can."""
        publishers = self.publishers
        expected = f'{self._type.__module__.split(".")[0]}/msg/{self._type.__name__}'
        for publisher in publishers:
            if publisher.topic_type != expected:
                fix = f'check topics.{self.source} and image_transport'
                return f'the publisher sends {publisher.topic_type}, not {expected}: {fix}'
            offered = publisher.qos_profile.reliability
            if self._reliability == ReliabilityPolicy.RELIABLE and offered == ReliabilityPolicy.BEST_EFFORT:
                return 'QoS incompatible: publisher best_effort, we reliable; set reliability to auto or best_effort'
        return ''

    def _choose(self) -> ReliabilityPolicy:
        if self._wanted != 'auto':
            return _RELIABILITIES[self._wanted]
        offered = [publisher.qos_profile.reliability for publisher in self.publishers]
        if not offered:
            return self._reliability
        reliable = all(policy == ReliabilityPolicy.RELIABLE for policy in offered)
        return ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT


def _message_type(source: str, topic: str) -> Any:
    if source == JOINTS:
        return JointState
    return CompressedImage if is_compressed(topic) else Image
