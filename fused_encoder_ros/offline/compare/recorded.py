"""Features of a file: Parquet as `encode` writes it, or a bag with the node's output topics."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rosbags.interfaces import Connection

from fused_encoder_ros.errors import FeaturesError, first_line
from fused_encoder_ros.offline.bag import messages_of, open_bag
from fused_encoder_ros.offline.files import BAG_SUFFIXES
from fused_encoder_ros.pipeline.data import JOINTS, stamp_to_ns
from fused_encoder_ros.pipeline.outputs import SETS_TOPIC, STAMPED_TOPIC, TYPES
from fused_encoder_ros.settings import absolute

_ROWS = 4096

_ABOUT = b'fused_encoder.'

JOINT_POSITIONS = 'joints'
STAMP_SUFFIX = '_stamp_ns'

_HELD = f'{JOINTS}_skew_ms'

_NEEDED = 'stamp_ns (int64) and feature (float32 of a fixed length), as `fused-encoder encode` writes them'


@dataclass(frozen=True)
class RecordedFeatures:
    """The sets of a file, by rising stamp.

    Attributes:
        path: of the file.
        stamps_ns: int64 [N], no two of which are equal.
        values: float32 [N,D], which may hold NaN and infinity.
        inputs: what each set was made of, where the file says it: `<camera>_stamp_ns` int64 [N], `joints` float64 [N,J], and
            `joint_states_skew_ms` float64 [N]. The skews of the cameras follow from their stamps.
        told: bool [N], the sets that `inputs` holds for.
        made_with: what the file says it was made with, as JSON has it.
    """

    path: Path
    stamps_ns: NDArray[np.int64]
    values: NDArray[np.float32]
    inputs: Mapping[str, NDArray]
    told: NDArray[np.bool_]
    made_with: Mapping[str, Any]


def read_recorded(path: Path, topic: str = '') -> RecordedFeatures:
    """Read a Parquet file or a bag: 1 KB of memory a set of 256 values, and the inputs.

    Args:
        path: a Parquet file, a rosbag2 folder, or a .mcap, .db3 or .bag file.
        topic: of the features in a bag; empty takes the one that ends with `fused_feature_stamped`.

    Raises:
        BagError: when it is a bag that cannot be read.
        FeaturesError: when it holds no features, or two of one stamp.
    """
    if not path.exists():
        raise FeaturesError(f'{path} does not exist; give a Parquet file of `fused-encoder encode`, or a bag')
    if path.is_dir() and not (path / 'metadata.yaml').is_file():
        raise FeaturesError(f'{path} is a folder but not a rosbag2 bag; give a Parquet file or a bag')
    is_bag = path.is_dir() or path.suffix in BAG_SUFFIXES
    return _in_order(_of_bag(path, topic) if is_bag else _of_parquet(path))


def _in_order(recorded: RecordedFeatures) -> RecordedFeatures:
    stamps_ns = recorded.stamps_ns
    if not stamps_ns.size:
        raise FeaturesError(f'{recorded.path} contains no sets')
    if (stamps_ns[1:] > stamps_ns[:-1]).all():
        return recorded
    order = np.argsort(stamps_ns)
    stamps_ns = stamps_ns[order]
    again = np.flatnonzero(stamps_ns[1:] == stamps_ns[:-1])
    if again.size:
        raise FeaturesError(
            f'{recorded.path}: several sets have the same stamp (the first is {stamps_ns[again[0]]} ns), so it is unclear '
            'which belong together. This happens if a bag is played in a loop: record only one pass of it'
        )
    inputs = {name: column[order] for name, column in recorded.inputs.items()}
    return RecordedFeatures(recorded.path, stamps_ns, recorded.values[order], inputs, recorded.told[order], recorded.made_with)


# Parquet


def _of_parquet(path: Path) -> RecordedFeatures:
    try:
        # What it would buffer is the whole file.
        with pq.ParquetFile(path, pre_buffer=False, page_checksum_verification=True) as file:
            return _columns(path, file)
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:  # a damaged footer may say anything
        raise FeaturesError(
            f'{path} cannot be read as Parquet: {first_line(error)}; give a file that `fused-encoder encode` has written, '
            'or a bag'
        ) from error


def _columns(path: Path, file: pq.ParquetFile) -> RecordedFeatures:
    schema = file.schema_arrow
    kinds = dict(zip(schema.names, schema.types))
    feature = kinds.get('feature')
    if kinds.get('stamp_ns') != pa.int64() or not _is_vector(feature, pa.float32()):
        has = ', '.join(f'{name} ({kind})' for name, kind in list(kinds.items())[:8]) or 'no column'
        raise FeaturesError(f'{path} holds no features: it needs {_NEEDED}, and has {has}')
    rows = file.metadata.num_rows
    columns: dict[str, NDArray] = {}
    for name, kind in kinds.items():
        if name in ('stamp_ns', 'feature') or _is_input(name, kind):
            shape = (rows, kind.list_size) if pa.types.is_fixed_size_list(kind) else rows
            columns[name] = np.empty(shape, (kind.value_type if pa.types.is_fixed_size_list(kind) else kind).to_pandas_dtype())
    at = 0
    for batch in file.iter_batches(_ROWS, columns=list(columns)):
        for name, column in zip(batch.schema.names, batch.columns):
            if column.null_count:
                raise FeaturesError(
                    f'{path}: column {name} has rows without a value; use a file as `fused-encoder encode` wrote it'
                )
            numbers = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
            part = columns[name][at : at + batch.num_rows]
            part[:] = numbers.to_numpy(zero_copy_only=False).reshape(part.shape)
        at += batch.num_rows
    if at != rows:
        raise FeaturesError(f'{path} is damaged: it should have {rows} rows but has {at}; encode its bag again')
    about = {key: value for key, value in (schema.metadata or {}).items() if key.startswith(_ABOUT)}
    return RecordedFeatures(
        path=path,
        stamps_ns=columns.pop('stamp_ns'),
        values=columns.pop('feature'),
        inputs=columns,
        told=np.full(rows, bool(columns)),
        made_with={key.removeprefix(_ABOUT).decode(errors='replace'): _json(value) for key, value in about.items()},
    )


def _is_input(name: str, kind: pa.DataType) -> bool:
    if name == JOINT_POSITIONS:
        return _is_vector(kind, pa.float64())
    return (name.endswith(STAMP_SUFFIX) and kind == pa.int64()) or (name == _HELD and kind == pa.float64())


def _is_vector(kind: pa.DataType | None, of: pa.DataType) -> bool:
    return kind is not None and pa.types.is_fixed_size_list(kind) and kind.value_type == of and kind.list_size > 0


def _json(value: bytes) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value.decode(errors='replace')


# Bags


def _of_bag(path: Path, topic: str) -> RecordedFeatures:
    with closing(open_bag(path)) as reader:
        connections = list(reader.connections)
    topic = _topic_of(path, connections, topic)
    sets_topic = f'{topic.rpartition("/")[0]}/{SETS_TOPIC}'
    kinds = {topic: TYPES[STAMPED_TOPIC], sets_topic: TYPES[SETS_TOPIC]}
    wanted = {c.id: absolute(c.topic) for c in connections if kinds.get(absolute(c.topic)) == c.msgtype}
    stamps_ns: list[int] = []
    values = bytearray()
    hashes: dict[str, None] = {}
    sets: dict[int, Mapping[str, Any]] = {}
    for connection, message, _ in messages_of(path, wanted):
        if wanted[connection.id] == sets_topic:
            sets.update(_inputs_of_set(message.data))
            continue
        stamp_ns = stamp_to_ns(message.header.stamp)
        _check_message(path, topic, message, stamp_ns, len(values) // max(len(stamps_ns), 1))
        stamps_ns.append(stamp_ns)
        values += message.data.tobytes()
        hashes[message.header.frame_id] = None
    if not stamps_ns:
        raise FeaturesError(f'{path} contains no sets: topic {topic} has no messages')
    inputs, told = _columns_of_sets(stamps_ns, sets)
    return RecordedFeatures(
        path=path,
        stamps_ns=np.array(stamps_ns, np.int64),
        values=np.frombuffer(values, '<f4').reshape(len(stamps_ns), -1),
        inputs=inputs,
        told=told,
        made_with={'model_hash': next(iter(hashes)) if len(hashes) == 1 else list(hashes)},
    )


def _topic_of(path: Path, connections: list[Connection], topic: str) -> str:
    images = sorted({absolute(c.topic) for c in connections if c.msgtype == TYPES[STAMPED_TOPIC]})
    found = [name for name in images if (name == absolute(topic) if topic else name.endswith(f'/{STAMPED_TOPIC}'))]
    if len(found) > 1:
        raise FeaturesError(f'bag {path} contains features of several nodes: {", ".join(found)}; choose one with --topic')
    if not found:
        has = f'has {", ".join(images)}' if images else f'has none of {TYPES[STAMPED_TOPIC]}'
        raise FeaturesError(
            f'bag {path} holds no features: no topic {absolute(topic) if topic else f"…/{STAMPED_TOPIC}"}, and it {has}. '
            f'Record {STAMPED_TOPIC} of the node, or name its topic with --topic'
        )
    return found[0]


def _check_message(path: Path, topic: str, message: Any, stamp_ns: int, usual_bytes: int) -> None:
    size = message.data.size
    form = message.encoding, message.height, message.is_bigendian, message.step, 4 * message.width
    if form != ('32FC1', 1, 0, size, size) or not size:
        raise FeaturesError(
            f'bag {path}: {topic} holds a picture ({message.encoding}, {message.width}×{message.height}) instead of a feature '
            f'at {stamp_ns} ns; name the topic of the features with --topic'
        )
    if usual_bytes and size != usual_bytes:
        raise FeaturesError(
            f'bag {path}: {topic} holds features of {usual_bytes // 4} and, at {stamp_ns} ns, of {size // 4} values; the '
            'encoder was exchanged during the recording; record only one encoder'
        )


def _inputs_of_set(text: str) -> dict[int, Mapping[str, Any]]:
    """What the node says of a set, by its stamp; nothing for a drop, and for what is no line of the node's."""
    report = _json(text.encode())
    try:
        stamps = {f'{source}{STAMP_SUFFIX}': int(ns) for source, ns in report['stamps_ns'].items() if source != JOINTS}
        positions = np.array(report['joint_positions'], np.float64)
        return {report['stamp_ns']: {**stamps, JOINT_POSITIONS: positions, _HELD: float(report['skew_ms'][JOINTS])}}
    except (AttributeError, KeyError, TypeError, ValueError):
        return {}


def _columns_of_sets(
    stamps_ns: list[int], sets: Mapping[int, Mapping[str, Any]]
) -> tuple[dict[str, NDArray], NDArray[np.bool_]]:
    """A column for each input, and which rows it holds for: a recording may lack the reports of some sets."""
    example = next((sets[stamp_ns] for stamp_ns in stamps_ns if stamp_ns in sets), {})
    kinds = {name: np.shape(value) for name, value in example.items()}
    rows = [sets.get(stamp_ns, {}) for stamp_ns in stamps_ns]
    told = [bool(row) and {name: np.shape(value) for name, value in row.items()} == kinds for row in rows]
    columns = {name: np.array([(row if is_told else example)[name] for row, is_told in zip(rows, told)]) for name in example}
    return columns, np.array(told)
