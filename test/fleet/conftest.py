"""Commands that do not outlive their test."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
from processes import command


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
