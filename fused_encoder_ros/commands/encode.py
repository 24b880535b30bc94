"""`fused-encoder encode`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fused_encoder_ros.commands.common import EXIT_BAD_INPUT, EXIT_OK, add_parameters, parameter_values, progress_bar
from fused_encoder_ros.errors import BagError, ConfigError, OutputError

if TYPE_CHECKING:
    from fused_encoder_ros.model import Model
    from fused_encoder_ros.offline.encode import Summary
    from fused_encoder_ros.settings import Settings


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    encode = commands.add_parser(
        'encode',
        help='encode recorded bags into Parquet files',
        description='Encode ROS 1 and ROS 2 bags with the same pipeline as the node. Writes DIR/<bag>.parquet for each.',
        epilog='Exit code: 0 done, 2 bad usage or input, 1 otherwise.',
    )
    encode.add_argument('bags', nargs='+', type=Path, metavar='BAG', help='.bag file, rosbag2 folder, .mcap or .db3 file')
    encode.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder for the results')
    encode.add_argument('--checkpoint', metavar='FILE', help='encoder state dict; without one, weights are random')
    encode.add_argument('--device', help='auto, cpu, cuda or cuda:N')
    add_parameters(encode)
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
    encode.add_argument('--json', action='store_true', help='print the summary as JSON')
    encode.add_argument('--force', action='store_true', help='replace existing results')
    encode.set_defaults(run=_encode)


def _encode(options: argparse.Namespace) -> int:
    from fused_encoder_ros.model import load_model
    from fused_encoder_ros.offline.encode import check_distinct_names
    from fused_encoder_ros.settings import Settings

    if options.batch_size < 1:
        raise ConfigError(f'--batch-size: {options.batch_size} is too small; use at least 1')
    check_distinct_names(options.bags)
    settings = Settings.from_values(parameter_values(options))
    model = load_model(settings.model, settings.spec)
    print(f'encoder: {model.description}', file=sys.stderr)
    for warning in model.warnings:
        print(f'WARNING: {warning}', file=sys.stderr)
    summaries, failed = [], False
    for bag in options.bags:
        try:
            summaries.append(_encode_one(bag, options, settings, model))
            if not summaries[-1].sets:
                print(f'WARNING: {bag} gave no set at all; the drops say why', file=sys.stderr)
        except (BagError, OutputError) as error:
            # The other bags are encoded all the same.
            print(f'fused-encoder: {error}', file=sys.stderr)
            failed = True
    if options.json:
        print(json.dumps([summary.to_dict() for summary in summaries], indent=2))
    elif summaries:
        print('\n\n'.join(format_summary(summary) for summary in summaries))
    return EXIT_BAD_INPUT if failed else EXIT_OK


def _encode_one(bag: Path, options: argparse.Namespace, settings: Settings, model: Model) -> Summary:
    from fused_encoder_ros.offline.encode import encode_bag

    with progress_bar(bag) as progress:
        return encode_bag(
            bag,
            options.out,
            settings,
            model,
            bag_out=options.bag_out,
            batch_size=options.batch_size,
            force=options.force,
            progress=progress,
        )


def format_summary(summary: Summary) -> str:
    """The summary of one bag as text."""
    rate = f'{summary.rate_hz:.1f} sets/s of recording' if summary.rate_hz else 'no rate'
    lines = [
        f'{summary.bag}',
        f'  anchors  {summary.anchors}',
        f'  sets     {summary.sets}  ({rate}, encoded in {summary.elapsed_s:.1f} s)',
        f'  drops    {sum(summary.drops.values())}',
    ]
    lines += [f'    {count:>6}  {reason}: {summary.details.get(reason, "")}' for reason, count in summary.drops.items()]
    if summary.rejects:
        lines.append(f'  messages not used  {sum(summary.rejects.values())}')
        lines += [f'    {count:>6}  {reason}: {summary.details.get(reason, "")}' for reason, count in summary.rejects.items()]
    lines.append(f'  wrote    {summary.output}')
    if summary.bag_output:
        lines.append(f'  wrote    {summary.bag_output}')
    return '\n'.join(lines)
