"""The arguments of the ROS programs: help, what is refused, and parameter files that nobody reads."""

from __future__ import annotations

import argparse
import itertools
import shlex
from collections.abc import Iterator, Sequence
from textwrap import fill

from fused_encoder_ros import __version__
from fused_encoder_ros.settings import Parameter, sections_of, serves

_ROS_ARGUMENTS = ('-p', '--param', '--params-file', '-r', '--remap', '--log-level', '-e', '--enclave')
_WIDTH = 100


def check_arguments(
    arguments: Sequence[str], program: str, description: str, examples: str, table: Sequence[Parameter], more: str = ''
) -> None:
    """Print help or the version and exit, where `arguments` ask for it; exit with code 2 for what is unknown.

    Args:
        arguments: as in sys.argv.
        program: its name in this package.
        description: what it is.
        examples: how to start it.
        table: the parameters that help lists.
        more: what help says below them.
    """
    parser = argparse.ArgumentParser(
        prog=program,
        usage=f'ros2 run fused_encoder_ros {program} [--help] [--version] [--ros-args -p NAME:=VALUE ...]',
        description=fill(description, _WIDTH),
        epilog='\n\n'.join(filter(None, (examples.strip(), f'parameters:\n{_listed(table)}', more))),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument('--version', action='version', version=f'%(prog)s {__version__}')
    _, unknown = parser.parse_known_args(_split(arguments)[0])
    if unknown:
        parser.error(f'unknown argument: {unknown[0]}; {_fix(unknown)}')


def unused_parameter_files(arguments: Sequence[str], node: str) -> Iterator[str]:
    """A sentence for each parameter file among the arguments without a section for this node, whose full name is given.

    ROS ignores such a file without a word.
    """
    ours = _split(arguments)[1]
    for option, path in itertools.pairwise(ours):
        if option == '--params-file':
            sections = sections_of(path)
            if not any(serves(section, node) for section in sections):
                has = f'its sections are {", ".join(sections)}' if sections else 'it is empty'
                yield (
                    f'parameter file {path} is not used: {has}, and this node is {node}; '
                    f'rename the section to {node}, or to /** for any node'
                )


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The program's own arguments, and those between `--ros-args` and `--`."""
    own: list[str] = []
    of_ros: list[str] = []
    into = own
    for argument in arguments[1:]:
        if argument == '--ros-args':
            into = of_ros
        elif argument == '--' and into is of_ros:
            into = own
        else:
            into.append(argument)
    return own, of_ros


def _fix(unknown: Sequence[str]) -> str:
    if unknown[0] in _ROS_ARGUMENTS:
        return f'write --ros-args before it: {shlex.join(["--ros-args", *unknown])}'
    if ':=' in unknown[0]:
        return f'set a parameter with {shlex.join(["--ros-args", "-p", unknown[0]])}'
    return 'see --help'


def _listed(table: Sequence[Parameter]) -> str:
    width = max(len(parameter.name) for parameter in table) + 2
    lines = []
    for parameter in table:
        default = parameter.default
        shown = f'[{", ".join(map(str, default))}]' if isinstance(default, list) else str(default)
        text = parameter.description + (f' (default: {shown})' if shown and len(shown) < _WIDTH else '')
        first = f'  {parameter.name:<{width}}'
        lines.append(fill(text, _WIDTH, initial_indent=first, subsequent_indent=' ' * len(first)))
    return '\n'.join(lines)
