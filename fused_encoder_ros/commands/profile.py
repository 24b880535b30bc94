"""`fused-encoder profile`."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from fused_encoder_ros.commands.common import add_parameters, parameter_values
from fused_encoder_ros.commands.run import add_run_options, lost, run

if TYPE_CHECKING:
    from fused_encoder_ros.fleet.manifest import Record


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    profile = commands.add_parser(
        'profile',
        help='describe what the training data show, so that other data can be checked against them',
        description='Read the bags that a policy was trained on, and write DIR/profile.npz: a file of less than 1 MB with a '
        'random sample of what the cameras showed, where the joints were and, with --checkpoint, what the features were. '
        '`fused-encoder pack --profile` puts it into the checkpoint. The node, `doctor` and `encode` then tell when data do '
        'not look like the training data, and why. DIR also gets a profile of each bag, so that a second run reads new bags '
        'only.',
        epilog='Exit code: 0 done, 2 bad usage or a bag that failed, 1 any other error.',
    )
    profile.add_argument('--checkpoint', metavar='FILE', help='the trained encoder; without one, the profile has no features')
    profile.add_argument('--device', help='auto, cpu, cuda or cuda:N')
    add_parameters(profile)
    add_run_options(profile)
    profile.set_defaults(run=_profile)


def _profile(options: argparse.Namespace) -> int:
    from fused_encoder_ros.fleet.profiling import PROFILE, ProfileJob, odd_bags
    from fused_encoder_ros.settings import Settings

    settings = Settings.from_values({**parameter_values(options), 'content_faults': 'off'})
    code = run(options, ProfileJob(settings, options.out), _format)
    for bag, fault in odd_bags(options.out):
        what = f'{fault.title}, unlike in the other bags ({fault.evidence})'
        print(f'WARNING: {bag.uri}: {what}. If this is a fault, make the profile without it, and train again', file=sys.stderr)
    if not options.json:
        print(f'profile of all bags: {options.out.rstrip("/")}/{PROFILE}')
    return code


def _format(record: Record) -> str:
    summary = record.summary
    return '\n'.join([record.bag.uri, f'  sets     {summary["sets"]}', *lost(summary), f'  wrote    {summary["output"]}'])
