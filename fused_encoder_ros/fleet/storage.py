"""Bags and results on this machine, or in an object store (s3://, gs://, abfs://) through pyarrow's file systems."""

from __future__ import annotations

import glob
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from fused_encoder_ros.errors import BagError, ConfigError, OutputError, in_one_line
from fused_encoder_ros.offline.files import BAG_SUFFIXES

_METADATA = 'metadata.yaml'


@dataclass(frozen=True)
class BagRef:
    """A bag that was found, and what tells whether it has changed.

    Attributes:
        uri: a path of this machine, or an address with a scheme.
        name: what its results are named after: its path below the folder that was given, without a file's suffix.
        size: bytes of all its files; 0 where it does not exist.
        changed: when the last of its files was changed, nanoseconds since the epoch.
    """

    uri: str
    name: str
    size: int
    changed: int


def is_remote(address: str) -> bool:
    """Whether it has a scheme."""
    return '://' in address


def check_address(option: str, address: str) -> None:
    """Whether a path or an address can be used. Raises ConfigError."""
    if not address:
        raise ConfigError(f'{option} is empty; give a path')  # as of a shell variable that is not set
    if address != address.encode(errors='replace').decode():
        raise ConfigError(f'{option} {address!r} is not UTF-8, which Parquet and SQLite need; rename it')


def find_bags(arguments: Sequence[str]) -> list[BagRef]:
    """The bags that paths, folders, patterns (`*`, `**`, `?`, `[…]`) and addresses of an object store stand for.

    A bag named twice is found once. A path that does not exist is a bag too: that it cannot be read is said with the others.

    Raises:
        ConfigError: when an argument is empty or not UTF-8, a folder or a pattern holds no bag, an object store cannot be
            reached, or two bags have one name.
    """
    found: dict[str, BagRef] = {}
    for argument in arguments:
        check_address('BAG', argument)
        for bag in _remote_bags(argument) if is_remote(argument) else _local_bags(argument):
            check_address('BAG', bag.uri)
            found.setdefault(bag.uri, bag)
    names: dict[str, BagRef] = {}
    for bag in found.values():
        other = names.setdefault(bag.name, bag)
        if other is not bag:
            raise ConfigError(
                f'{other.uri} and {bag.uri} would both write {bag.name}; give the folder that holds both, so that the results '
                'follow its layout, or use different --out folders'
            )
    return list(found.values())


def _local_bags(argument: str) -> list[BagRef]:
    path = Path(argument)
    if not path.exists() and glob.has_magic(argument):
        matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]
        bags = [bag for match in matches if match.is_dir() or _is_bag_file(match.name) for bag in _bags_at(match)]
        if not bags:
            raise ConfigError(f'no bag matches {argument}; put the pattern in quotes, and use **/*.mcap to search in folders')
        return bags
    bags = _bags_at(path)
    if not bags:
        raise ConfigError(f'folder {argument} contains no bag: no {", ".join(BAG_SUFFIXES)} file and no rosbag2 folder')
    return bags


def _bags_at(path: Path) -> list[BagRef]:
    path = path.resolve()
    if not path.is_dir() or (path / _METADATA).is_file():
        return [_local(path, path.parent)]
    files = sorted(file for file in path.rglob('*') if file.name == _METADATA or _is_bag_file(file.name))
    folders = {file.parent for file in files if file.name == _METADATA}
    bags = [_local(folder, path) for folder in sorted(folders)]
    return bags + [_local(file, path) for file in files if _is_bag_file(file.name) and file.parent not in folders]


def _is_bag_file(name: str) -> bool:
    return name.endswith(BAG_SUFFIXES)


def _local(path: Path, below: Path) -> BagRef:
    files = [file for file in path.rglob('*') if file.is_file()] if path.is_dir() else [path]
    stats = [file.stat() for file in files if file.exists()]
    name = path.relative_to(below) if path.is_dir() else path.relative_to(below).with_suffix('')
    size, changed = sum(stat.st_size for stat in stats), max((stat.st_mtime_ns for stat in stats), default=0)
    return BagRef(str(path), name.as_posix(), size, changed)


