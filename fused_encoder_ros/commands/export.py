"""`fused-encoder export`."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING, Any

from fused_encoder_ros.commands.common import add_parameters, parameter_values
from fused_encoder_ros.commands.run import add_run_options, counted, lost, run
from fused_encoder_ros.errors import ConfigError

if TYPE_CHECKING:
    from fused_encoder_ros.fleet.manifest import Record

_FORMATS = {
    'hdf5': 'DIR/<bag>.hdf5 with observations/left_image, observations/joint, actions, rewards, terminals',
    'hdf5-aloha': 'DIR/<bag>.hdf5 with observations/images/<camera>, observations/qpos, action, as in ALOHA and ACT',
    'lerobot': 'DIR/dataset, one LeRobotDataset v3.0 of all bags',
    'parquet': 'DIR/<bag>.parquet, one row for each step',
    'mcap': 'DIR/<bag>_episode, a bag with the images, joints and actions of each step',
}

_HOLD_S, _LATER = 0.5, 1

_UNUSED = {
    'rate': 'between the steps of --rate',
    'no_action': 'no action for its stamp',
    'encoder_fault': 'its feature contains NaN or infinity',
    'alone': 'between two gaps, which would be an episode of one step',
}


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    export = commands.add_parser(
        'export',
        help='make data sets for training from recorded bags',
        description='Turn each bag into an episode for training: the observations that the node would make, and the actions. '
        'DIR/manifest.jsonl records what is done: a second run exports only new and changed bags.',
        epilog='Exit code: 0 done, 2 bad usage or a bag that failed, 1 any other error.',
    )
    add_run_options(export)
    export.add_argument(
        '--to',
        choices=list(_FORMATS),
        required=True,
        help='; '.join(f'{name}: {what}' for name, what in _FORMATS.items()),
    )
    export.add_argument(
        '--resolution',
        choices=['encoder', 'full'],
        default='encoder',
        help='encoder: images resized for the encoder (default); full: images of the same sets as recorded',
    )
    export.add_argument('--features', action='store_true', help='also store the encoded feature of each step')
    export.add_argument(
        '--checkpoint',
        metavar='FILE',
        help='with --features: state dict or packed checkpoint of the encoder; without one, the weights are random',
    )
    export.add_argument('--device', help='with --features: device for the encoder: auto, cpu, cuda or cuda:N')
    export.add_argument(
        '--action-topic',
        default='',
        metavar='TOPIC',
        help='topic of the commands (JointTrajectory, JointState or Float64MultiArray): the action of a step is the last '
        'command at or before its stamp',
    )
    export.add_argument(
        '--action-names',
        nargs='+',
        metavar='JOINT',
        help='with --action-topic: joints of an action, in order (default: those of the first command)',
    )
    export.add_argument(
        '--action-hold',
        type=float,
        metavar='S',
        help=f'with --action-topic: seconds after which a command is too old to be an action (default: {_HOLD_S})',
    )
    export.add_argument(
        '--action-later',
        type=int,
        metavar='K',
        help=f'without --action-topic, the action is the joint positions K sets later (default: {_LATER})',
    )
    export.add_argument(
        '--rate',
        type=float,
        metavar='HZ',
        help='steps per second; the sets in between are left out (default: every set is a step)',
    )
    export.add_argument('--task', default='', metavar='TEXT', help='what the robot does, in words; stored in the metadata')
    add_parameters(export)
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from fused_encoder_ros.fleet.jobs import DATASET, ExportJob
    from fused_encoder_ros.offline.export_episode import EpisodeOptions
    from fused_encoder_ros.settings import Settings

    _check(options)
    if options.to == 'lerobot':
        _check_for_lerobot(options)
    episode = EpisodeOptions(
        to=options.to,
        resolution=options.resolution,
        features=options.features,
        action_topic=options.action_topic,
        action_names=tuple(options.action_names or ()),
        action_hold_s=_HOLD_S if options.action_hold is None else options.action_hold,
        action_later=_LATER if options.action_later is None else options.action_later,
        rate_hz=options.rate,
        task=options.task,
    )
    settings = Settings.from_values(parameter_values(options))
    job = ExportJob(settings, options.out, episode)
    code = run(options, job, format_summary)
    if options.to == 'lerobot' and not options.json:
        print(f'data set: {options.out}/{DATASET}')
    return code


def _check(options: argparse.Namespace) -> None:
    for name, least, most in (('rate', 0.0, 10_000.0), ('action_hold', 0.0, 86_400.0), ('action_later', -1, math.inf)):
        option, value = f'--{name.replace("_", "-")}', getattr(options, name)
        if value is not None and not value > least:
            raise ConfigError(f'{option}: {value:g} is too small; use more than {least:g}')
        if value is not None and value > most:
            raise ConfigError(f'{option}: {value:g} is too large; use at most {most:g}')
    if options.action_topic and options.action_later is not None:
        raise ConfigError('--action-later has no effect with --action-topic; leave out one of them')
    for option, value in (('--action-names', options.action_names), ('--action-hold', options.action_hold)):
        if value is not None and not options.action_topic:
            raise ConfigError(f'{option} has no effect without --action-topic; name the topic of the commands too')


def _check_for_lerobot(options: argparse.Namespace) -> None:
    from fused_encoder_ros.fleet.storage import is_remote

    if options.rate is not None and not options.rate.is_integer():
        raise ConfigError(f'--rate: {options.rate:g} is not a whole number, which LeRobot needs; round it')
    if is_remote(options.out):
        raise ConfigError(
            f'--out: {options.out} is an object store, where lerobot cannot write; export to a folder on this machine, then '
            'copy the folder dataset from there'
        )


def format_summary(record: Record) -> str:
    """What became of one bag, as text."""
    summary = record.summary
    rate = f'{summary["rate_hz"]:.1f} per second' if summary['rate_hz'] else 'no rate'
    lines = [
        record.bag.uri,
        f'  anchors  {summary["anchors"]}',
        f'  sets     {summary["sets"]}',
        f'  steps    {summary["steps"]}  ({rate}, exported in {summary["elapsed_s"]:.1f} s)',
        f'  unused   {sum(summary["unused"].values())}',
        *counted(summary['unused'], _UNUSED),
        *lost(summary),
        f'  wrote    {summary["output"]}',
    ]
    return '\n'.join(lines)
