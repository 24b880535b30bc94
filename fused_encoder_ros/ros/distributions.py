"""What differs in rclpy between the ROS 2 distributions, at one place: Humble, Jazzy, Kilted and Lyrical.

docs/reference/releases.md has what was compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rclpy.node import Node

try:
    from rclpy.event_handler import EventHandler, QoSSubscriptionEventType, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import QoSEventHandler as EventHandler
    from rclpy.qos_event import QoSSubscriptionEventType, UnsupportedEventTypeError


def on_message_lost(node: Node, subscription: Any, callback: Callable[[int], None]) -> None:
    """Have `callback(number)` called when the middleware has lost messages of a subscription, where it can tell.

    Not through `create_subscription`: message_filters stands in between, and which arguments it passes on differs.
    """
    try:
        handler = EventHandler(
            callback_group=subscription.callback_group,
            callback=lambda event: callback(event.total_count_change),
            event_type=QoSSubscriptionEventType.RCL_SUBSCRIPTION_MESSAGE_LOST,
            parent_impl=subscription.handle,
        )
    except UnsupportedEventTypeError:
        return
    subscription.event_handlers.append(handler)  # which `destroy_subscription` ends
    node.add_waitable(handler)


def on_publication_number(subscription: Any, callback: Callable[[int], None]) -> None:
    """Have `callback(number)` called with the number that a message has at its publisher, before the message is handed on.

    Humble and some middlewares do not tell the number. Then `callback` is never called.
    """
    if not hasattr(type(subscription), 'CallbackType'):  # Humble
        return
    hand_on = subscription.callback

    def with_info(message: Any, info: Mapping[str, Any]) -> None:
        number = info.get('publication_sequence_number')
        if number is not None:
            callback(number)
        hand_on(message)

    subscription.callback = with_info
