"""Ending on SIGINT and SIGTERM, once and cleanly."""

from __future__ import annotations

import signal
import threading

import rclpy
from rclpy.signals import SignalHandlerOptions


def init_with_stop(arguments: list[str]) -> threading.Event:
    """Initialise rclpy; returns the event that SIGINT and SIGTERM set.

    rclpy's own handlers would end the context at once, and with it the publishers that are still in use.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    return stop
