"""Entry point of the node. Imports nothing heavy before signals are handled: torch takes seconds to import."""

from __future__ import annotations

import sys

from fused_encoder_ros import _program  # noqa: F401  # before NumPy
from fused_encoder_ros.ros.stopping import ignore_signals, on_first_signal

_DESCRIPTION = (
    'The node: it takes camera images and joint states, combines those of one moment into a set, and publishes one fused '
    'feature for each set. It starts working at once and runs until you press Ctrl-C.'
)
_EXAMPLES = """
Start it with the launch file, which also sets up DDS for large images:
  ros2 launch fused_encoder_ros fused_encoder.launch.py params_file:=robot.yaml checkpoint:=encoder.pth
or alone:
  ros2 run fused_encoder_ros fused_encoder --ros-args --params-file robot.yaml -p checkpoint:=encoder.pth
"""
_MAIN_PARAMETERS = (
    'checkpoint',
    'cameras',
    'topics.left_wrist',
    'topics.right_wrist',
    'topics.global',
    'topics.joint_states',
    'image_transport',
    'joint_names',
    'tolerance_ms',
    'engine',
    'device',
    'autostart',
)
_MORE = 'These are the main ones. config/fused_encoder.yaml in the package has them all.'


def _interrupt() -> None:
    raise KeyboardInterrupt


def main() -> int:
    """Run the node until SIGINT or SIGTERM; returns the exit code."""
    on_first_signal(_interrupt)
    try:
        _check_arguments()
        from fused_encoder_ros.ros.node import run

        return run(sys.argv)
    except KeyboardInterrupt:
        return 0
    except ImportError as error:
        print(f'fused_encoder cannot start: {error}', file=sys.stderr)
        print('Run it in the environment that has rclpy and torch; see "On the robot" in README.md', file=sys.stderr)
        return 1
    finally:
        ignore_signals()


def _check_arguments() -> None:
    from fused_encoder_ros.ros.arguments import check_arguments
    from fused_encoder_ros.settings import parameters

    table = {parameter.name: parameter for parameter in parameters()}
    main_ones = [table[name] for name in _MAIN_PARAMETERS]
    check_arguments(sys.argv, 'fused_encoder', _DESCRIPTION, _EXAMPLES, main_ones, _MORE)


if __name__ == '__main__':
    sys.exit(main())
