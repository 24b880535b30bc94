"""Subscriptions: one for each topic, of the reliability that its publishers allow."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from rclpy.exceptions import ParameterException
from rclpy.node import Node
from rclpy.qos import (
    HistoryPolicy,
    QoSCompatibility,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import QoSOverridingOptions, _declare_qos_parameters
from rclpy.subscription import Subscription
from rclpy.utilities import get_rmw_implementation_identifier
from sensor_msgs.msg import CompressedImage, Image, JointState

from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.pipeline.data import JOINTS, stamp_to_ns
from fused_encoder_ros.ros.distributions import on_message_lost, on_publication_number
from fused_encoder_ros.ros.filters import SimpleFilter, Subscriber
from fused_encoder_ros.ros.monitor import InputMonitor
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.settings.topics import COMPRESSED_IMAGE, IMAGE, JOINT_STATE, expected_kind

_PROFILES = 'config/fastdds_large_images.xml or config/cyclonedds_large_images.xml'
_ZENOH_REMEDY = (
    'the publisher dropped messages that the connection did not take in time; enable the shared memory of Zenoh for the '
    "router, the publisher and this node (ZENOH_CONFIG_OVERRIDE='transport/shared_memory/enabled=true')"
)

_NODE_UNKNOWN = '_NODE_NAME_UNKNOWN_'
"""The middleware's name for the node of a publisher that has not told its own: rmw_dds_common, `graph_cache.cpp`."""

_TYPES = {IMAGE: Image, COMPRESSED_IMAGE: CompressedImage, JOINT_STATE: JointState}

_RELIABILITIES = {'reliable': ReliabilityPolicy.RELIABLE, 'best_effort': ReliabilityPolicy.BEST_EFFORT}


def why_lost(rmw: str, source: str, subscribed: ReliabilityPolicy, offered: ReliabilityPolicy) -> str:
    """The cause and the fix, for a subscription and publishers of these reliabilities.

    A middleware reports what never came to the queue of this node, so the depth of that queue is no cause.
    """
    if rmw.startswith('rmw_zenoh'):
        return _ZENOH_REMEDY
    if subscribed == ReliabilityPolicy.RELIABLE:
        cause = "newer messages replaced them in the publisher's queue; increase the QoS depth of the publisher"
        return cause if source == JOINTS else f'{cause}, and start it with {_PROFILES}'
    if offered == ReliabilityPolicy.RELIABLE:
        return 'the publisher is reliable, but this node subscribes best effort; set reliability to auto'
    cause = 'the publisher is best effort; make it reliable'
    return cause if source == JOINTS else f'{cause}, or start it and this node with {_PROFILES}'