def _remote_bags(address: str) -> list[BagRef]:
    from pyarrow.fs import FileSelector

    system, path = file_system(address)
    base = PurePosixPath(path)
    with _reached(address):
        own = system.get_file_info(path)
        infos = system.get_file_info(FileSelector(path, recursive=True, allow_not_found=True)) if not own.is_file else [own]
    files = [info for info in infos if info.is_file]
    folders: dict[PurePosixPath, list[Any]] = {
        PurePosixPath(info.path).parent: [] for info in files if info.base_name == _METADATA
    }
    bags: dict[PurePosixPath, list[Any]] = dict(folders)
    for info in files:
        at = PurePosixPath(info.path)
        if at.parent in folders:
            folders[at.parent].append(info)
        elif _is_bag_file(info.base_name):
            bags[at] = [info]
    if not bags:
        raise ConfigError(f'{address} contains no bag: no {", ".join(BAG_SUFFIXES)} file and no rosbag2 folder')
    scheme, _, _ = address.partition('://')
    _, _, query = address.partition('?')
    below = base.parent if base in bags else base
    return [
        BagRef(
            f'{scheme}://{at}{"?" * bool(query)}{query}',
            (at.relative_to(below) if at in folders else at.relative_to(below).with_suffix('')).as_posix(),
            sum(info.size for info in parts),
            max((info.mtime_ns for info in parts), default=0),
        )
        for at, parts in sorted(bags.items())
    ]


def file_system(address: str) -> tuple[Any, str]:
    """pyarrow's file system of an address, and the path in it. Raises ConfigError."""
    import pyarrow
    from pyarrow.fs import FileSystem

    try:
        with _reached(address):  # it asks for the bucket's region
            system, path = FileSystem.from_uri(address)
    except (ValueError, pyarrow.ArrowException) as error:
        raise ConfigError(f'{address} is not an address of an object store: {in_one_line(error)}') from error
    return system, path


@contextmanager
def local_copy(bag: BagRef) -> Iterator[Path]:
    """The bag as a path of this machine; a remote one is fetched into the temporary folder, and removed again.

    What goes wrong with the copy is told of the bag's address.

    Raises:
        BagError: when it cannot be fetched.
    """
    if not is_remote(bag.uri):
        yield Path(bag.uri)
        return
    from pyarrow.fs import FileSelector

    system, path = file_system(bag.uri)
    with tempfile.TemporaryDirectory(prefix='fused-encoder-') as folder:
        target = Path(folder) / PurePosixPath(path).name
        try:
            own = system.get_file_info(path)
            files = [own] if own.is_file else system.get_file_info(FileSelector(path, recursive=True))
            for info in files:
                if info.is_file:
                    below = '' if own.is_file else PurePosixPath(info.path).relative_to(path)
                    fetch(system, info.path, target / below)
        except OSError as error:
            raise BagError(f'bag {bag.uri} cannot be fetched: {in_one_line(error)}') from error
        try:
            yield target
        except BagError as error:
            raise BagError(str(error).replace(str(target), bag.uri)) from error


def fetch(system: Any, path: str, target: Path) -> None:
    """One file from a file system of pyarrow."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with system.open_input_stream(path) as source, target.open('wb') as sink:
        shutil.copyfileobj(source, sink, 1 << 22)


def store(system: Any, source: Path, path: str) -> None:
    """One file, or a folder of them, into a file system of pyarrow; an object appears when it is complete."""
    files = sorted(file for file in source.rglob('*') if file.is_file()) if source.is_dir() else [source]
    files.sort(key=lambda file: file.name == _METADATA)  # last: with it a folder becomes a bag
    for file in files:
        name = path if source.is_file() else f'{path}/{file.relative_to(source).as_posix()}'
        with file.open('rb') as content, system.open_output_stream(name) as sink:
            shutil.copyfileobj(content, sink, 1 << 22)


def existing(out: str, names: Sequence[str]) -> set[str]:
    """Which of some names exist below a folder. Raises OutputError."""
    if not is_remote(out):
        return {name for name in names if (Path(out) / name).exists()}
    system, at = file_system(out)
    with written(out):
        infos = system.get_file_info([f'{at.rstrip("/")}/{name}' for name in names])
    return {name for name, info in zip(names, infos) if info.type.name != 'NotFound'}


def content_of(out: str, name: str) -> bytes | None:
    """A small file below a folder; None where there is none. Raises ConfigError when it cannot be read."""
    if not existing(out, [name]):
        return None
    with _reached(out):
        if not is_remote(out):
            return (Path(out) / name).read_bytes()
        system, at = file_system(out)
        with system.open_input_stream(f'{at.rstrip("/")}/{name}') as stream:
            return bytes(stream.read())


@contextmanager
def _reached(address: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f'{address} cannot be reached: {in_one_line(error)}; check the address and the credentials'
        ) from error


@contextmanager
def written(address: str) -> Iterator[None]:
    """Turns what a file system raises into OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f'{address} cannot be written: {in_one_line(error)}; choose another place') from error
