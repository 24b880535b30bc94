"""Features to files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fused_encoder_ros.pipeline.data import JOINTS, Feature
from fused_encoder_ros.spec import CAMERAS

_ROWS_PER_GROUP = 4096

SHORT_NAMES = {'left_wrist': 'left', 'right_wrist': 'right', 'global': 'global', JOINTS: 'joints'}
"""Names of the sources in columns."""


def parquet_schema(feature_dim: int, joint_dim: int, metadata: Mapping[str, Any]) -> pa.Schema:
    """Columns of a feature file; `metadata` goes into the file as JSON by key."""
    fields = [
        pa.field('stamp_ns', pa.int64()),
        pa.field('feature', pa.list_(pa.float32(), feature_dim)),
        *(pa.field(f'{SHORT_NAMES[camera]}_stamp_ns', pa.int64()) for camera in CAMERAS),
        pa.field('joints', pa.list_(pa.float64(), joint_dim)),
        *(pa.field(f'{SHORT_NAMES[source]}_skew_ms', pa.float64()) for source in (*CAMERAS, JOINTS)),
    ]
    return pa.schema(fields, {f'fused_encoder.{key}': json.dumps(value) for key, value in metadata.items()})


class ParquetSink:
    """Writes features to one Parquet file, a row group at a time.

    Columns: `stamp_ns`; `feature` float32 [D]; `left_stamp_ns`, `right_stamp_ns`, `global_stamp_ns`; `joints` float64 [J],
    positions at `stamp_ns` before standardising; `left_skew_ms`, `right_skew_ms`, `global_skew_ms`, `joints_skew_ms`.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pq.ParquetWriter(path, schema, compression='zstd')
        self._rows: list[dict[str, Any]] = []

    def write(self, feature: Feature) -> None:
        """Append a feature."""
        observation = feature.observation
        skews = observation.skew_ns
        self._rows.append(
            {
                'stamp_ns': feature.stamp_ns,
                'feature': feature.values,
                'joints': observation.joint_positions,
                **{f'{SHORT_NAMES[camera]}_stamp_ns': observation.stamps_ns[camera] for camera in CAMERAS},
                **{f'{SHORT_NAMES[source]}_skew_ms': skews[source] / 1e6 for source in (*CAMERAS, JOINTS)},
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
