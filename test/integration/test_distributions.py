"""What differs between the ROS 2 distributions, each way with the rclpy that is here."""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import rclpy
from rclpy import event_handler
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from fused_encoder_ros.ros import distributions, inputs
from fused_encoder_ros.ros.filters import SimpleFilter
from fused_encoder_ros.settings import Settings


@pytest.fixture
def node() -> Iterator[Node]:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('distributions', context=context)
    yield node
    node.destroy_node()
    rclpy.shutdown(context=context)


def distributions_of_humble(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module as Humble loads it: events have another module there, and another class."""
    humble = ModuleType('rclpy.qos_event')
    vars(humble).update(
        QoSEventHandler=event_handler.EventHandler,
        QoSSubscriptionEventType=event_handler.QoSSubscriptionEventType,
        UnsupportedEventTypeError=event_handler.UnsupportedEventTypeError,
    )
    monkeypatch.setitem(sys.modules, 'rclpy.event_handler', None)
    monkeypatch.setitem(sys.modules, 'rclpy.qos_event', humble)
    assert distributions.__spec__ is not None and distributions.__spec__.origin is not None
    spec = importlib.util.spec_from_file_location('distributions_of_humble', distributions.__spec__.origin)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('is_humble', [False, True])
def test_lost_messages_are_told_and_the_handler_goes_with_its_subscription(
    node: Node, monkeypatch: pytest.MonkeyPatch, is_humble: bool
) -> None:
    module = distributions_of_humble(monkeypatch) if is_humble else distributions
    lost: list[int] = []
    before = list(node.waitables)
    subscription = node.create_subscription(Image, 'images', lambda message: None, QoSProfile(depth=1))
    module.on_message_lost(node, subscription, lost.append)
    handler = subscription.event_handlers[-1]
    assert isinstance(handler, module.EventHandler) and handler in node.waitables
    handler.callback(SimpleNamespace(total_count_change=4))  # as rclpy does with the middleware's event
    assert lost == [4]
    assert node.destroy_subscription(subscription) and list(node.waitables) == before


def test_the_number_of_a_message_comes_before_it_where_rclpy_tells_it(node: Node) -> None:
    heard: list[Any] = []
    subscription = node.create_subscription(Image, 'images', heard.append, QoSProfile(depth=1))
    distributions.on_publication_number(subscription, heard.append)
    message = Image()
    subscription.callback(message, {'publication_sequence_number': 7})
    subscription.callback(message, {'publication_sequence_number': None})  # Cyclone DDS
    assert heard == [7, message, message]
    of_humble = SimpleNamespace(callback=heard.append)  # whose executor gives a callback the message alone
    distributions.on_publication_number(of_humble, heard.append)
    of_humble.callback(message)
    assert heard == [7, message, message, message]


def subscriber_until_kilted(node: Any, msg_type: Any, topic: Any, qos_profile: Any = 10, **kwargs: Any) -> Any:
    """As the constructor of message_filters' Subscriber, which hands on whatever it does not know."""
    return subscriber_of_lyrical(node, msg_type, topic, qos_profile, **kwargs)


def subscriber_of_lyrical(
    node: Any,
    msg_type: Any,
    topic: Any,
    qos_profile: Any = 10,
    *,
    callback_group: Any = None,
    event_callbacks: Any = None,
    qos_overriding_options: Any = None,
    raw: bool = False,
    content_filter_options: Any = None,
) -> Any:
    source = SimpleFilter()
    vars(source)['sub'] = node.create_subscription(msg_type, topic, source.signalMessage, qos_profile)
    return source


@pytest.mark.parametrize('subscriber', [subscriber_until_kilted, subscriber_of_lyrical])
def test_an_input_through_the_message_filters_of_each_distribution(
    node: Node, monkeypatch: pytest.MonkeyPatch, subscriber: Any
) -> None:
    monkeypatch.setattr(inputs, 'Subscriber', subscriber)
    heard = inputs.Input(node, 'global', 'global/image', Settings.from_values({}), lambda severity, text: None)
    messages: list[Any] = []
    heard.registerCallback(messages.append)
    publisher = node.create_publisher(Image, 'global/image', QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE))
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    deadline = time.monotonic() + 20
    while not messages and time.monotonic() < deadline:
        publisher.publish(Image(encoding='rgb8'))
        executor.spin_once(timeout_sec=0.1)
    executor.shutdown()
    heard.close()
    assert messages


def test_the_remedy_for_lost_messages_follows_the_middleware() -> None:
    best_effort, reliable = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE
    assert 'fastdds_large_images.xml' in inputs.why_lost('rmw_fastrtps_cpp', 'global', best_effort, best_effort)
    assert 'increase the QoS depth' in inputs.why_lost('rmw_cyclonedds_cpp', 'global', reliable, reliable)
    for reliability in (best_effort, reliable):
        assert 'transport/shared_memory/enabled=true' in inputs.why_lost('rmw_zenoh_cpp', 'global', reliability, reliability)
