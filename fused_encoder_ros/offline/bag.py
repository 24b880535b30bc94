"""Bags of ROS 1 and ROS 2, read and written through the rosbags library."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Connection, MessageDefinition, MessageDefinitionFormat
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from fused_encoder_ros.errors import BagError, OutputError, first_line
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.settings import COMPRESSED_SUFFIX, absolute
from fused_encoder_ros.settings.topics import COMPRESSED_IMAGE, IMAGE, JOINT_STATE, Topic, expected_kind

STORAGES = {'mcap': StoragePlugin.MCAP, 'sqlite3': StoragePlugin.SQLITE3}

_BAG_VERSION: Literal[8] = 8
"""Of rosbag2's metadata: the oldest that rosbags writes, so that older distributions read it too."""

_REPAIR = 'repair it with `ros2 bag reindex`, `mcap recover` or `rosbag reindex`'

_NO_FILE_NAME = re.compile('[?#]|%[0-9A-Fa-f]{2}')
"""What is no part of a file's name in an address."""


def bag_name(path: Path) -> str:
    """What results of a bag are named after: the name of its file or folder."""
    return path.resolve().stem if path.is_file() else path.resolve().name


def typestore() -> Typestore:
    """Message classes of ROS 2, for bags that bring no definitions and for writing."""
    return get_typestore(Stores.ROS2_HUMBLE)


def open_bag(path: Path) -> AnyReader:
    """A reader of a rosbag1 file, a rosbag2 folder, or a single .mcap or .db3 file; close it.

    Raises:
        BagError: naming the bag and the fix, when it cannot be read.
    """
    if not path.exists():
        raise BagError(f'bag {path} does not exist')
    if not (path.is_file() or path.is_dir()):
        raise BagError(
            f'bag {path} is neither a file nor a folder, and cannot be read from more than once; store it in a file'
        )
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        raise BagError(f'bag {path} has no metadata.yaml: run `ros2 bag reindex {path}`, or give its .mcap or .db3 file')
    _check_databases(path)
    try:
        reader = _reader(path)
        reader.open()
    except Exception as error:
        # The storages raise what sqlite3, struct, YAML and zstd raise; all of it means that this is no readable bag.
        raise BagError(f'bag {path} cannot be read: {_reason(error)}. If the recording was cut off, {_REPAIR}') from error
    for connection in reader.connections:
        # The library takes what metadata.yaml says, whatever it is.
        kinds = (connection.topic, str), (connection.msgtype, str), (connection.msgcount, int)
        if not all(isinstance(value, kind) for value, kind in kinds):
            reader.close()
            raise BagError(
                f'bag {path}: its metadata.yaml is damaged at topic {connection.topic!r}; write it again with '
                f'`ros2 bag reindex {path}`, or give its .mcap or .db3 file'
            )
    return reader


def messages_of(path: Path, connections: Collection[int]) -> Iterator[tuple[Connection, Any, int]]:
    """Yield (connection, message, time of recording in nanoseconds) of the connections with these ids.

    Raises:
        BagError: when the bag ends in the middle, has fewer messages than it says, or a message is not of the type that it is
            recorded as.
    """
    if not connections:
        return  # the library takes no connections for all of them
    read: Counter[int] = Counter()
    try:
        # A reader of its own: SQLite's belongs to the thread that opened it, and this may be another.
        with _reader(path) as reader:
            wanted = [connection for connection in reader.connections if connection.id in connections]
            for connection, recorded_ns, raw in reader.messages(wanted):
                read[connection.id] += 1
                yield connection, reader.deserialize(raw, connection.msgtype), recorded_ns
    except Exception as error:
        raise BagError(f'bag {path} is damaged: {_reason(error)}. Nothing was written for it; {_REPAIR}') from error
    for connection in wanted:
        # The library passes over what it does not find.
        if read[connection.id] < connection.msgcount:
            part = f'{read[connection.id]} of {connection.msgcount} messages on {connection.topic}'
            raise BagError(f'bag {path} is damaged: only {part} can be read. Nothing was written for it; {_REPAIR}')


def _reader(path: Path) -> AnyReader:
    reader = AnyReader([path], default_typestore=typestore())
    if reader.is2:
        reader.readers = [_Ros2Reader(path)]
    return reader


