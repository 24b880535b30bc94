"""Features and observations in Parquet."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fused_encoder_ros.offline.episodes import Episode, Step
from fused_encoder_ros.offline.formats.rows import Rows
from fused_encoder_ros.pipeline.data import JOINTS, Feature, Observation
from fused_encoder_ros.spec import ObservationSpec


class ParquetSink:
    """Writes features to one Parquet file, a row group at a time; `metadata` goes into the file as JSON by key.

    Columns: `stamp_ns`; `feature` float32 [D]; `<camera>_stamp_ns` for each camera; `joints` float64 [J], positions at
    `stamp_ns` before standardising; `<source>_skew_ms` for each camera and `joint_states`; with `has_distance`,
    `feature_distance` float32, see `Feature.distance`.
    """

    def __init__(
        self,
        path: Path,
        spec: ObservationSpec,
        metadata: Mapping[str, Any],
        feature_dim: int,
        has_distance: bool = False,
    ) -> None:
        feature = pa.field('feature', pa.list_(pa.float32(), feature_dim))
        stamp, *others = _columns(spec)
        distance = [pa.field('feature_distance', pa.float32())] if has_distance else []
        self._table = _Table(path, [stamp, feature, *others, *distance], metadata)

    def __enter__(self) -> ParquetSink:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._table.close()

    def write(self, feature: Feature) -> None:
        """Append a feature."""
        row = {**_row(feature.observation), 'feature': feature.values}
        self._table.write(row | ({} if feature.distance is None else {'feature_distance': feature.distance}))


class ParquetEpisode:
    """Writes one episode to one Parquet file, a row a step.

    Columns as those of `ParquetSink`, and `action` float32 [A] and `<camera>_image` uint8 [H,W,3] for each camera, as Arrow's
    fixed-shape tensors; `feature` only where steps have one.
    """

    def __init__(self, path: Path, episode: Episode) -> None:
        self._path = path
        self._episode = episode
        self._table: _Table | None = None

    def __enter__(self) -> ParquetEpisode:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._table is None:
            self._table = _Table(self._path, _columns(self._episode.spec), self._episode.metadata)
        self._table.close()

    def write(self, step: Step) -> None:
        """Append a step."""
        images = {f'{camera}_image': image for camera, image in step.observation.camera_images.items()}
        vectors = {'action': step.action.astype(np.float32)}
        if step.feature is not None:
            vectors['feature'] = step.feature
        if self._table is None:
            fields = [
                *_columns(self._episode.spec),
                *(pa.field(name, pa.list_(pa.float32(), vector.size)) for name, vector in vectors.items()),
                *(pa.field(name, pa.fixed_shape_tensor(pa.uint8(), image.shape)) for name, image in images.items()),
            ]
            self._table = _Table(self._path, fields, self._episode.metadata)
        self._table.write({**_row(step.observation), **vectors, **images})


class _Table:
    def __init__(self, path: Path, fields: list[pa.Field], metadata: Mapping[str, Any]) -> None:
        about = {f'fused_encoder.{key}': json.dumps(value) for key, value in metadata.items()}
        self._schema = pa.schema(fields, about)
        # A dictionary of the 256 values of a byte only makes images larger.
        plain = [field.name for field in fields if not isinstance(field.type, pa.FixedShapeTensorType)]
        self._writer = pq.ParquetWriter(path, self._schema, compression='zstd', use_dictionary=plain, write_page_checksum=True)
        self._rows = Rows()

    def write(self, row: Mapping[str, Any]) -> None:
        self._rows.add(row)
        if self._rows.is_full:
            self._flush()

    def close(self) -> None:
        """Write what is left and the file's footer."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if columns := self._rows.take():
            arrays = [_array(columns[field.name], field.type) for field in self._schema]
            self._writer.write_table(pa.table(arrays, schema=self._schema))


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Numbers as Arrow has them in memory. `pa.array` would import pandas where that is installed, in half a second."""
    is_tensor = isinstance(kind, pa.FixedShapeTensorType)
    number = kind.value_type if is_tensor or pa.types.is_fixed_size_list(kind) else kind
    numbers = np.ascontiguousarray(values, number.to_pandas_dtype())
    array = pa.Array.from_buffers(number, numbers.size, [None, pa.py_buffer(numbers)])
    if number is kind:
        return array
    rows = pa.FixedSizeListArray.from_arrays(array, numbers[0].size)
    return pa.ExtensionArray.from_storage(kind, rows) if is_tensor else rows


def _columns(spec: ObservationSpec) -> list[pa.Field]:
    return [
        pa.field('stamp_ns', pa.int64()),
        *(pa.field(f'{camera}_stamp_ns', pa.int64()) for camera in spec.cameras),
        pa.field('joints', pa.list_(pa.float64(), len(spec.joint_names))),
        *(pa.field(f'{source}_skew_ms', pa.float64()) for source in (*spec.cameras, JOINTS)),
    ]


def _row(observation: Observation) -> dict[str, Any]:
    return {
        'stamp_ns': observation.stamp_ns,
        'joints': observation.joint_positions,
        **{f'{source}_stamp_ns': stamp_ns for source, stamp_ns in observation.stamps_ns.items() if source != JOINTS},
        **{f'{source}_skew_ms': skew_ns / 1e6 for source, skew_ns in observation.skew_ns.items()},
    }
