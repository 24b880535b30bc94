"""`fused-encoder bench model|engines|node`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from fused_encoder_ros.commands.common import EXIT_OK, add_cameras, completed_picture
from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.spec import check_cameras

_Measure = Callable[[argparse.Namespace], tuple[dict[str, Any], str]]

_LIMITS = (('rounds', 1, 10_000), ('threads', 1, 256), ('duration', 1, 3600), ('joint_rates', 0.1, 10_000))


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
    engines.add_argument(
        '--picture', type=Path, metavar='PNG', help='also draw a chart of the speeds to this file; an earlier file is replaced'
    )
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


def _subject(subjects: Any, name: str, text: str, measure: _Measure, rounds: int) -> Any:
    command = subjects.add_parser(name, help=text, description=f'Measure {text}.')
    command.add_argument('--rounds', type=int, default=rounds, help=f'number of rounds (default: {rounds})')
    command.add_argument(
        '--out',
        type=Path,
        metavar='JSON',
        help='also write the figures, the machine and this command to a JSON file; an earlier file is replaced',
    )
    add_cameras(command)
    command.set_defaults(run=_measures(measure))
    return command


def _measures(measure: _Measure) -> Callable[[argparse.Namespace], int]:
    """The command that measures, prints the text, and writes what is asked for."""

    def run(options: argparse.Namespace) -> int:
        from fused_encoder_ros.offline.files import completed

        _check(options)
        picture = getattr(options, 'picture', None)
        with ExitStack() as stack:
            # Before the work, so that a place where nothing can be written is told at once.
            figures = stack.enter_context(completed({'figures': options.out}, force=True)) if options.out else {}
            drawn = stack.enter_context(completed_picture('--picture', picture)) if picture else None
            result, text = measure(options)
            print(text)
            for file in figures.values():
                command = shlex.join(['fused-encoder', *sys.argv[1:]])
                file.write_text(json.dumps({'command': command, **result}, indent=2) + '\n')
            if drawn:
                from fused_encoder_ros.commands.pictures import draw_engines

                draw_engines(drawn, result)
        for path in filter(None, (options.out, picture)):
            print(f'\nwrote {path}')
        return EXIT_OK

    return run


def _check(options: argparse.Namespace) -> None:
    for name, least, most in _LIMITS:
        stated = getattr(options, name, [])
        for value in stated if isinstance(stated, list) else [stated]:
            if not least <= value <= most:
                option = f'--{name.replace("_", "-")}'
                raise ConfigError(f'{option}: {value:g} is out of range; use {least:g} to {most:g}')
    check_cameras(options.cameras)


def _model(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from fused_encoder_ros.bench import model
    from fused_encoder_ros.model.engines import choose_device

    device = choose_device(options.device)
    result = model.run(device, options.threads, options.rounds, tuple(options.cameras), _progress)
    return result, model.as_text(result)


def _engines(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from fused_encoder_ros.bench import engines

    result = engines.run(options.device, options.threads, options.rounds, tuple(options.cameras), _progress)
    return result, engines.as_text(result)


def _node(options: argparse.Namespace) -> tuple[dict[str, Any], str]:
    from fused_encoder_ros.ros import bench

    cameras = tuple(options.cameras)
    result = bench.run(options.rounds, options.duration, options.joint_rates, options.engine, cameras, _progress)
    return result, bench.as_text(result)


def _progress(text: str) -> None:
    print(f'... {text}', file=sys.stderr, flush=True)
