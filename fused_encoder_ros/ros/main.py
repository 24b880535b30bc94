"""Entry point of the node. Imports nothing heavy before signals are handled: torch takes seconds to import."""

from __future__ import annotations

import sys

from fused_encoder_ros.ros.stopping import ignore_signals, on_first_signal


def _interrupt() -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code."""
    on_first_signal(_interrupt)
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
    finally:
        ignore_signals()


if __name__ == '__main__':
    sys.exit(main())
