"""Episodes in HDF5, as training codes read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.offline.episodes import Step
from fused_encoder_ros.spec import CAMERAS, ObservationSpec

_LAPO_IMAGES = dict(zip(CAMERAS, ('left_image', 'right_image', 'global_image')))
_ROWS_AT_ONCE = 64


class Hdf5Sink:
    """Writes one episode to one file.

    Layout 'lapo', that of the training code: `observations/left_image`, `right_image` and `global_image`, of other cameras
    `<camera>_image`, uint8 [N,S,S,3]; `observations/joint` float32 [N,J]; `actions` float32 [N,A]; `rewards` float32 [N],
    all 0; `terminals` bool [N], true at the last step. Layout 'aloha': `observations/images/<camera>`, `observations/qpos`
    and `action`, of the same shapes.

    Both hold `stamp_ns` int64 [N] and `skew_ms/<source>` float64 [N], and the metadata as JSON in the file's attributes.
    Joints and actions are as recorded, not standardised.
    """

    def __init__(self, path: Path, spec: ObservationSpec, layout: str, metadata: Mapping[str, Any]) -> None:
        import h5py

        self._file = h5py.File(path, 'w')
        self._spec = spec
        self._aloha = layout == 'aloha'
        self._rows: dict[str, list[Any]] = {}
        for key, value in metadata.items():
            self._file.attrs[f'fused_encoder.{key}'] = json.dumps(value)
        if self._aloha:
            self._file.attrs['sim'] = False

    def write(self, step: Step) -> None:
        """Append a step."""
        observation = step.observation
        images = observation.images
        for number, camera in enumerate(self._spec.cameras):
            self._add(self._image_name(camera), images[..., 3 * number : 3 * number + 3])
        joints = observation.joint_positions.astype(np.float32)
        self._add('observations/qpos' if self._aloha else 'observations/joint', joints)
        self._add('action' if self._aloha else 'actions', step.action.astype(np.float32))
        self._add('stamp_ns', np.int64(observation.stamp_ns))
        for source, skew_ns in observation.skew_ns.items():
            self._add(f'skew_ms/{source}', np.float64(skew_ns / 1e6))
        if len(self._rows['stamp_ns']) == _ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write what is left."""
        if self._rows:
            self._flush()
        count = len(self._file['stamp_ns']) if 'stamp_ns' in self._file else 0
        if not self._aloha:
            self._file.create_dataset('rewards', data=np.zeros(count, np.float32))
            self._file.create_dataset('terminals', data=np.arange(count) == count - 1)
        self._file.close()

    def _image_name(self, camera: str) -> str:
        if self._aloha:
            return f'observations/images/{camera}'
        return f'observations/{_LAPO_IMAGES.get(camera, f"{camera}_image")}'

    def _add(self, name: str, value: NDArray[Any] | np.generic) -> None:
        self._rows.setdefault(name, []).append(value)

    def _flush(self) -> None:
        for name, values in self._rows.items():
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
        self._rows.clear()
