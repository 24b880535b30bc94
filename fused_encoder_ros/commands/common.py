"""What several commands share: exit codes, the node's parameters as options, a progress bar."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fused_encoder_ros.errors import ConfigError, in_one_line
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.spec import CAMERAS

_interrupted = False

EXIT_OK, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_WARNED = 0, 1, 2, 3


def interrupt_on_signals() -> None:
    """SIGINT and SIGTERM raise KeyboardInterrupt, so that unfinished output is cleared away: batch systems send the latter."""

    def interrupt(number: int, frame: object) -> None:
        global _interrupted  # a plain variable: the lock of a threading.Event could be held by what is interrupted
        _interrupted = True
        raise KeyboardInterrupt

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)


def raise_if_interrupted() -> None:
    """Raises KeyboardInterrupt again where a library has swallowed it."""
    if _interrupted:
        raise KeyboardInterrupt


def add_cameras(command: argparse.ArgumentParser) -> None:
    """Add the option that names the cameras of a synthetic robot."""
    command.add_argument(
        '--cameras',
        nargs='+',
        default=list(CAMERAS),
        metavar='NAME',
        help=f'names of the cameras (default: {" ".join(CAMERAS)})',
    )


def add_parameters(command: argparse.ArgumentParser) -> None:
    """Add the options that set the node's parameters."""
    command.add_argument('--config', type=Path, metavar='YAML', help='parameter file of the node')
    command.add_argument(
        '--topic',
        action='append',
        default=[],
        metavar='SOURCE=TOPIC',
        help=f'topic of a camera or of {JOINTS}; repeat the option for each topic',
    )
    command.add_argument(
        '--set',
        action='append',
        default=[],
        metavar='NAME=VALUE',
        help='any other parameter of the node; repeat the option for each',
    )


def parameter_values(options: argparse.Namespace) -> dict[str, Any]:
    """The parameters that those options set, by name. Raises ConfigError."""
    import yaml

    from fused_encoder_ros.settings import load_yaml, read_parameter_file

    values = read_parameter_file(options.config) if options.config else {}
    stated: dict[str, Any] = {}
    for assignment in options.set:
        name, text = _split(assignment, '--set', 'NAME=VALUE')
        if name in stated:
            raise ConfigError(f'--set {assignment}: {name} is set twice; keep one of them')
        try:
            stated[name] = load_yaml(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise ConfigError(f'--set {assignment}: the value is not YAML: {in_one_line(error)}') from error
    values |= stated
    topics: dict[str, Any] = {}
    for assignment in options.topic:
        source, topic = _split(assignment, '--topic', 'SOURCE=TOPIC')
        name = f'topics.{source}'
        if source == JOINTS:
            topics[name] = [*topics.get(name, []), topic]
        elif name in topics:
            raise ConfigError(f'--topic {assignment}: {source} has only one topic, and {topics[name]} is named too; keep one')
        else:
            topics[name] = topic
    values |= topics
    for name in ('checkpoint', 'device'):
        if getattr(options, name, None) is not None:
            values[name] = getattr(options, name)
    return values


@contextmanager
def completed_picture(option: str, path: Path) -> Iterator[Path]:
    """A place for a picture, which replaces an earlier file when the block ends well. Raises ConfigError, OutputError."""
    from fused_encoder_ros.offline.files import completed

    if path.suffix.lower() != '.png':
        raise ConfigError(f'{option}: {path} does not end with .png; rename it')
    with completed({'picture': path}, force=True) as files:
        yield files['picture']


def _split(assignment: str, option: str, form: str) -> tuple[str, str]:
    name, separator, value = assignment.partition('=')
    if not separator:
        raise ConfigError(f'{option} {assignment}: write it as {form}')
    return name, value


@contextmanager
def progress_bar(bag: Path) -> Iterator[Callable[[int, int], None]]:
    """A bar of a bag's messages on a terminal; yields what moves it: done, total."""
    from tqdm import tqdm

    with tqdm(desc=bag.name, unit='msg', file=sys.stderr, disable=None, leave=False) as bar:

        def progress(done: int, total: int) -> None:
            raise_if_interrupted()
            bar.total = total
            bar.update(done - bar.n)

        yield progress
