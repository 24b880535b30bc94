"""The documentation: its commands run, its links lead somewhere, what it names exists, and public names are described.

A block of `sh` or `python` runs, page by page and in order, unless a comment `<!-- not run: WHY -->` stands above it. A
block with a file name after its language is that file.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import doctest
import importlib
import inspect
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import preloaded
import pytest

from fused_encoder_ros.cli import _parser, main
from fused_encoder_ros.settings import OF_EVERY_NODE, Settings, parameters, read_parameter_file

ROOT = Path(__file__).parent.parent
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').rglob('*.md')))
}
LIMIT_S = 300

PROGRAMS = {
    'fused-encoder': 'fused_encoder_ros.cli',
    'rig': 'fused_encoder_ros.ros.rig',
    'fused_encoder': 'fused_encoder_ros.ros.main',
}
NAMES = {parameter.name for parameter in parameters()}


@dataclass(frozen=True)
class Block:
    """A fenced block: why it is not run, its language, the file that it is, and its text."""

    reason: str
    language: str
    file: str
    text: str


def blocks(page: str) -> list[Block]:
    pattern = re.compile(r'^(?:<!-- not run: (.+?) -->\n)?```(\w+)(?: (\S+))?\n(.*?)^```$', re.MULTILINE | re.DOTALL)
    return [Block(*(group or '' for group in match.groups())) for match in pattern.finditer(PAGES[page].read_text())]


def script(page: str) -> str:
    """What the page tells its reader to do; empty when that is nothing."""
    parts = []
    if not any(block.language in ('sh', 'python') and not block.reason and not block.file for block in blocks(page)):
        return ''
    for block in blocks(page):
        if block.file:
            parts.append(f"cat > {block.file} <<'END OF FILE'\n{block.text}END OF FILE\n")
        elif block.language == 'python' and not block.reason:
            parts.append(f"python - <<'END OF PROGRAM'\n{block.text}END OF PROGRAM\n")
        elif block.language == 'sh' and not block.reason:
            parts.append(block.text)
    return ''.join(parts)


@pytest.mark.parametrize('page', [page for page in PAGES if script(page)])
def test_commands_run(page: str, tmp_path: Path) -> None:
    programs = tmp_path / 'programs'
    programs.mkdir()
    commands = {name: preloaded.client(module) for name, module in PROGRAMS.items()} | {'python': shlex.quote(sys.executable)}
    for name, command in commands.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
        (programs / name).chmod(0o755)
    clone = tmp_path / 'clone'
    clone.mkdir()
    (clone / 'config').symlink_to(ROOT / 'config')
    paths = {'PATH': programs, 'PYTHONPATH': ROOT}
    environment = os.environ | {name: f'{path}:{os.environ.get(name, "")}'.rstrip(':') for name, path in paths.items()}
    trap = 'trap "kill \\$(jobs -p) 2>/dev/null || true; wait" EXIT\n'
    printed = tmp_path / 'printed.txt'
    with printed.open('w') as stream:
        process = subprocess.Popen(
            ['bash', '-xeuo', 'pipefail', '-c', trap + script(page)],
            cwd=clone,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        process.wait(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        pytest.fail(f'{page} has not ended after {LIMIT_S} s; it printed:\n{printed.read_text()}')
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    output = printed.read_text()
    assert process.returncode == 0, output
    for promise in re.findall(r'It prints `([^`]+)`', PAGES[page].read_text()):
        assert promise in output


def test_what_comes_from_the_code_is_current() -> None:
    command = [sys.executable, str(ROOT / 'docs' / 'generate.py'), '--check']
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


# Links


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.+)$', re.sub(r'^```.*?^```$', '', text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    text = re.sub(r'^```.*?^```$', '', PAGES[page].read_text(), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r'\]\((?!https?://)([^)]+)\)', text):
        name, _, anchor = link.partition('#')
        target = (PAGES[page].parent / name).resolve() if name else PAGES[page]
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text()), link


def test_the_index_leads_to_every_page() -> None:
    index = PAGES['docs/README.md']
    linked = {(index.parent / link.partition('#')[0]).resolve() for link in re.findall(r'\]\(([^)]+)\)', index.read_text())}
    assert {path for path in PAGES.values() if path != index} <= linked


# What pages name


def code(page: str) -> Iterator[str]:
    """Lines of blocks and code within the text."""
    text = PAGES[page].read_text()
    for block in blocks(page):
        yield from block.text.replace('\\\n', ' ').splitlines()
    yield from re.findall(r'`([^`\n]+)`', re.sub(r'^```.*?^```$', '', text, flags=re.MULTILINE | re.DOTALL))


def commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return {name: command for action in below for name, command in action.choices.items()}


@pytest.mark.parametrize('page', PAGES)
def test_commands_and_options_exist(page: str) -> None:
    for line in code(page):
        for words in re.findall(r'\bfused-encoder ([a-z][^|]*)', line.partition(' #')[0]):
            name, *rest = words.split()
            assert name in commands(_parser()), line
            command = commands(_parser())[name]
            while rest and rest[0] in commands(command):
                command = commands(command)[rest.pop(0)]
            options = {option for action in command._actions for option in action.option_strings}
            assert {word for word in rest if word.startswith('--')} <= options, line


@pytest.mark.parametrize('page', PAGES)
def test_parameters_and_launch_arguments_exist(page: str) -> None:
    launch_files = ''.join(path.read_text() for path in (ROOT / 'launch').iterdir())
    cameras = {name for names in re.findall(r'cameras: \[(.+)\]', PAGES[page].read_text()) for name in names.split(', ')}
    for line in code(page):
        named = re.findall(r'(?:--set|-p) ([a-z][\w.]*):?=|ros2 param [sg]et \S+ ([\w.]+)', line)
        assert {first or second for first, second in named} <= NAMES | {'checkpoint'}, line
        if '-p ' not in line:
            for argument in re.findall(r'([a-z]\w*):=', line):
                assert argument in cameras or f"'{argument}'" in launch_files, line


@pytest.mark.parametrize('page', [page for page in PAGES if any(block.language == 'yaml' for block in blocks(page))])
def test_parameter_files_are_accepted(page: str, tmp_path: Path) -> None:
    for block in blocks(page):
        if block.language == 'yaml' and 'ros__parameters' in block.text:
            path = tmp_path / 'robot.yaml'
            path.write_text(block.text)
            Settings.from_values(read_parameter_file(path))


def test_the_readme_states_the_defaults() -> None:
    known = {parameter.name: parameter.default for parameter in parameters()}
    (table,) = re.findall(r'^\| parameter \| default .*\n.*\n((?:\|.*\n)+)', PAGES['README.md'].read_text(), re.MULTILINE)
    rows = dict(re.findall(r'^\| `([\w.*]+)` \| (.+?) \|', table, re.MULTILINE))
    assert len(rows) == 10
    for name, default in rows.items():
        if name in ('topics.*', 'joint_names'):  # in words
            continue
        value = known[name]
        stated = re.findall(r'`([^`]*)`|^(empty)', default.partition(':')[0])
        values = value if isinstance(value, list) else [str(value) or '""']
        assert [code or word for code, word in stated] == (values or ['empty']), name


def test_the_reference_names_every_launch_argument() -> None:
    text = PAGES['docs/reference/parameters.md'].read_text()
    (table,) = re.findall(r'<!-- arguments: .*? -->\n(.*?)<!-- end of arguments -->', text, re.DOTALL)
    named = {name for row in table.splitlines()[2:] for name in re.findall(r'`(\w+)`', row.split('|')[1])}
    launch_files = ''.join(path.read_text() for path in (ROOT / 'launch').iterdir())
    declared = set(re.findall(r"DeclareLaunchArgument\(\s*'(\w+)'", launch_files))
    overrides = set(re.findall(r"^    '(\w+)': \(", launch_files, re.MULTILINE)) - {'foxglove', 'rqt', 'plotjuggler'}
    assert named == declared | overrides


@pytest.mark.parametrize('page', PAGES)
def test_dotted_parameters_in_the_text_exist(page: str) -> None:
    groups = {name.split('.')[0] for name in NAMES if '.' in name}
    for text in code(page):
        if re.fullmatch(r'[a-z_]+(\.[a-z_*]+)+', text) and text.split('.')[0] in groups | set(OF_EVERY_NODE):
            assert text in NAMES or text.endswith('.*'), text


# What is public in Python

PUBLIC = [importlib.import_module(name) for name in ('fused_encoder_ros', 'fused_encoder_ros.model')]


def described(module: ModuleType) -> Iterator[tuple[str, object]]:
    """What the module exports, and the public members of its classes."""
    for name in module.__all__:
        value = getattr(module, name)
        yield name, value
        if isinstance(value, type) and not issubclass(value, Exception):
            members = {member: kind for member, kind in vars(value).items() if not member.startswith('_')}
            for member, kind in members.items():
                if inspect.isfunction(kind) or isinstance(kind, property | classmethod):
                    yield f'{name}.{member}', kind


def test_the_python_reference_is_complete(tmp_path: Path) -> None:
    command = [sys.executable, '-W', 'error::UserWarning', str(ROOT / 'docs' / 'api.py'), '--out', str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (result.returncode, result.stdout + result.stderr) == (0, '')
    for module in PUBLIC:
        page = (tmp_path / f'{module.__name__.replace(".", "/")}.html').read_text()
        missing = {name for name, _ in described(module)} - set(re.findall(r'<(?:section|div) id="([\w.]+)"', page))
        assert not missing


@pytest.mark.parametrize('module', PUBLIC, ids=str)
def test_public_names_say_what_they_are(module: ModuleType) -> None:
    for name, value in described(module):
        text = inspect.cleandoc(getattr(value, '__doc__', None) or '')
        first, _, rest = text.partition('\n\n')
        assert first.endswith('.') and '\n' not in first, f'{name}: begin the docstring with one line: {first!r}'
        if dataclasses.is_dataclass(value):
            undescribed = [field.name for field in dataclasses.fields(value) if f'{field.name}:' not in rest]
            assert not undescribed, f'{name}: the docstring does not describe {undescribed}'


def test_examples_in_docstrings_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(['rig', 'my_bag', '--duration', '1', '--size', '64x48']) == 0
    places = {sys.modules[getattr(module, name).__module__] for module in PUBLIC for name in module.__all__}
    results = {place.__name__: doctest.testmod(place) for place in places}
    assert not any(result.failed for result in results.values()), results
    assert any(result.attempted for result in results.values())
