"""`fused-encoder bench model|engines|node`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fused_encoder_ros.commands.common import add_cameras
from fused_encoder_ros.spec import check_cameras


def add_commands(commands: Any) -> None:
    """Add it to the parser."""
    bench = commands.add_parser(
        'bench',
        help='measure how fast the designs, the engines or the live node run on this machine',
        description='Measure speed on this machine. The figures are medians of several rounds. Close other programs first.',
    )
    subjects = bench.add_subparsers(title='what to measure', required=True, metavar='SUBJECT')
    model = _subject(subjects, 'model', 'how much faster the optimised design is than the original one', _model, rounds=40)
    engines = _subject(subjects, 'engines', 'the speed and the error of every engine that runs here', _engines, rounds=60)
    for command in (model, engines):
        command.add_argument('--device', default='auto', help='auto, cpu, cuda or cuda:N (default: auto)')
    model.add_argument('--threads', type=int, default=2, help='number of CPU threads (default: 2)')
    engines.add_argument(
        '--threads',
        type=int,
        nargs='+',
        default=[1, 2],
        help='numbers of CPU threads, measured one after the other (default: 1 2)',
    )
    engines.add_argument('--picture', type=Path, metavar='PNG', help='also draw a chart of the speeds to this file')
    node = _subject(subjects, 'node', 'CPU use and latency of the live node, fed by a synthetic robot', _node, rounds=3)
    node.add_argument('--duration', type=float, default=20.0, metavar='S', help='length of each run in seconds (default: 20)')
    node.add_argument(
        '--joint-rates',
        type=float,
        nargs='+',
        default=[100.0, 500.0, 1000.0],
        metavar='HZ',
        help='joint messages per second, measured one after the other (default: 100 500 1000)',
    )
    node.add_argument('--engine', default='auto', help="the node's engine (default: auto)")


def _subject(subjects: Any, name: str, text: str, run: Callable[[argparse.Namespace], int], rounds: int) -> Any:
    command = subjects.add_parser(name, help=text, description=f'Measure {text}.')
    command.add_argument('--rounds', type=int, default=rounds, help=f'number of rounds (default: {rounds})')
    command.add_argument(
        '--out', type=Path, metavar='JSON', help='also write the figures, the machine and this command to a JSON file'
    )
    add_cameras(command)
    command.set_defaults(run=run)
    return command


def _model(options: argparse.Namespace) -> int:
    from fused_encoder_ros.bench import model
    from fused_encoder_ros.model.engines import choose_device

    result = model.run(choose_device(options.device), options.threads, options.rounds, _cameras(options), _progress)
    return _finish(options, result, model.as_text(result))


def _engines(options: argparse.Namespace) -> int:
    from fused_encoder_ros.bench import engines

    result = engines.run(options.device, options.threads, options.rounds, _cameras(options), _progress)
    if options.picture:
        from fused_encoder_ros.commands.pictures import draw_engines

        draw_engines(options.picture, result)
    return _finish(options, result, engines.as_text(result))


def _node(options: argparse.Namespace) -> int:
    from fused_encoder_ros.ros import bench

    result = bench.run(options.rounds, options.duration, options.joint_rates, options.engine, _cameras(options), _progress)
    return _finish(options, result, bench.as_text(result))


def _cameras(options: argparse.Namespace) -> tuple[str, ...]:
    check_cameras(options.cameras)
    return tuple(options.cameras)


def _progress(text: str) -> None:
    print(f'... {text}', file=sys.stderr, flush=True)


def _finish(options: argparse.Namespace, result: dict[str, Any], text: str) -> int:
    print(text)
    if options.out:
        command = shlex.join(['fused-encoder', *sys.argv[1:]])
        options.out.write_text(json.dumps({'command': command, **result}, indent=2) + '\n')
        print(f'\nwrote {options.out}')
    return 0