class Input(SimpleFilter):
    """The messages of one topic of a source, whatever subscription they come through.

    With reliability `auto` it subscribes best effort, which matches any publisher, and changes to reliable as soon as
    every publisher is: images of 0.9 MB are lost in numbers over best effort and default DDS buffers. A best-effort
    publisher that appears later changes it back. The old subscription serves until the new one has its first message.
    What `qos_overrides` says of the topic comes first.

    Attributes:
        source, topic: whose messages these are.
        label: what a person knows the input by: the source, with the topic where the source has several.
        monitor: its health.
    """

    def __init__(self, node: Node, source: str, topic: str, settings: Settings, log: Callable[[str, str], None]) -> None:
        super().__init__()
        self._node = node
        self.source = source
        self.topic = topic
        self.label = source if len(settings.topics[source]) == 1 else f'{source} ({topic})'
        self.monitor = InputMonitor(source, self.label, log)
        self._kind = expected_kind(source, topic)
        self._depth = settings.values['joint_depth' if source == JOINTS else 'image_depth']
        self._overrides = self._stated_overrides()
        wanted = settings.values['reliability']
        self._wanted = None if wanted == 'auto' else _RELIABILITIES[wanted]
        if QoSPolicyKind.RELIABILITY in self._overrides.policy_kinds:
            self._wanted = self._profile(ReliabilityPolicy.BEST_EFFORT).reliability
        self._recent_stamps: deque[int] = deque(maxlen=self._depth)
        self._has_changed = False
        self._known_publishers: set[bytes] = set()
        self._reliability = ReliabilityPolicy.BEST_EFFORT
        self._reliability = self._choose(self.publishers)
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
        return str(self._reliability.name.lower())

    def refresh(self) -> None:
        """Look at the publishers: subscribe anew when they ask for another reliability, and tell when a camera has two."""
        publishers = self.publishers
        known = {bytes(publisher.endpoint_gid) for publisher in publishers}
        if known - self._known_publishers:
            self.monitor.losses.joined()
        self._known_publishers = known
        wanted = self._choose(publishers)
        if wanted != self._reliability:
            self._reliability = wanted
            self._close(self._subscribers[1:])  # of an earlier change that no message has come through
            self._subscribers.append(self._subscribe())
            self.monitor.losses.joined()
        if self.source != JOINTS:
            self.monitor.published_by(len(publishers), self.resolved_topic)

    def tell_missed(self, stalled_s: float) -> None:
        """Say that messages did not come, and why; `stalled_s` says for how long this process stood still lately."""
        stall = (
            f'this process did not run for {stalled_s:.1f} s: the machine is overloaded, or was suspended' if stalled_s else ''
        )
        self.monitor.tell_missed(
            lambda: stall or self._why_lost(), lambda: stall or self._why_overwritten(), time.monotonic_ns()
        )

    def _why_lost(self) -> str:
        offered = self._offered(self.publishers)
        return why_lost(get_rmw_implementation_identifier(), self.source, self._reliability, offered)

    def _why_overwritten(self) -> str:
        if QoSPolicyKind.DEPTH in self._overrides.policy_kinds:
            depth = f'qos_overrides.{self.resolved_topic}.subscription.depth'
        else:
            depth = 'joint_depth' if self.source == JOINTS else 'image_depth'
        cause = 'they came in a burst, or the machine is overloaded'
        return f'{cause}; increase {depth} (now {self._subscribers[-1].sub.qos_profile.depth}), or reduce the load'

    def _on_number(self, number: int) -> None:
        if len(self._known_publishers) == 1:  # each of several has a numbering of its own
            self.monitor.losses.numbered(number)

    def close(self) -> None:
        """End every subscription."""
        self._close(self._subscribers[:])

    def _stated_overrides(self) -> QoSOverridingOptions:
        prefix = f'qos_overrides.{self.resolved_topic}.subscription.'
        stated = [name.removeprefix(prefix) for name in self._node._parameter_overrides if name.startswith(prefix)]
        kinds = {kind.name.lower(): kind for kind in QoSPolicyKind}
        for name in stated:
            if name not in kinds:
                raise ConfigError(f'{prefix}{name}: there is no such policy; use one of {", ".join(kinds)}')
        return QoSOverridingOptions([kinds[name] for name in stated])

    def _profile(self, reliability: ReliabilityPolicy) -> QoSProfile:
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=self._depth, reliability=reliability)
        try:
            # Here, since not every release of message_filters lets the options through to rclpy.
            _declare_qos_parameters(Subscription, self._node, self.resolved_topic, qos, self._overrides)
        except (RuntimeError, ParameterException, TypeError) as error:
            raise ConfigError(f'qos_overrides.{self.resolved_topic}: {error}') from error
        return qos

    def _subscribe(self) -> Any:
        # Three positional arguments and one by keyword: the call that every release of message_filters takes.
        subscriber = Subscriber(self._node, _TYPES[self._kind], self.topic, qos_profile=self._profile(self._reliability))
        subscriber.registerCallback(self._on_message, subscriber)
        on_message_lost(self._node, subscriber.sub, self.monitor.losses.lost_some)
        on_publication_number(subscriber.sub, self._on_number)
        return subscriber

    def _on_message(self, message: Any, subscriber: Any) -> None:
        if len(self._subscribers) > 1 and subscriber is self._subscribers[-1]:
            self._close(self._subscribers[:-1])
            self._has_changed = True
        stamp = stamp_to_ns(message.header.stamp)
        if self._has_changed:
            if stamp in self._recent_stamps:
                return  # the old subscription has brought it already
            self._has_changed = False
        self._recent_stamps.append(stamp)
        self.signalMessage(message)

    def _close(self, subscribers: list[Any]) -> None:
        for subscriber in subscribers:
            self._node.destroy_subscription(subscriber.sub)
            self._subscribers.remove(subscriber)

    def mismatch(self) -> str:
        """Why publishers that exist cannot be heard; empty when they can."""
        for publisher in self.publishers:
            if publisher.topic_type != self._kind:
                fix = f'check topics.{self.source} and image_transport'
                return f'the publisher sends {publisher.topic_type}, not {self._kind}: {fix}'
            # The middleware decides: Zenoh has no incompatible QoS.
            match, reason = qos_check_compatible(publisher.qos_profile, self._subscribers[-1].sub.qos_profile)
            if match == QoSCompatibility.ERROR:
                offered = publisher.qos_profile.reliability
                if self._reliability == ReliabilityPolicy.RELIABLE and offered == ReliabilityPolicy.BEST_EFFORT:
                    return (
                        'QoS incompatible: the publisher is best effort, but this node subscribes reliable; '
                        'set reliability to auto or best_effort'
                    )
                said = reason.replace('ERROR: ', '').strip(' ;')
                return f'QoS incompatible: {said}; change qos_overrides.{self.resolved_topic}.subscription'
        return ''

    @property
    def is_unreached(self) -> bool:
        """Whether nothing arrives from its publishers, though discovery finds them: not even the names of their nodes."""
        publishers = self.publishers
        return bool(publishers) and all(publisher.node_name == _NODE_UNKNOWN for publisher in publishers)

    def _choose(self, publishers: list[Any]) -> ReliabilityPolicy:
        return self._offered(publishers) if self._wanted is None else self._wanted

    def _offered(self, publishers: list[Any]) -> ReliabilityPolicy:
        """What hears every publisher; without any, the present reliability."""
        return _allowed_by(publishers) if publishers else self._reliability


def _allowed_by(publishers: list[Any]) -> ReliabilityPolicy:
    """What hears every publisher: reliable only where all of them are."""
    reliable = all(publisher.qos_profile.reliability == ReliabilityPolicy.RELIABLE for publisher in publishers)
    return ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
