"""Output appears under its final name only when it is complete."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from fused_encoder_ros.errors import OutputError

BAG_SUFFIXES = ('.bag', '.db3', '.mcap')
"""Of files that are bags; other bags are folders."""

_ASIDE = 'replaced'
_PARTIAL = '.partial-'
_ABANDONED_S = 86_400.0

_OF_A_RESULT = ('metadata.yaml', 'meta/fused_encoder.json')
"""What a folder that is a result holds: a bag, or a data set of LeRobot's."""


@contextmanager
def completed(outputs: Mapping[str, Path], force: bool) -> Iterator[dict[str, Path]]:
    """Give temporary paths to write to, and move them to their final places when the block ends well.

    With `force` an existing output gives way: a file to a file, a folder of ours to a folder, and nothing else.
    When anything fails, what was there before is there again.

    Raises:
        OutputError: when an output exists and may not be replaced, or its folder cannot be written to.
    """
    for final in outputs.values():
        _check_replaceable(final, force)
    folder = next(iter(outputs.values())).parent
    work: Path | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Beside the final place, so that each move is one step on one file system.
        work = unfinished(folder)
        temporary = {name: work / final.name for name, final in outputs.items()}
        yield temporary
        for final in outputs.values():
            _check_replaceable(final, force)  # something may have appeared meanwhile
        _to_disk(work)
        _replace_all([(temporary[name], final) for name, final in outputs.items()], work / _ASIDE)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f'output folder {folder} cannot be written: {reason}; choose another place') from error
    finally:
        # What could not be put back stays where it is.
        if work is not None and not any((work / _ASIDE).glob('*')):
            shutil.rmtree(work, ignore_errors=True)


def unfinished(folder: Path) -> Path:
    """A new folder below another, for what is not complete. Its name says whose it is: machines may share a file system."""
    return Path(tempfile.mkdtemp(prefix=f'{_PARTIAL}{os.getpid()}-{socket.gethostname()}-', dir=folder))


def clear_leftovers(folder: Path) -> None:
    """Remove, anywhere below a folder, what programs that were killed have left.

    Whether a program of another machine still runs cannot be seen from here: its folder is left over when nothing in it has
    changed for a day.
    """
    for path, pid, host in _unfinished(folder):
        is_here = host == socket.gethostname()
        if not Path('/proc', pid).exists() if is_here else _unchanged_s(path) > _ABANDONED_S:
            shutil.rmtree(path, ignore_errors=True)


def clear_own(folder: Path) -> None:
    """Remove, anywhere below a folder, what this program has not completed: it is about to end."""
    for path, pid, host in _unfinished(folder):
        if (pid, host) == (str(os.getpid()), socket.gethostname()):
            shutil.rmtree(path, ignore_errors=True)


def _to_disk(folder: Path) -> None:
    """Have the system write all below a folder to the disk: after a power loss a file could be there, and be empty."""
    for path in folder.rglob('*'):
        if path.is_file():
            with path.open('rb') as file:
                os.fsync(file)


def _unfinished(folder: Path) -> Iterator[tuple[Path, str, str]]:
    """Folders of what is not complete, each with the process id and the machine of whoever works there."""
    for parent, names, _ in os.walk(folder):  # it takes folders that go away meanwhile
        for name in names:
            if name.startswith(_PARTIAL):
                pid, _, rest = name.removeprefix(_PARTIAL).partition('-')
                yield Path(parent, name), pid, rest.rpartition('-')[0]


def _unchanged_s(folder: Path) -> float:
    """Seconds since anything in a folder has changed; 0 when it goes away meanwhile."""
    try:
        return time.time() - max(part.stat().st_mtime for part in (folder, *folder.rglob('*')))
    except FileNotFoundError:
        return 0.0


def _check_replaceable(final: Path, force: bool) -> None:
    if not os.path.lexists(final):
        return
    if not force:
        raise OutputError(f'{final} exists already; use --force to replace it, or choose another place')
    is_ours = final.is_dir() and any((final / name).is_file() for name in _OF_A_RESULT)
    if final.is_symlink() or not (is_ours or final.is_file()):
        raise OutputError(
            f'{final} exists, but this program did not write it, so it is not replaced even with --force; choose another place'
        )


def _replace_all(moves: Sequence[tuple[Path, Path]], aside: Path) -> None:
    for new, _ in moves:
        new.stat()  # raises before anything is moved
    aside.mkdir()
    begun: list[tuple[Path, Path]] = []
    try:
        for new, final in moves:
            begun.append((new, final))
            if final.exists():
                os.rename(final, aside / final.name)
            os.rename(new, final)
    except BaseException:
        for new, final in begun:
            if not new.exists() and final.exists():
                os.rename(final, new)
            if (aside / final.name).exists():
                os.rename(aside / final.name, final)
        raise
    shutil.rmtree(aside)
