"""Episodes in HDF5, as training codes read them."""

from __future__ import annotations

import io
import json
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from fused_encoder_ros.offline.episodes import Episode, Step
from fused_encoder_ros.offline.formats.rows import Rows
from fused_encoder_ros.spec import CAMERAS

_LAPO_IMAGES = dict(zip(CAMERAS, ('left_image', 'right_image', 'global_image')))


class Hdf5Episode:
    """Writes one episode to one file.

    The layout of the training code: `observations/left_image`, `right_image` and `global_image`, of other cameras
    `<camera>_image`, uint8 [N,H,W,3]; `observations/joint` float32 [N,J]; `actions` float32 [N,A]; `rewards` float32 [N],
    all 0; `terminals` bool [N], true at the last step. That of ALOHA: `observations/images/<camera>`, `observations/qpos`
    and `action`, of the same shapes.

    Both hold `stamp_ns` int64 [N], `skew_ms/<source>` float64 [N], where steps have features `fused_feature` float32 [N,D],
    and the metadata as JSON in the file's attributes. Joints and actions are as recorded, not standardised.
    """

    def __init__(self, path: Path, episode: Episode, aloha: bool = False) -> None:
        import h5py

        self._disk = _Disk(path, 'w+')
        self._file = h5py.File(self._disk, 'w')
        self._aloha = aloha
        self._rows = Rows()
        for key, value in episode.metadata.items():
            self._file.attrs[f'fused_encoder.{key}'] = json.dumps(value)
        if self._aloha:
            self._file.attrs['sim'] = False

    def __enter__(self) -> Hdf5Episode:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._disk, self._file:
            self._flush()
            if not self._aloha:
                count = len(self._file['stamp_ns']) if 'stamp_ns' in self._file else 0
                self._file.create_dataset('rewards', data=np.zeros(count, np.float32))
                self._file.create_dataset('terminals', data=np.arange(count) == count - 1)
        self._disk.check()

    def write(self, step: Step) -> None:
        """Append a step."""
        observation = step.observation
        row: dict[str, Any] = {self._image_name(camera): image for camera, image in observation.camera_images.items()}
        row['observations/qpos' if self._aloha else 'observations/joint'] = observation.joint_positions.astype(np.float32)
        row['action' if self._aloha else 'actions'] = step.action.astype(np.float32)
        if step.feature is not None:
            row['fused_feature'] = step.feature
        skews_ms = {f'skew_ms/{source}': np.float64(skew_ns / 1e6) for source, skew_ns in observation.skew_ns.items()}
        self._rows.add({**row, 'stamp_ns': np.int64(observation.stamp_ns), **skews_ms})
        if self._rows.is_full:
            self._flush()
            self._disk.check()

    def _image_name(self, camera: str) -> str:
        if self._aloha:
            return f'observations/images/{camera}'
        return f'observations/{_LAPO_IMAGES.get(camera, f"{camera}_image")}'

    def _flush(self) -> None:
        for name, values in self._rows.take().items():
            rows = np.stack(values)
            if name not in self._file:
                is_image = rows.dtype == np.uint8
                self._file.create_dataset(
                    name,
                    data=rows,
                    maxshape=(None, *rows.shape[1:]),
                    chunks=(1, *rows.shape[1:]) if is_image else True,  # a training step reads single images
                    compression='gzip' if is_image else None,
                    compression_opts=1 if is_image else None,
                )
            else:
                dataset = self._file[name]
                dataset.resize(len(dataset) + len(rows), axis=0)
                dataset[-len(rows) :] = rows


class _Disk(io.FileIO):
    """A file that takes everything, and tells afterwards what could not be written: HDF5 crashes when a write fails."""

    _error: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all of it, or nothing from the first error on."""
        rest = memoryview(data).cast('B')
        size = len(rest)
        try:
            while rest and self._error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self._error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """As any file, but for its errors."""
        try:
            return super().truncate(size)
        except OSError as error:
            self._error = error
            return size or 0

    def check(self) -> None:
        """Raises OSError when something could not be written."""
        if self._error is not None:
            raise self._error
