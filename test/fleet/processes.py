"""Commands as processes, what they leave, and who works for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def command(*arguments: object) -> list[str]:
    return [sys.executable, '-m', 'fused_encoder_ros.cli', *map(str, arguments)]


def results(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob('*') if path.is_file())


def until(condition: Callable[[], Any], process: subprocess.Popen[str]) -> Any:
    """What the condition gives, once it gives something; fails when the process ends before."""
    while not (value := condition()):
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    return value


def children(pid: int) -> list[int]:
    """Processes that a process has started, and theirs."""
    own = [int(child) for task in Path(f'/proc/{pid}/task').glob('*/children') for child in task.read_text().split()]
    return own + [grandchild for child in own for grandchild in children(child)]


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(Path(f'/proc/{pid}').exists() for pid in pids):
        assert time.monotonic() < deadline, 'a worker outlives its run'
        time.sleep(0.01)


def working_in(out: Path, file: str = '*') -> list[int]:
    """Process ids of those that write such a file below a folder."""
    return [int(path.parent.name.split('-')[1]) for path in out.glob(f'**/.partial-*/{file}')]


def kill_each(out: Path, file: str, times: int, process: subprocess.Popen[str]) -> None:
    """Kill so many of a command's workers, one after the other, while they write a file."""
    killed: set[int] = set()
    while len(killed) < times:
        pid = until(lambda: next(iter({*working_in(out, file)} - killed), 0), process)
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
