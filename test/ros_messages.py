"""Real ROS messages, of the rosbags library's classes, for tests that need no DDS."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from fused_encoder_ros.offline.bag import typestore

_TYPES = typestore().types
MS = 1_000_000
T0 = 1_700_000_000 * 1_000_000_000


def header(stamp_ns: int) -> Any:
    sec, nanosec = divmod(stamp_ns, 1_000_000_000)
    stamp = _TYPES['builtin_interfaces/msg/Time'](sec=sec, nanosec=nanosec)
    return _TYPES['std_msgs/msg/Header'](stamp=stamp, frame_id='camera')


def image(
    stamp_ns: int = T0,
    pixels: np.ndarray | None = None,
    encoding: str = 'rgb8',
    padding: int = 0,
    is_bigendian: bool = False,
) -> Any:
    """An Image of these pixels; `padding` bytes of garbage follow each row."""
    if pixels is None:
        pixels = np.zeros((12, 16, 3), np.uint8)
    rows = np.ascontiguousarray(pixels).reshape(pixels.shape[0], -1)
    if is_bigendian:
        rows = rows.byteswap()
    rows = rows.view(np.uint8)
    rows = np.hstack([rows, np.full((rows.shape[0], padding), 0xA5, np.uint8)])
    width = pixels.shape[1] // (2 if encoding in ('yuv422', 'uyvy', 'yuyv', 'yuv422_yuy2') and pixels.ndim == 2 else 1)
    return _TYPES['sensor_msgs/msg/Image'](
        header=header(stamp_ns),
        height=pixels.shape[0],
        width=width,
        encoding=encoding,
        is_bigendian=int(is_bigendian),
        step=rows.shape[1],
        data=rows.reshape(-1),
    )


def compressed(stamp_ns: int, pixels: np.ndarray, kind: str = 'jpeg') -> Any:
    """A CompressedImage of RGB pixels."""
    ok, data = cv2.imencode('.jpg' if kind == 'jpeg' else f'.{kind}', pixels[..., ::-1])
    assert ok
    return _TYPES['sensor_msgs/msg/CompressedImage'](
        header=header(stamp_ns), format=f'rgb8; {kind} compressed bgr8', data=data
    )


def joint_state(stamp_ns: int, names: Sequence[str], positions: Sequence[float]) -> Any:
    empty = np.array([], np.float64)
    return _TYPES['sensor_msgs/msg/JointState'](
        header=header(stamp_ns), name=list(names), position=np.array(positions, np.float64), velocity=empty, effort=empty
    )
