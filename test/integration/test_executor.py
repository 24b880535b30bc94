"""What the node's executor does differently from rclpy's."""

from __future__ import annotations

import time

import rclpy
from rclpy.publisher import PublisherEventCallbacks
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import String
from std_srvs.srv import Trigger

from fused_encoder_ros.ros.executor import MessagesFirstExecutor


def test_services_and_events_are_seen_while_there_is_always_something_else_to_do() -> None:
    context = rclpy.Context()
    rclpy.init(context=context)
    node = rclpy.create_node('busy', context=context)
    executor = MessagesFirstExecutor(context=context)
    executor.add_node(node)
    told: list[object] = []
    node.create_timer(1e-4, lambda: None)
    node.create_publisher(String, 'words', 10, event_callbacks=PublisherEventCallbacks(incompatible_qos=told.append))
    node.create_subscription(
        String, 'words', lambda _: None, QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    )
    node.create_service(Trigger, 'serve', lambda request, response: response)
    client = node.create_client(Trigger, 'serve')
    answer = client.call_async(Trigger.Request())
    deadline = time.monotonic() + 10
    while not (told and answer.done()) and time.monotonic() < deadline:
        executor.spin_once()
    assert len(told) == 1 and answer.done()
    executor.shutdown()
    node.destroy_node()
    rclpy.shutdown(context=context)