class _Ros2Reader(Reader):
    """A bag of ROS 2, of which no topic is lost for what does not matter here."""

    def open(self) -> None:
        """As the library's, but other topics and other QoS count for nothing."""
        super().open()
        # The library parses every definition, and gives the bag up at the first that it cannot, as of a service's events.
        known, none = typestore().fielddefs, MessageDefinition(MessageDefinitionFormat.NONE, '')
        connections = self.storage.connections
        connections[:] = [c if c.msgtype in known else c._replace(msgdef=none, digest='') for c in connections]
        # It gives no messages of topics whose QoS is another in metadata.yaml than in the files; people edit it for playback.
        for storage in getattr(self.storage, 'storages', ()):
            storage.connections[:] = [_with_qos_of(c, connections) for c in storage.connections]


def _with_qos_of(stored: Connection, connections: Sequence[Connection]) -> Connection:
    same = [c for c in connections if (c.topic, c.msgtype) == (stored.topic, stored.msgtype)]
    return stored if not same or stored.ext in [c.ext for c in same] else stored._replace(ext=same[0].ext)


def _check_databases(path: Path) -> None:
    """Whether the library reads SQLite files as they are: it opens them by address, and has SQLite ignore their logs.

    Raises:
        BagError: when it would open another file, or miss messages.
    """
    for database in sorted(path.glob('*.db3')) if path.is_dir() else [path]:
        if database.suffix != '.db3':
            continue
        if _NO_FILE_NAME.search(str(database)):
            raise BagError(f'bag {path}: SQLite cannot read {database}, for its path contains ?, # or %; rename it')
        for log in (database.with_name(database.name + suffix) for suffix in ('-wal', '-journal')):
            if log.is_file() and log.stat().st_size:
                raise BagError(
                    f'bag {path}: {log.name} holds messages that are not yet in {database.name}. Wait until the recording has '
                    f'ended; if it was cut off, complete the file with `sqlite3 {database} "PRAGMA quick_check"`'
                )


class Bag:
    """The messages of the encoder's sources in a bag, in the order they were recorded.

    Args:
        path: a rosbag1 file, a rosbag2 folder, or a single .mcap or .db3 file.
        topics: topics of each source; relative names count from the root.
        require_all: whether every source must have all its topics.

    Attributes:
        kinds: message type of each source that has a topic.
        lacks: why each source that lacks one of its topics does.
        recorded_ns: by source, when the first and the last of the messages that were read so far had been recorded.

    Raises:
        BagError: naming the bag and the fix, when it cannot be read or lacks a topic.
    """

    def __init__(self, path: Path, topics: Mapping[str, tuple[str, ...]], require_all: bool = True) -> None:
        self.path = path
        self._reader = open_bag(path)
        self._connections: list[tuple[Connection, str]] = []
        self.kinds: dict[str, str] = {}
        self.lacks: dict[str, str] = {}
        self.recorded_ns: dict[str, tuple[int, int]] = {}
        for source, topic in ((source, topic) for source, names in topics.items() for topic in names):
            found = self._find(source, topic)
            if isinstance(found, str):
                self.lacks[source] = '; '.join(filter(None, (self.lacks.get(source), found)))
            else:
                self._connections += [(connection, source) for connection in found]
                self.kinds[source] = found[0].msgtype
        if require_all and self.lacks:
            self._reader.close()
            raise BagError(f'bag {path}: {next(iter(self.lacks.values()))}')

    def __enter__(self) -> Bag:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._reader.close()

    @property
    def topics(self) -> list[Topic]:
        """Every topic of the bag, whoever it is for, by name."""
        counts: dict[tuple[str, str], int] = {}
        for connection in self._reader.connections:
            key = absolute(connection.topic), connection.msgtype
            counts[key] = counts.get(key, 0) + connection.msgcount
        return [Topic(name, kind, count) for (name, kind), count in sorted(counts.items())]

    @property
    def offered(self) -> dict[str, list[str]]:
        """Reliability of each source's publishers, as far as the bag says it: 'reliable' or 'best_effort'."""
        offered: dict[str, list[str]] = {}
        for connection, source in self._connections:
            profiles = getattr(connection.ext, 'offered_qos_profiles', [])
            offered.setdefault(source, []).extend(profile.reliability.name.lower() for profile in profiles)
        return offered

    @property
    def unreached(self) -> list[str]:
        """None: what a bag has can be read."""
        return []

    @property
    def message_count(self) -> int:
        """Number of messages on the sources' topics."""
        return sum(connection.msgcount for connection, _ in self._connections)

    def messages(self) -> Iterator[tuple[str, Any, int]]:
        """Yield (source, message, time of recording in nanoseconds).

        Raises:
            BagError: when the bag ends in the middle, or a message is not of the type that it is recorded as.
        """
        sources = {connection.id: source for connection, source in self._connections}
        for connection, message, recorded_ns in messages_of(self.path, sources):
            source = sources[connection.id]
            first_ns, _ = self.recorded_ns.setdefault(source, (recorded_ns, recorded_ns))
            self.recorded_ns[source] = first_ns, recorded_ns
            yield source, message, recorded_ns

    def _find(self, source: str, topic: str) -> list[Connection] | str:
        """The connections of a topic, of which a ROS 1 bag has one for each publisher; or why there are none."""
        wanted = absolute(topic)
        expected = expected_kind(source, topic)
        connections = self._reader.connections
        here = [c for c in connections if absolute(c.topic) == wanted]
        fitting = [c for c in here if c.msgtype == expected]
        if fitting:
            return fitting
        if here:
            return f'topic {wanted} is {here[0].msgtype}, but topics.{source} needs {expected}' + (
                f"; a compressed camera's topic must end with {COMPRESSED_SUFFIX}" if source != JOINTS else ''
            )
        accepted = (JOINT_STATE,) if source == JOINTS else (IMAGE, COMPRESSED_IMAGE)
        offered = sorted({f'{c.topic} ({c.msgtype})' for c in connections if c.msgtype in accepted})
        if not offered:
            return f'no topic {wanted} for {source}, and no topic of type {" or ".join(accepted)}'
        return f'no topic {wanted} for {source}; the bag has {", ".join(offered)}. Set topics.{source} or use --topic'


