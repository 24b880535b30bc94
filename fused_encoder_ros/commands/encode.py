"""`fused-encoder encode`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from fused_encoder_ros.commands.common import add_parameters, parameter_values
from fused_encoder_ros.commands.run import add_run_options, lost, run
from fused_encoder_ros.errors import ConfigError

if TYPE_CHECKING:
    from fused_encoder_ros.fleet.manifest import Record


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    encode = commands.add_parser(
        'encode',
        help='encode recorded bags into Parquet files',
        description='Encode ROS 1 and ROS 2 bags with the pipeline of the node. Writes DIR/<bag>.parquet for each bag, and '
        'records in DIR/manifest.jsonl what is done: a second run encodes only new and changed bags.',
        epilog='Exit code: 0 done, 2 bad usage or a bag that failed, 1 any other error.',
    )
    encode.add_argument(
        '--checkpoint',
        metavar='FILE',
        help='state dict or packed checkpoint of the encoder; without one, the weights are random',
    )
    encode.add_argument('--device', help='device for the encoder: auto, cpu, cuda or cuda:N')
    add_parameters(encode)
    add_run_options(encode)
    encode.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='number of sets encoded together (default: 1). With 1 the features equal those of the node bit for bit; more is '
        'faster, but changes the last bits',
    )
    encode.add_argument(
        '--bag-out', action='store_true', help='also write DIR/<bag>_features, a bag with the output topics of the node'
    )
    encode.set_defaults(run=_encode)


def _encode(options: argparse.Namespace) -> int:
    from fused_encoder_ros.fleet.jobs import EncodeJob
    from fused_encoder_ros.settings import Settings

    if options.batch_size < 1:
        raise ConfigError(f'--batch-size: {options.batch_size} is too small; use at least 1')
    settings = Settings.from_values(parameter_values(options))
    return run(options, EncodeJob(settings, options.out, options.bag_out, options.batch_size), format_summary)


def format_summary(record: Record) -> str:
    """What became of one bag, as text."""
    summary = record.summary
    rate = f'{summary["rate_hz"]:.1f} sets/s of recording' if summary['rate_hz'] else 'no rate'
    lines = [
        record.bag.uri,
        f'  anchors  {summary["anchors"]}',
        f'  sets     {summary["sets"]}  ({rate}, encoded in {summary["elapsed_s"]:.1f} s)',
        *lost(summary),
        f'  wrote    {summary["output"]}',
    ]
    if summary['bag_output']:
        lines.append(f'  wrote    {summary["bag_output"]}')
    return '\n'.join(lines)
