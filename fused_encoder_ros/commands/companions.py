"""`fused-encoder policy` and `fused-encoder layout`: files for other programs that name what this node listens to."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from fused_encoder_ros.commands.common import EXIT_OK, add_parameters, parameter_values
from fused_encoder_ros.errors import ConfigError

if TYPE_CHECKING:
    from fused_encoder_ros.settings import Settings

_POLICY = 'sros2/policies/fused_encoder.policy.xml'
_LAYOUT = 'config/foxglove_layout.json'

_INPUTS = re.compile(r'(<topics subscribe="ALLOW">\n)(?:( *)<topic>[^<]*</topic>\n)+')
_SKEWS = 'Plot!skew'


def add_commands(commands: Any) -> None:
    """Add them to the parser."""
    for name, text, suffix, run in (
        ('policy', 'the SROS 2 policy of a node with these parameters', 'XML', policy),
        ('layout', 'the Foxglove layout of a node with these parameters', 'JSON', layout),
    ):
        command = commands.add_parser(
            name,
            help=f'write {text}',
            description=f'Write {text}. You need it if your cameras or topics are not the defaults: the installed file names '
            'those.',
        )
        command.add_argument('--out', type=Path, required=True, metavar=suffix, help='file to write')
        command.add_argument('--checkpoint', metavar='FILE', help='packed checkpoint, from which the cameras are read')
        add_parameters(command)
        command.add_argument('--force', action='store_true', help='replace an existing file')
        command.set_defaults(run=_writes(run))


def _writes(make: Callable[[Settings], str]) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from fused_encoder_ros.offline.files import completed
        from fused_encoder_ros.settings import Settings

        text = make(Settings.from_values(parameter_values(options)))
        with completed({'file': options.out}, options.force) as files:
            files['file'].write_text(text, encoding='utf-8')
        print(f'wrote {options.out}')
        return EXIT_OK

    return run


def policy(settings: Settings) -> str:
    """The SROS 2 policy: it lets the node subscribe to its sources' topics, and to no others."""
    topics = [escape(topic) for names in settings.topics.values() for topic in names]

    def lines(match: re.Match[str]) -> str:
        return match[1] + ''.join(f'{match[2]}<topic>{topic}</topic>\n' for topic in topics)

    return _INPUTS.sub(lines, _installed(_POLICY), count=1)


def layout(settings: Settings) -> str:
    """The Foxglove layout: its plot of skews has a line for each source."""
    content = json.loads(_installed(_LAYOUT))
    paths = content['configById'][_SKEWS]['paths']
    line, label = json.dumps(paths[0]), paths[0]['label']
    content['configById'][_SKEWS]['paths'] = [json.loads(line.replace(label, source)) for source in settings.topics]
    return json.dumps(content, indent=2) + '\n'


def _installed(name: str) -> str:
    from fused_encoder_ros.settings.installed import installed_file

    path = installed_file(name)
    if path is None:
        raise ConfigError(f'{name} was not installed with this package; install the package again, or run this in a checkout')
    return path.read_text(encoding='utf-8')
