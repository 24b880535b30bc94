"""Ending on SIGINT and SIGTERM, once and cleanly."""

from __future__ import annotations

import ctypes
import signal
import time
from collections.abc import Callable
from types import FrameType

from fused_encoder_ros.errors import ConfigError

STOP_LATENCY_S = 0.2
"""A program that sleeps or waits for messages notices within this time that it shall end."""


class Stop:
    """Whether the program shall end; what signals set.

    Not a `threading.Event`: a handler runs within whatever it interrupts, and would wait for ever for the event's lock when
    that is `Event.wait`. Here is nothing to wait for.
    """

    def __init__(self) -> None:
        self._asked = False

    def set(self) -> None:
        """Ask the program to end. To be called from anywhere, a signal handler among it."""
        self._asked = True

    def is_set(self) -> bool:
        """Whether somebody has asked."""
        return self._asked

    def wait(self, timeout_s: float) -> bool:
        """Sleep until somebody asks, at most so many seconds; returns whether somebody has asked."""
        end = time.monotonic() + timeout_s
        while not self._asked and (left_s := end - time.monotonic()) > 0:
            time.sleep(min(left_s, STOP_LATENCY_S))
        return self._asked


def on_first_signal(action: Callable[[], None]) -> None:
    """Call this on SIGINT or SIGTERM, once: a terminal and `ros2 launch` may both send one."""
    is_first = True

    def handle(_number: int, _frame: FrameType | None) -> None:
        # Handlers stay what they are: Python complains when one is taken away while its signal comes.
        nonlocal is_first
        if is_first:
            is_first = False
            action()

    _set_handler(handle)


def ignore_signals() -> None:
    """From here on the program ends by itself: a late signal would kill it while the interpreter ends."""
    libc = ctypes.CDLL(None)
    for number in (signal.SIGINT, signal.SIGTERM):
        # Python complains when it takes a handler away while a signal comes, so the system stops sending them first.
        libc.signal(number, ctypes.c_void_p(signal.SIG_IGN))
    _set_handler(signal.SIG_IGN)


def init_with_stop(arguments: list[str]) -> Stop:
    """Initialise rclpy; returns what the first SIGINT or SIGTERM sets.

    rclpy's own handlers would end the context at once, and with it the publishers that are still in use.

    Raises:
        ConfigError: naming a ROS argument that there is not.
    """
    import rclpy  # not above: the node handles signals before it imports anything heavy
    from rclpy.impl.implementation_singleton import rclpy_implementation
    from rclpy.signals import SignalHandlerOptions

    stop = Stop()
    on_first_signal(stop.set)
    try:
        rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    except rclpy_implementation.UnknownROSArgsError as error:
        raise ConfigError(f'unknown arguments after --ros-args: {error}; set a parameter with -p NAME:=VALUE') from None
    return stop


def _set_handler(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)
