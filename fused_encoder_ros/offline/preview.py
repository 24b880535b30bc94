"""A small picture of each bag, beside its results: one set as it goes to the encoder."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import cv2
import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.offline.files import completed
from fused_encoder_ros.pipeline.outputs import side_by_side

LARGEST = 112
"""Pixels of a camera's side that are shown at most."""

_FOLDER = '.previews'
_QUALITY = 80


def preview_name(name: str) -> str:
    """Where the preview of a bag lies, below the folder of the results; `name` is that of its results."""
    path = PurePosixPath(name)
    return str(path.parent / _FOLDER / f'{path.name}.jpg')


def write_preview(folder: Path, name: str, images: NDArray[np.uint8]) -> None:
    """Write the cameras of stacked images uint8 [S,S,3C] beside each other as JPEG, and replace an earlier one.

    Raises:
        OutputError: when it cannot be written.
    """
    _, data = cv2.imencode('.jpg', shown(side_by_side(images))[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    with completed({'preview': folder / preview_name(name)}, force=True) as file:
        file['preview'].write_bytes(data.tobytes())


def shown(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixels [S,W,3] at the size in which they are shown: no larger than `LARGEST` high."""
    height, width, _ = pixels.shape
    if height <= LARGEST:
        return pixels
    size = round(width * LARGEST / height), LARGEST
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
