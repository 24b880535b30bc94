"""`fused-encoder export`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fused_encoder_ros.commands.common import add_parameters, parameter_values
from fused_encoder_ros.commands.run import add_run_options, counted, lost, run
from fused_encoder_ros.errors import ConfigError

if TYPE_CHECKING:
    from fused_encoder_ros.fleet.manifest import Record

_FORMATS = {'hdf5': 'lapo', 'hdf5-aloha': 'aloha'}


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    export = commands.add_parser(
        'export',
        help='make data sets for training from recorded bags',
        description='Make an episode for training of each bag: the very observations that the node would make, with actions. '
        'Writes DIR/<bag>.hdf5 for each, and DIR/manifest.jsonl, from which a second run knows what is done.',
        epilog='Exit code: 0 done, 2 bad usage or a bag that failed, 1 otherwise.',
    )
    add_run_options(export)
    export.add_argument(
        '--to',
        choices=list(_FORMATS),
        required=True,
        help='hdf5: observations/left_image, observations/joint, actions, rewards, terminals; '
        'hdf5-aloha: observations/images/<camera>, observations/qpos, action, as ALOHA and ACT have it',
    )
    export.add_argument(
        '--action-topic',
        default='',
        metavar='TOPIC',
        help='commands: JointTrajectory, JointState or Float64MultiArray; each set gets the command in force at its stamp',
    )
    export.add_argument(
        '--action-names',
        nargs='+',
        default=[],
        metavar='JOINT',
        help='joints of an action; default: those of the first command',
    )
    export.add_argument(
        '--action-hold', type=float, default=0.5, metavar='S', help='seconds for which a command counts (default: 0.5)'
    )
    export.add_argument(
        '--action-later',
        type=int,
        default=1,
        metavar='K',
        help='without a topic the action is the joint positions K sets later (default: 1)',
    )
    export.add_argument('--rate', type=float, metavar='HZ', help='steps a second: sets between are left out, and counted')
    export.add_argument('--task', default='', metavar='TEXT', help='what the robot does, in words; goes into the metadata')
    add_parameters(export)
    export.set_defaults(run=_export)


def _export(options: argparse.Namespace) -> int:
    from fused_encoder_ros.fleet.jobs import ExportJob
    from fused_encoder_ros.offline.export_episode import EpisodeOptions
    from fused_encoder_ros.settings import Settings

    for name, least in (('rate', 0.0), ('action_hold', 0.0), ('action_later', -1)):
        if (value := getattr(options, name)) is not None and not value > least:
            raise ConfigError(f'--{name.replace("_", "-")}: {value:g} is too small')
    episode = EpisodeOptions(
        layout=_FORMATS[options.to],
        action_topic=options.action_topic,
        action_names=tuple(options.action_names),
        action_hold_s=options.action_hold,
        action_later=options.action_later,
        rate_hz=options.rate,
        task=options.task,
    )
    settings = Settings.from_values(parameter_values(options))
    return run(options, ExportJob(settings, options.out, episode), format_summary)


def format_summary(record: Record) -> str:
    """What became of one bag, as text."""
    summary = record.summary
    rate = f'{summary["rate_hz"]:.1f} a second' if summary['rate_hz'] else 'no rate'
    lines = [
        record.bag.uri,
        f'  anchors  {summary["anchors"]}',
        f'  sets     {summary["sets"]}',
        f'  steps    {summary["steps"]}  ({rate}, exported in {summary["elapsed_s"]:.1f} s)',
        f'  unused   {sum(summary["unused"].values())}',
        *counted(summary['unused'], {'rate': 'between the steps of --rate', 'no_action': 'no action for its stamp'}),
        *lost(summary),
        f'  wrote    {summary["output"]}',
    ]
    return '\n'.join(lines)
