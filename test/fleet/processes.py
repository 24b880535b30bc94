"""Commands as processes, what they leave, and who works for them."""

from __future__ import annotations

import fnmatch
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fused_encoder_ros.offline.rig_bag import write_rig_bag
from fused_encoder_ros.synthetic import Rig


def command(*arguments: object) -> list[str]:
    return [sys.executable, '-m', 'fused_encoder_ros.cli', *map(str, arguments)]


def rig_bags(folder: Path, names: Sequence[str], seconds: float) -> Path:
    """Small bags of these names, each of another seed; gives their folder."""
    for seed, name in enumerate(names):
        write_rig_bag(folder / name, Rig(width=64, height=48, seed=seed), seconds)
    return folder


def results(folder: Path) -> list[str]:
    paths = [path for path in folder.rglob('*') if path.is_file() and path.parent.name != '.previews']
    return sorted(path.relative_to(folder).as_posix() for path in paths)


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


def ancestors(pid: int) -> list[int]:
    """The process that has started a process, the one that has started that, and so on; none of one that has ended."""
    try:
        parent = int(Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [parent, *ancestors(parent)] if parent else []


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 60
    while any(Path(f'/proc/{pid}').exists() for pid in pids):
        assert time.monotonic() < deadline, 'a worker outlives its run'
        time.sleep(0.01)


def working_in(out: Path, file: str = '*') -> list[int]:
    """Process ids of those that write such a file below a folder."""
    writing = [Path(folder).name for folder, _, names in os.walk(out) if fnmatch.filter(names, file)]
    return [int(name.split('-')[1]) for name in writing if name.startswith('.partial-')]


def kill_writers(out: Path, times: Mapping[str, int], process: subprocess.Popen[str]) -> None:
    """Kill a command's workers while they write one of some files, so many times each."""
    left = dict(times)
    killed: set[int] = set()
    while any(left.values()):
        file, pid = until(lambda: next(((f, p) for f in left for p in working_in(out, f) if p not in killed), None), process)
        if left[file]:
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
            left[file] -= 1
