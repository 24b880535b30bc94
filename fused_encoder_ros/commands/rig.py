"""`fused-encoder rig`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fused_encoder_ros.commands.common import EXIT_OK, add_cameras
from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.synthetic import SCENES, Rig, lab_of


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    rig = commands.add_parser(
        'rig',
        help='write a bag of a synthetic robot with two arms',
        description='Write a rosbag2 bag of a synthetic robot: cameras that run unsynchronised, and sixteen joints. The same '
        'options always give the same bag.',
    )
    rig.add_argument('bag', type=Path, help='folder to create')
    rig.add_argument('--duration', type=float, default=5.0, metavar='S', help='length in seconds (default: 5)')
    rig.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap', help='file format (default: mcap)')
    rig.add_argument('--joint-rate', type=float, default=100.0, metavar='HZ', help='joint messages per second (default: 100)')
    rig.add_argument(
        '--camera-rate', type=float, default=30.0, metavar='HZ', help='frames per second of each camera (default: 30)'
    )
    add_cameras(rig)
    rig.add_argument('--size', default='640x480', metavar='WxH', help='image size (default: 640x480)')
    rig.add_argument(
        '--seed', type=int, default=0, help='another number gives another motion, and other objects in the lab (default: 0)'
    )
    rig.add_argument(
        '--scene',
        choices=SCENES,
        default=SCENES[0],
        help='plain: a few moving shapes; lab: a workbench seen by wrist cameras that move with the arms (default: plain)',
    )
    rig.add_argument(
        '--stamp-error',
        action='append',
        default=[],
        metavar='SOURCE=MS',
        help='make the stamps of a camera, or of joint_states, this much later than the capture; repeat the option for each',
    )
    rig.add_argument('--force', action='store_true', help='replace an existing bag')
    rig.set_defaults(run=_rig)


def _rig(options: argparse.Namespace) -> int:
    from fused_encoder_ros.offline.rig_bag import write_rig_bag

    if not 0 < options.duration <= 86_400:
        raise ConfigError(f'--duration: {options.duration:g} is out of range; use more than 0 and at most 86400 seconds')
    try:
        width, height = (int(side) for side in options.size.split('x'))
    except ValueError:
        raise ConfigError(f'--size: {options.size!r} is not a size; write WIDTHxHEIGHT, for example 640x480') from None
    rig = Rig(
        seed=options.seed,
        width=width,
        height=height,
        camera_rate_hz=options.camera_rate,
        joint_rate_hz=options.joint_rate,
        cameras=tuple(options.cameras),
        lab=lab_of(options.scene, options.seed),
        stamp_error_ms=dict(map(_stamp_error, options.stamp_error)),
    )
    count = write_rig_bag(options.bag, rig, options.duration, options.storage, options.force)
    print(f'wrote {count} messages to {options.bag}')
    return EXIT_OK


def _stamp_error(assignment: str) -> tuple[str, float]:
    source, _, text = assignment.partition('=')
    try:
        return source, float(text)
    except ValueError:
        raise ConfigError(f'--stamp-error: {assignment!r} is not SOURCE=MS; write for example left_wrist=45') from None