class BagWriter:
    """Writes a new rosbag2.

    Args:
        path: folder to create.
        storage: one of `STORAGES`.
        connections: message type of each topic.
        metadata: goes into its metadata as `custom_data`.

    Raises:
        OutputError: when it cannot be created.
    """

    def __init__(
        self, path: Path, storage: str, connections: Mapping[str, str], metadata: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        if storage == 'sqlite3' and _NO_FILE_NAME.search(str(path)):
            raise OutputError(
                f'bag {path} cannot be written: SQLite takes no path with ?, # or %; choose another name, or MCAP'
            )
        self.types = typestore().types
        self._typestore = typestore()
        self._writer = Writer(path, version=_BAG_VERSION, storage_plugin=STORAGES[storage])
        for key, value in metadata.items():
            self._writer.set_custom_data(key, value)
        try:
            self._writer.open()
        except OSError as error:
            raise OutputError(
                f'bag {path} cannot be written: {error.strerror}; choose a folder that you may write to'
            ) from error
        self._connections = {
            topic: self._writer.add_connection(topic, kind, typestore=self._typestore) for topic, kind in connections.items()
        }

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._writer.close()

    def write(self, topic: str, message: Any, recorded_ns: int) -> None:
        """Append a message of the topic's type."""
        connection = self._connections[topic]
        self._writer.write(connection, recorded_ns, self._typestore.serialize_cdr(message, connection.msgtype))


def image_message(types: Mapping[str, Any], stamp_ns: int, frame_id: str, pixels: NDArray[np.uint8]) -> Any:
    """Image rgb8 of uint8 [H,W,3] in one piece of memory."""
    height, width, channels = pixels.shape
    return types[IMAGE](
        header=_header(types, stamp_ns, frame_id),
        height=height,
        width=width,
        encoding='rgb8',
        is_bigendian=0,
        step=width * channels,
        data=pixels.reshape(-1),
    )


def joint_message(
    types: Mapping[str, Any], stamp_ns: int, frame_id: str, names: Sequence[str], positions: NDArray[np.float64]
) -> Any:
    """JointState of positions alone."""
    empty = np.array([], np.float64)
    return types[JOINT_STATE](
        header=_header(types, stamp_ns, frame_id), name=list(names), position=positions, velocity=empty, effort=empty
    )


def _header(types: Mapping[str, Any], stamp_ns: int, frame_id: str) -> Any:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = types['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    return types['std_msgs/msg/Header'](stamp=stamp, frame_id=frame_id)


def pack(values: np.ndarray) -> np.ndarray:
    """Arrays as the rosbags library's messages take them: as they are."""
    return values


def _reason(error: Exception) -> str:
    text = first_line(error).rstrip('.')
    return f'{type(error).__name__}: {text}' if text else type(error).__name__
