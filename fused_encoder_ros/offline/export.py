"""Features to files. Output appears under its final name only when it is complete."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from fused_encoder_ros.errors import OutputError
from fused_encoder_ros.pipeline.data import JOINTS, Feature
from fused_encoder_ros.spec import CAMERAS

_ROWS_PER_GROUP = 4096
_ASIDE = 'replaced'

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


@contextmanager
def completed(outputs: Mapping[str, Path], force: bool) -> Iterator[dict[str, Path]]:
    """Give temporary paths to write to, and move them to their final places when the block ends well.

    With `force` an existing output gives way: a file to a file, a bag's folder to a bag's folder, and nothing else.
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
        work = Path(tempfile.mkdtemp(prefix='.partial-', dir=folder))
        temporary = {name: work / final.name for name, final in outputs.items()}
        yield temporary
        for final in outputs.values():
            _check_replaceable(final, force)  # something may have appeared meanwhile
        _replace_all([(temporary[name], final) for name, final in outputs.items()], work / _ASIDE)
    except OSError as error:
        reason = error.strerror or error
        raise OutputError(f'output folder {folder} cannot be written: {reason}; choose another place') from error
    finally:
        # What could not be put back stays where it is.
        if work is not None and not any((work / _ASIDE).glob('*')):
            shutil.rmtree(work, ignore_errors=True)


def _check_replaceable(final: Path, force: bool) -> None:
    if not os.path.lexists(final):
        return
    if not force:
        raise OutputError(f'{final} exists already; use --force to replace it, or choose another place')
    is_bag = final.is_dir() and (final / 'metadata.yaml').is_file()
    if final.is_symlink() or not (is_bag or final.is_file()):
        raise OutputError(f'{final} exists and is no result of this program; it is not replaced even with --force')


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
