"""Features to files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fused_encoder_ros.pipeline.data import JOINTS, Feature
from fused_encoder_ros.spec import ObservationSpec

_ROWS_PER_GROUP = 4096


def parquet_schema(feature_dim: int, spec: ObservationSpec, metadata: Mapping[str, Any]) -> pa.Schema:
    """Columns of a feature file; `metadata` goes into the file as JSON by key."""
    fields = [
        pa.field('stamp_ns', pa.int64()),
        pa.field('feature', pa.list_(pa.float32(), feature_dim)),
        *(pa.field(f'{camera}_stamp_ns', pa.int64()) for camera in spec.cameras),
        pa.field('joints', pa.list_(pa.float64(), len(spec.joint_names))),
        *(pa.field(f'{source}_skew_ms', pa.float64()) for source in (*spec.cameras, JOINTS)),
    ]
    return pa.schema(fields, {f'fused_encoder.{key}': json.dumps(value) for key, value in metadata.items()})


class ParquetSink:
    """Writes features to one Parquet file, a row group at a time.

    Columns: `stamp_ns`; `feature` float32 [D]; `<camera>_stamp_ns` for each camera; `joints` float64 [J], positions at
    `stamp_ns` before standardising; `<source>_skew_ms` for each camera and `joint_states`.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression='zstd')
        self._rows: list[dict[str, Any]] = []

    def write(self, feature: Feature) -> None:
        """Append a feature."""
        observation = feature.observation
        self._rows.append(
            {
                'stamp_ns': feature.stamp_ns,
                'feature': feature.values,
                'joints': observation.joint_positions,
                **{f'{source}_stamp_ns': stamp_ns for source, stamp_ns in observation.stamps_ns.items()},
                **{f'{source}_skew_ms': skew_ns / 1e6 for source, skew_ns in observation.skew_ns.items()},
            }
        )
        if len(self._rows) == _ROWS_PER_GROUP:
            self._flush()

    def _flush(self) -> None:
        columns = {name: [row[name] for row in self._rows] for name in self._schema.names}
        self._writer.write_table(pa.table(columns, schema=self._schema))
        self._rows.clear()

    def close(self) -> None:
        """Write what is left and the file's footer."""
        if self._rows:
            self._flush()
        self._writer.close()
