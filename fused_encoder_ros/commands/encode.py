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
        description='Encode ROS 1 and ROS 2 bags with the same pipeline as the node. Writes DIR/<bag>.parquet for each, and '
        'DIR/manifest.jsonl, from which a second run knows what is done.',
        epilog='Exit code: 0 done, 2 bad usage or a bag that failed, 1 otherwise.',
    )
    encode.add_argument('--checkpoint', metavar='FILE', help='encoder state dict; without one, weights are random')
    encode.add_argument('--device', help='auto, cpu, cuda or cuda:N')
    add_parameters(encode)
    add_run_options(encode)
    encode.add_argument(
        '--batch-size',
        type=int,
        default=1,
        metavar='N',
        help='sets encoded at once; 1 (default) equals the node bit for bit, more is faster and differs in the last bits',
    )
    encode.add_argument(
        '--bag-out', action='store_true', help="also write DIR/<bag>_features, a bag with the node's output topics"
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
