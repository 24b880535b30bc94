"""`fused-encoder doctor`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fused_encoder_ros.commands.common import (
    EXIT_FAILED,
    EXIT_OK,
    EXIT_WARNED,
    add_parameters,
    parameter_values,
    progress_bar,
)
from fused_encoder_ros.errors import ConfigError

if TYPE_CHECKING:
    from fused_encoder_ros.diagnosis.diagnosis import Diagnosis
    from fused_encoder_ros.diagnosis.facts.facts import Facts
    from fused_encoder_ros.diagnosis.machine.transport import Transport
    from fused_encoder_ros.diagnosis.rules.findings import Finding
    from fused_encoder_ros.settings import Settings

_MOST_SECONDS = 600.0

_EPILOG = """\
Exit code: 0 pass, 3 warning, 1 fail, 2 bad usage or a bag that cannot be read. A NOTE does not change it.

--json prints one object:
  verdict      pass, warn or fail
  sentence     the verdict in words
  findings     the worst first, each with severity (fail, warn, note), title, evidence, fix,
               parameters (values that fix it) and commands
  environment  python, and the version of each library that works
  encoder      description of the encoder that was loaded; empty if none was
  transport    rmw, variable, profile, segment_bytes, problem, free_bytes; null without --live
  facts        about the bag or robot, as in sync-report --json; null without one
"""


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    doctor = commands.add_parser(
        'doctor',
        help='find what is wrong with a robot, a bag, the parameters or this machine, and how to fix it',
        description='Check this Python and its libraries, the parameters and the checkpoint. With a bag, or with --live a '
        'running robot, also check its messages with the pipeline of the node.',
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subject = doctor.add_mutually_exclusive_group()
    subject.add_argument('bag', nargs='?', type=Path, metavar='BAG', help='.bag file, rosbag2 folder, .mcap or .db3 file')
    subject.add_argument('--live', action='store_true', help='check the running robot; needs rclpy')
    doctor.add_argument(
        '--seconds', type=float, default=5.0, metavar='S', help='with --live: how many seconds to listen (default: 5)'
    )
    doctor.add_argument('--checkpoint', metavar='FILE', help='state dict or packed checkpoint of the encoder')
    doctor.add_argument('--device', help='device for the encoder: auto, cpu, cuda or cuda:N')
    add_parameters(doctor)
    doctor.add_argument(
        '--write', type=Path, metavar='YAML', help='write a parameter file for the node with the suggested changes'
    )
    doctor.add_argument('--json', action='store_true', help='print JSON instead of text')
    doctor.add_argument('--force', action='store_true', help='replace an existing parameter file')
    doctor.set_defaults(run=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from fused_encoder_ros.diagnosis.rules.findings import Severity
    from fused_encoder_ros.diagnosis.text import as_text

    _check(options)
    with ExitStack() as stack:
        written = _open_parameter_file(options, stack)
        diagnosis = _examine(options)
        print(json.dumps(diagnosis.to_dict(), indent=2) if options.json else as_text(diagnosis))
        if written is not None:
            written.write_text(_parameter_file(options, diagnosis), encoding='utf-8')
    if options.write and not options.json:
        print(f'wrote {options.write}')
    return {Severity.FAIL: EXIT_FAILED, Severity.WARN: EXIT_WARNED}.get(diagnosis.verdict.severity, EXIT_OK)


def _check(options: argparse.Namespace) -> None:
    if not 1 <= options.seconds <= _MOST_SECONDS:
        raise ConfigError(f'--seconds: {options.seconds:g} is out of range; use 1 to {_MOST_SECONDS:g}')
    if options.write and not (options.bag or options.live):
        raise ConfigError('--write: there are no messages to choose parameters by; give a bag, or --live')


def _open_parameter_file(options: argparse.Namespace, stack: ExitStack) -> Path | None:
    """Before the work, so that a file that may not be replaced is told at once."""
    from fused_encoder_ros.offline.files import completed

    if not options.write:
        return None
    return stack.enter_context(completed({'parameters': options.write}, options.force))['parameters']


def _examine(options: argparse.Namespace) -> Diagnosis:
    from fused_encoder_ros.diagnosis.diagnosis import conclude
    from fused_encoder_ros.diagnosis.machine.libraries import examine_environment
    from fused_encoder_ros.diagnosis.machine.parameters import examine_parameters

    values = parameter_values(options)
    needed = ['rclpy'] if options.live else ['rosbags'] if options.bag else []
    environment = examine_environment(needed)
    parameters = examine_parameters(values, 'torch' not in environment.broken, options.config)
    if parameters.settings is None or environment.broken & {'numpy', 'cv2', *needed}:
        return conclude(environment, parameters)
    if options.live:
        return conclude(environment, parameters, *_live(parameters.settings, options.seconds))
    facts = _of_bag(options.bag)(parameters.settings) if options.bag else None
    return conclude(environment, parameters, facts)


def _of_bag(path: Path) -> Callable[[Settings], Facts]:
    from fused_encoder_ros.diagnosis.facts.facts import gather
    from fused_encoder_ros.offline.bag import Bag

    def facts(settings: Settings) -> Facts:
        with Bag(path, settings.topics, require_all=False) as bag, progress_bar(path) as progress:
            return gather(bag, settings, progress)

    return facts


def _live(settings: Settings, seconds: float) -> tuple[Facts, Transport, list[Finding]]:
    from fused_encoder_ros.diagnosis.facts.facts import gather
    from fused_encoder_ros.diagnosis.machine.transport import judge_transport, read_transport
    from fused_encoder_ros.ros.listening import LiveRobot

    with LiveRobot(settings, seconds) as robot:
        facts = gather(robot, settings)
        transport = read_transport(robot.rmw)
        return (
            facts,
            transport,
            list(judge_transport(transport, len(settings.spec.cameras), robot.largest_image, facts.loses_frames)),
        )


def _parameter_file(options: argparse.Namespace, diagnosis: Diagnosis) -> str:
    from fused_encoder_ros.diagnosis.parameter_file import mend, write_parameters

    if diagnosis.facts is None:
        raise ConfigError('--write: the messages could not be checked; fix the findings above first')
    examine = (lambda settings: _live(settings, options.seconds)[0]) if options.live else _of_bag(options.bag)
    mended = mend(diagnosis.parameters.values, diagnosis.facts, examine)
    return write_parameters(mended, 'the running robot' if options.live else str(options.bag))
