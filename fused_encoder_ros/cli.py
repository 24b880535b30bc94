"""The command `fused-encoder`: parse, call, print.

Heavy imports stand in the functions that need them: torch takes seconds, and help should not.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fused_encoder_ros import __version__
from fused_encoder_ros.commands import bench, checkpoints
from fused_encoder_ros.errors import BagError, ConfigError, FusedEncoderError, OutputError
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.spec import CAMERAS
from fused_encoder_ros.synthetic import Rig

if TYPE_CHECKING:
    from fused_encoder_ros.model import Model
    from fused_encoder_ros.offline.encode import Summary
    from fused_encoder_ros.settings import Settings

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT = 0, 1, 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code: 0 done, 2 bad usage or input, 1 otherwise."""
    options = _parser().parse_args(arguments)
    # As an interrupt, so that unfinished output is cleared away: batch systems send it.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return int(options.run(options))
    except FusedEncoderError as error:
        print(f'fused-encoder: {error}', file=sys.stderr)
        return EXIT_BAD_INPUT
    except ModuleNotFoundError as error:
        print(f"fused-encoder: {error}; install what bags need: pip install '.[desk]'", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        print('fused-encoder: interrupted; nothing incomplete was left behind', file=sys.stderr)
        return EXIT_FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='fused-encoder', description='Three cameras and joint states in, one fused feature a set out.'
    )
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    commands = parser.add_subparsers(title='commands', required=True, metavar='COMMAND')
    _add_encode(commands)
    _add_sync_report(commands)
    _add_rig(commands)
    checkpoints.add_commands(commands)
    bench.add_commands(commands)
    return parser


def _add_encode(commands: Any) -> None:
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
    _add_parameters(encode)
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


def _add_sync_report(commands: Any) -> None:
    report = commands.add_parser(
        'sync-report',
        help='say how well a bag synchronises, and what to do about it, on one HTML page',
        description='Push a bag through the pipeline of the node and write one HTML page that needs nothing but itself.',
        epilog='Exit code: 0 pass or warning, 1 fail, 2 bad usage or a bag that cannot be read.',
    )
    report.add_argument('bag', type=Path, metavar='BAG', help='.bag file, rosbag2 folder, .mcap or .db3 file')
    report.add_argument('--out', type=Path, metavar='HTML', help='the page (default: <bag>_sync_report.html)')
    _add_parameters(report)
    report.add_argument('--json', action='store_true', help='print the verdict and every fact as JSON')
    report.add_argument('--force', action='store_true', help='replace an existing page')
    report.set_defaults(run=_sync_report)


def _add_parameters(command: argparse.ArgumentParser) -> None:
    command.add_argument('--config', type=Path, metavar='YAML', help="the node's parameter file")
    command.add_argument(
        '--topic',
        action='append',
        default=[],
        metavar='SOURCE=TOPIC',
        help=f'topic of {", ".join((*CAMERAS, JOINTS))}; repeat',
    )
    command.add_argument(
        '--set', action='append', default=[], metavar='NAME=VALUE', help='any other parameter of the node; repeat'
    )


def _add_rig(commands: Any) -> None:
    rig = commands.add_parser(
        'rig',
        help='write a bag of a synthetic two-armed robot',
        description='Write a rosbag2 of three free-running cameras and sixteen joints. The same options write the same bag.',
    )
    rig.add_argument('bag', type=Path, help='folder to create')
    rig.add_argument('--duration', type=float, default=5.0, metavar='S', help='seconds (default: 5)')
    rig.add_argument('--storage', choices=('mcap', 'sqlite3'), default='mcap', help='default: mcap')
    rig.add_argument('--joint-rate', type=float, default=100.0, metavar='HZ', help='default: 100')
    rig.add_argument('--camera-rate', type=float, default=30.0, metavar='HZ', help='default: 30')
    rig.add_argument('--size', default='640x480', metavar='WxH', help='image size (default: 640x480)')
    rig.add_argument('--seed', type=int, default=0, help='default: 0')
    rig.add_argument('--force', action='store_true', help='replace an existing bag')
    rig.set_defaults(run=_rig)


def _encode(options: argparse.Namespace) -> int:
    from fused_encoder_ros.model import load_model
    from fused_encoder_ros.offline.encode import check_distinct_names
    from fused_encoder_ros.settings import Settings

    if options.batch_size < 1:
        raise ConfigError(f'--batch-size: {options.batch_size} is too small; use at least 1')
    check_distinct_names(options.bags)
    settings = Settings.from_values(_parameter_values(options))
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

    with _progress_bar(bag) as progress:
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


@contextmanager
def _progress_bar(bag: Path) -> Iterator[Callable[[int, int], None]]:
    from tqdm import tqdm

    with tqdm(desc=bag.name, unit='msg', file=sys.stderr, disable=None, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield progress


def _sync_report(options: argparse.Namespace) -> int:
    from fused_encoder_ros.offline.bag import bag_name
    from fused_encoder_ros.offline.report import Severity, report_bag
    from fused_encoder_ros.settings import Settings

    settings = Settings.from_values(_parameter_values(options))
    out = options.out or Path(f'{bag_name(options.bag)}_sync_report.html')
    with _progress_bar(options.bag) as progress:
        facts, verdict = report_bag(options.bag, out, settings, force=options.force, progress=progress)
    if options.json:
        print(json.dumps({**verdict.to_dict(), **facts.to_dict()}, indent=2))
    else:
        print(f'{verdict}\n  wrote    {out}')
    return EXIT_FAILED if verdict.severity is Severity.FAIL else EXIT_OK


def _parameter_values(options: argparse.Namespace) -> dict[str, Any]:
    import yaml

    from fused_encoder_ros.settings import read_parameter_file

    values = read_parameter_file(options.config) if options.config else {}
    for assignment in options.set:
        name, text = _split(assignment, '--set', 'NAME=VALUE')
        try:
            values[name] = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f'--set {assignment}: the value is not YAML: {error}') from error
    for assignment in options.topic:
        source, topic = _split(assignment, '--topic', 'SOURCE=TOPIC')
        if source not in (*CAMERAS, JOINTS):
            raise ConfigError(f'--topic {assignment}: {source!r} is no source; use one of {[*CAMERAS, JOINTS]}')
        values[f'topics.{source}'] = topic
    for name in ('checkpoint', 'device'):
        if getattr(options, name, None) is not None:
            values[name] = getattr(options, name)
    return values


def _split(assignment: str, option: str, form: str) -> tuple[str, str]:
    name, separator, value = assignment.partition('=')
    if not separator:
        raise ConfigError(f'{option} {assignment}: write it as {form}')
    return name, value


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


def _rig(options: argparse.Namespace) -> int:
    from fused_encoder_ros.offline.rig_bag import write_rig_bag

    if not 0 < options.duration <= 86_400:
        raise ConfigError(f'--duration: {options.duration:g} is not within 0 to 86400 seconds')
    try:
        width, height = (int(side) for side in options.size.split('x'))
    except ValueError:
        raise ConfigError(f'--size: {options.size!r} is not WIDTHxHEIGHT, as 640x480') from None
    rig = Rig(
        seed=options.seed, width=width, height=height, camera_rate_hz=options.camera_rate, joint_rate_hz=options.joint_rate
    )
    count = write_rig_bag(options.bag, rig, options.duration, options.storage, options.force)
    print(f'wrote {count} messages to {options.bag}')
    return EXIT_OK


if __name__ == '__main__':
    sys.exit(main())
