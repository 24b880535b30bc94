"""What takes long enough to be disturbed."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes import command

from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.synthetic import Rig


@pytest.fixture
def long_bags(tmp_path: Path) -> Path:
    """Three bags whose encoding takes seconds."""
    for name in ('a', 'b', 'c'):
        (tmp_path / 'long').mkdir(exist_ok=True)
        write_rig_bag(tmp_path / 'long' / name, Rig(width=320, height=240), 8.0)
    return tmp_path / 'long'


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    begun = []

    def run(*arguments: object) -> subprocess.Popen[str]:
        begun.append(subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return begun[-1]

    yield run
    for process in begun:
        process.kill()
        process.communicate()
