"""What became of each bag, in the folder of the results, so that a second run does only what is missing."""

from __future__ import annotations

import fcntl
import json
import os
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fused_encoder_ros import __version__
from fused_encoder_ros.errors import ConfigError, OutputError
from fused_encoder_ros.fleet.storage import BagRef, fetch, file_system, is_remote, store, written
from fused_encoder_ros.offline.provenance import difference

MANIFEST = 'manifest.jsonl'

BEGUN, DONE, FAILED = 'begun', 'done', 'failed'

_FORMAT = 1
_STORE_EACH_S = 10.0
_CHECK = 'crc32'


@dataclass(frozen=True)
class Record:
    """What became of one bag.

    Attributes:
        bag: which.
        status: 'begun', 'done' or 'failed'.
        reason: why it failed; '' when it is done.
        outputs: names of the results below the folder.
        summary: counts and figures, as the job gives them.
        version: the package's that did it.
    """

    bag: BagRef
    status: str
    reason: str = ''
    outputs: tuple[str, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    version: str = __version__


class Manifest:
    """A file of JSON lines: what the results are made with, then a record for each bag; of two of one bag the last counts.

    Lines are only ever added, so that whatever ends the program leaves at most the last line torn. A line
    that is torn or damaged counts as none.
    Close it, or use it as a context. While it is open no other run may use the folder, where the folder is on this machine.

    Args:
        folder: where the results go; a path, or an address of an object store.
        made_with: what must be the same for all results of a folder, as JSON has it.
        anew: forget what the folder's manifest says.

    Attributes:
        records: by the bag's name.

    Raises:
        ConfigError: when the folder holds results that were made with something else, or its manifest is damaged.
        OutputError: when it cannot be written, or another run uses it.
    """

    def __init__(self, folder: str, made_with: Mapping[str, Any], anew: bool = False) -> None:
        self.records: dict[str, Record] = {}
        self._begun: set[str] = set()
        self._replaces_all = False
        self._remote = _RemoteCopy(folder) if is_remote(folder) else None
        self._path = self._remote.path if self._remote else Path(folder) / MANIFEST
        with written(f'output folder {folder}'):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # Unbuffered: what a full disk has refused must not come up again when it is closed.
            self._file = open(self._path, 'a+b', buffering=0)  # noqa: SIM115  # closed by close()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise OutputError(f'{folder} is in use by another run; wait for it, or choose another folder') from None
        try:
            with written(f'output folder {folder}'):
                self._begin(folder, json.loads(json.dumps(made_with)), anew)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other runs use the folder."""
        with self._file:
            if self._remote:
                self._remote.store()

    def is_done(self, bag: BagRef) -> bool:
        """Whether it is done, and has not changed since."""
        record = self.records.get(bag.name)
        return record is not None and record.status == DONE and record.bag == bag

    def may_replace(self, bag: BagRef) -> bool:
        """Whether what stands under the names of its results is a run's of this folder: one has begun with it.

        In an object store a manifest is up to ten seconds behind, so there it is enough that the folder has one.
        """
        return bag.name in self._begun or self._replaces_all

    def add(self, record: Record) -> None:
        """Remember what became of a bag. Raises OutputError."""
        self._take(record)
        with written(str(self._path)):
            self._append(asdict(record))
            if self._remote:
                self._remote.store_now_and_then()

    def _begin(self, folder: str, made_with: Mapping[str, Any], anew: bool) -> None:
        self._file.seek(0)
        content = b'' if anew else self._file.read()
        told = _told(folder, content)
        if told is None:
            self._file.truncate(0)
            self._append({'format': _FORMAT, 'made_with': made_with})
            return
        earlier, records = told
        if different := difference(earlier, made_with):
            raise ConfigError(
                f'{folder} holds results that were made in another way: {different}; choose another folder, or make all '
                'of them again with --force'
            )
        for record in records:
            self._take(record)
        self._replaces_all = self._remote is not None
        if not content.endswith(b'\n'):  # torn
            self._file.write(b'\n')

    def _take(self, record: Record) -> None:
        self.records[record.bag.name] = record
        if record.status == BEGUN:
            self._begun.add(record.bag.name)

    def _append(self, line: Mapping[str, Any]) -> None:
        rest = memoryview(json.dumps({**line, _CHECK: _check(line)}).encode() + b'\n')
        while rest:
            rest = rest[self._file.write(rest) :]
        os.fsync(self._file.fileno())


def read_manifest(folder: str) -> tuple[Mapping[str, Any], list[Record]]:
    """What the results of a folder are made with, and what became of each bag.

    Raises:
        ConfigError: when its manifest is of another version of the package, or damaged in its first line.
        OutputError: when the folder has no manifest.
    """
    remote = _RemoteCopy(folder) if is_remote(folder) else None  # it removes its file when it goes
    path = remote.path if remote else Path(folder) / MANIFEST
    try:
        told = _told(folder, path.read_bytes())
    except OSError:
        told = None
    if told is None:
        raise OutputError(f'{folder} has no {MANIFEST}; give the --out folder of a run')
    made_with, records = told
    return made_with, list({record.bag.name: record for record in records}.values())


def _told(folder: str, content: bytes) -> tuple[Mapping[str, Any], list[Record]] | None:
    """What a manifest says: what the results are made with, and every record; None when not even its first line is whole.

    Raises:
        ConfigError: when it is of another version of the package, or damaged in its first line.
    """
    header, *lines = [_parsed(line) for line in content.split(b'\n') if line] or [None]
    if header is None and lines:
        raise ConfigError(
            f'{folder}/{MANIFEST} is damaged in its first line; choose another folder, or make all results again with --force'
        )
    if header is None:
        return None
    if header.get('format') != _FORMAT:
        raise ConfigError(f'{folder}/{MANIFEST} was written by another version of the package; choose another folder')
    return header['made_with'], [record for line in lines if line is not None and (record := _record(line)) is not None]


class _RemoteCopy:
    """The manifest of an object store, which adds to no object: it is stored whole, at most each ten seconds."""

    def __init__(self, folder: str) -> None:
        import tempfile

        self._folder = tempfile.TemporaryDirectory(prefix='fused-encoder-')
        self._address = folder
        self._system, path = file_system(folder)
        self._at = f'{path.rstrip("/")}/{MANIFEST}'
        self._stored_s = time.monotonic()
        self.path = Path(self._folder.name) / MANIFEST
        with written(folder):
            if self._system.get_file_info(self._at).is_file:
                fetch(self._system, self._at, self.path)

    def store_now_and_then(self) -> None:
        if time.monotonic() - self._stored_s > _STORE_EACH_S:
            self.store()

    def store(self) -> None:
        with written(self._address):
            store(self._system, self.path, self._at)
        self._stored_s = time.monotonic()


def _parsed(line: bytes) -> dict[str, Any] | None:
    """None for what a program that was ended has torn, and for what a disk has damaged."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    check = value.pop(_CHECK, None)  # older lines have none
    return value if check in (None, _check(value)) else None


def _check(line: Mapping[str, Any]) -> int:
    return zlib.crc32(json.dumps(line, sort_keys=True).encode())


def _record(line: Mapping[str, Any]) -> Record | None:
    """None for what is no record."""
    try:
        return Record(**{**line, 'bag': BagRef(**line['bag']), 'outputs': tuple(line['outputs'])})
    except (TypeError, KeyError):
        return None
