"""Entry point of the node. Imports nothing heavy before signals are handled: torch takes seconds to import."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from types import FrameType


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    # A terminal and `ros2 launch` may both send one; the second would interrupt the ending.
    _on_stop(signal.SIG_IGN)
    raise KeyboardInterrupt


def _on_stop(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handler)


def main() -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code."""
    _on_stop(_interrupt)
    try:
        from fused_encoder_ros.ros.node import run

        return run(sys.argv)
    except KeyboardInterrupt:
        return 0
    except ImportError as error:
        print(f'fused_encoder cannot start: {error}', file=sys.stderr)
        print(
            'Run it in the environment that has torch, torchvision and rclpy; see "On the robot" in README.md', file=sys.stderr
        )
        return 1


if __name__ == '__main__':
    sys.exit(main())
