"""Write the parts of the documentation that come from the code: parameters, commands and the public Python names.

python docs/generate.py            # after a change of any of them
python docs/generate.py --check    # exit code 1 where a file is behind the code
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fused_encoder_ros.cli import _parser  # noqa: E402
from fused_encoder_ros.settings import Parameter, parameters  # noqa: E402


def parameter_table() -> str:
    """Every parameter of the node, a row each."""
    rows = [(f'`{p.name}`', _default(p), _allowed(p), 'live' if p.live else '', p.description) for p in parameters()]
    header = [('name', 'default', 'allowed', 'live', 'what it does'), ('---',) * 5]
    return '\n'.join(_row(*row) for row in [*header, *rows])


def _default(parameter: Parameter) -> str:
    value = parameter.default
    if value == []:
        return 'empty'
    if parameter.name == 'joint_names':
        return '`left_joint_1` … `left_joint_7`, `left_gripper`, the same right'
    if isinstance(value, list):
        return ', '.join(f'`{item}`' for item in value)
    if isinstance(value, bool):
        return f'`{str(value).lower()}`'
    return f'`{value}`' if value != '' else '`""`'


def _allowed(parameter: Parameter) -> str:
    if parameter.choices:
        return ', '.join(f'`{choice}`' if choice else '`""`' for choice in parameter.choices)
    if parameter.minimum is not None and parameter.maximum is not None:
        return f'{parameter.minimum:g} … {parameter.maximum:g}'
    return ''


def command_reference() -> str:
    """Every command of `fused-encoder`, a section each, with a row for each argument."""
    return '\n\n'.join(_section(command) for command in _commands(_parser()))


def _commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """The parsers of the commands that have no commands below them."""
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not below:
        yield parser
    for action in below:
        for command in action.choices.values():
            yield from _commands(command)


def _section(command: argparse.ArgumentParser) -> str:
    arguments = [action for action in command._actions if not isinstance(action, argparse._HelpAction)]
    formatter = command._get_formatter()
    rows = [
        _row(f'`{_spelling(a)}`', f'{"required; " if _must(a) else ""}{_plain(formatter._expand_help(a))}') for a in arguments
    ]
    parts = [
        f'## {command.prog}',
        _plain(command.description or ''),
        '\n'.join([_row('argument', ''), _row('---', '---'), *rows]),
    ]
    if command.epilog:
        is_raw = issubclass(command.formatter_class, argparse.RawDescriptionHelpFormatter)
        parts.append(f'```text\n{command.epilog.strip()}\n```' if is_raw else command.epilog)
    return '\n\n'.join(filter(None, parts))


def _spelling(action: argparse.Action) -> str:
    name = action.metavar or ('|'.join(map(str, action.choices)) if action.choices else action.dest.upper())
    if not action.option_strings:
        return f'{name}...' if action.nargs == '+' else str(name)
    if action.nargs == 0:
        return action.option_strings[0]
    return f'{action.option_strings[0]} {name}{"..." if action.nargs == "+" else ""}'


def _plain(text: str) -> str:
    """Text that Markdown takes for no tag."""
    return text.replace('<', '&lt;')


def _must(action: argparse.Action) -> bool:
    return bool(action.option_strings) and action.required


def _row(*cells: str) -> str:
    escaped = [cell.replace('|', '\\|') for cell in cells]
    return f'| {" | ".join(escaped)} |'


def public_names(module: str) -> str:
    """Every name that the module exports, a row each with the first line of its docstring."""
    package = importlib.import_module(module)
    objects = {name: getattr(package, name) for name in package.__all__}
    rows = [_row(f'`{name}`', _kind(value), _summary(value)) for name, value in objects.items()]
    return '\n'.join([_row('name', 'kind', 'what it is'), _row('---', '---', '---'), *rows])


def _kind(value: object) -> str:
    if not isinstance(value, type):
        return 'function'
    return 'exception' if issubclass(value, Exception) else 'class'


def _summary(value: object) -> str:
    return inspect.cleandoc(value.__doc__ or '').partition('\n\n')[0].replace('\n', ' ')


GENERATED: dict[str, dict[str, Callable[[], str]]] = {
    'docs/reference/parameters.md': {'parameters': parameter_table},
    'docs/reference/cli.md': {'commands': command_reference},
    'docs/reference/python.md': {
        'names': lambda: public_names('fused_encoder_ros'),
        'names of the model': lambda: public_names('fused_encoder_ros.model'),
    },
}


def renewed(text: str, name: str, content: str) -> str:
    """The text, with everything between the markers of that name replaced by the content."""
    pattern = re.compile(rf'(<!-- {name}: .*? -->\n).*?(<!-- end of {name} -->)', re.DOTALL)
    new, count = pattern.subn(lambda match: f'{match[1]}{content}\n{match[2]}', text)
    if count != 1:
        raise SystemExit(f'the page must have one place marked {name!r}, but has {count}')
    return new


def main() -> int:
    """Write, or check; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument('--check', action='store_true', help='write nothing; exit code 1 where a file is behind the code')
    check = options.parse_args().check
    behind = []
    for path, parts in GENERATED.items():
        new = text = (ROOT / path).read_text()
        for name, content in parts.items():
            new = renewed(new, name, content())
        if new != text:
            behind.append(path)
            if not check:
                (ROOT / path).write_text(new)
    if behind:
        print(f'{"behind the code, run `python docs/generate.py`" if check else "renewed"}: {", ".join(behind)}')
    return 1 if check and behind else 0


if __name__ == '__main__':
    sys.exit(main())
