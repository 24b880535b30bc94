"""Messages as a damaged driver, a wire or a stranger may send them: well-formed CDR, contents that lie.

Each is of the rosbags library's classes; `cdr` gives the bytes that rclpy's classes are made of too.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import ros_messages

from fused_encoder_ros.offline.bag import typestore
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.spec import CAMERAS

IMAGE, COMPRESSED, JOINT_STATE = (f'sensor_msgs/msg/{name}' for name in ('Image', 'CompressedImage', 'JointState'))

ENCODINGS = (
    *('rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', '8UC1', '8UC3', '8UC4', 'mono16', 'rgb16', 'bgra16', '16UC1', '32FC3'),
    *(
        'bayer_rggb8',
        'bayer_grbg16',
        'yuv422',
        'uyvy',
        'yuyv',
        'yuv422_yuy2',
        'nv12',
        'nv21',
        '',
        'RGB8',
        'rgb8 ',
        'h264',
        '∞',
    ),
)
FORMATS = (
    '',
    ';',
    'jpeg',
    'png',
    '8UC3; png compressed ',
    'bayer_rggb8; png compressed ',
    '16UC1; compressedDepth png',
    ';;∞',
)
SIZES = (0, 1, 2, 3, 7, 24, 25, 32, 33, 96, 2**16, 2**31, 2**32 - 1)
SECONDS = (-(2**31), -1, 0, 1, 2**31 - 1)
NANOSECONDS = (0, 1, 999_999_999, 1_000_000_000, 2**32 - 1)
NUMBERS = (0.0, float('nan'), float('inf'), -float('inf'), 1.7e308, -1.7e308, 5e-324)
_LARGE = 8 * 2**20

_store = typestore()


def cdr(message: Any) -> bytes:
    """As it travels."""
    return bytes(_store.serialize_cdr(message, message.__msgtype__))


class Mutator:
    """Draws mutated messages; the same random numbers give the same ones.

    Args:
        compressed: share of the cameras' messages that are compressed.
    """

    def __init__(self, rng: random.Random, joint_names: tuple[str, ...], compressed: float) -> None:
        self._rng = rng
        self._joint_names = joint_names
        self._compressed = compressed

    def message(self, source: str, stamp_ns: int) -> Any:
        """A message for a source, stamped as said or not."""
        if source == JOINTS:
            message = self.joints(stamp_ns)
        else:
            message = self.compressed(stamp_ns) if self._rng.random() < self._compressed else self.image(stamp_ns)
        if self._rng.random() < 0.3:
            message.header.stamp.sec = self._rng.choice((*SECONDS, message.header.stamp.sec))
            message.header.stamp.nanosec = self._rng.choice(NANOSECONDS)
        return message

    def image(self, stamp_ns: int) -> Any:
        """An image whose fields contradict each other, or fit each other in an unusual way."""
        rng = self._rng
        message = ros_messages.image(stamp_ns)
        message.encoding = rng.choice(ENCODINGS)
        message.is_bigendian = rng.choice((0, 1, 255))
        if rng.random() < 0.5:  # sizes that fit
            message.height, message.width = rng.randint(0, 40), rng.randint(0, 40)
            message.step = message.width * rng.choice((1, 2, 3, 4, 6, 8)) + rng.randint(0, 3)
            rows = message.height * 3 // 2 if message.encoding.startswith('nv') else message.height
            message.data = self._noise(rows * message.step)
        else:
            for name in ('height', 'width', 'step'):
                if rng.random() < 0.6:
                    setattr(message, name, rng.choice(SIZES))
            if rng.random() < 0.6:
                message.data = self._noise(rng.choice((0, 1, 575, 577, 40_000)))
            elif rng.random() < 0.02:
                message.data = np.zeros(_LARGE, np.uint8)
        return message

    def compressed(self, stamp_ns: int) -> Any:
        """A JPEG or PNG that was cut, flipped or spliced, or is none, or of a format that lies."""
        rng = self._rng
        picture = self._noise(24 * 32 * 3).reshape(24, 32, 3)
        message = ros_messages.compressed(stamp_ns, picture, rng.choice(('jpeg', 'png')))
        if rng.random() < 0.4:
            message.format = rng.choice(FORMATS)
        data = mutated_bytes(rng, message.data.tobytes()) if rng.random() < 0.8 else b''
        message.data = np.frombuffer(data, np.uint8)
        return message

    def joints(self, stamp_ns: int) -> Any:
        """Names and positions of different numbers, twice the same name, and numbers that are none."""
        rng = self._rng
        names = [rng.choice((*self._joint_names, '', 'wheel', '∞')) for _ in range(rng.choice((0, 1, 3, 16)))]
        if rng.random() < 0.6:
            names = list(self._joint_names)
        if rng.random() < 0.02:
            names = [f'joint_{i}' for i in range(20_000)]
        count = len(names) if rng.random() < 0.7 else rng.choice((0, 1, 17, 2000))
        positions = [rng.choice(NUMBERS) if rng.random() < 0.2 else rng.uniform(-3, 3) for _ in range(count)]
        return ros_messages.joint_state(stamp_ns, names, positions)

    def _noise(self, size: int) -> np.ndarray:
        return np.frombuffer(self._rng.randbytes(size), np.uint8)


def good_message(source: str, stamp_ns: int, joint_names: tuple[str, ...]) -> Any:
    """What a source should send."""
    if source == JOINTS:
        return ros_messages.joint_state(stamp_ns, joint_names, [0.1] * len(joint_names))
    return ros_messages.image(stamp_ns, np.full((24, 32, 3), 40 + 20 * CAMERAS.index(source), np.uint8))


def mutated_bytes(rng: random.Random, data: bytes) -> bytes:
    """Bytes flipped, cut off, cut out, spliced in from elsewhere, or zeroed, once or a few times."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 3, 20))):
        at = rng.randrange(len(changed) + 1)
        length = rng.choice((1, 4, 8, 64, 1024))
        kind = rng.randrange(6)
        if kind <= 1 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8) if kind else 0xFF
        elif kind == 2:
            del changed[at : len(changed) if rng.random() < 0.3 else at + length]
        elif kind == 3:
            source = rng.randrange(len(changed) + 1)
            changed[at:at] = changed[source : source + length]
        elif kind == 4:
            changed[at : at + length] = bytes(len(changed[at : at + length]))
        else:
            changed[at : at + 8] = rng.choice((2**63 - 1, 2**64 - 1, 2**31, 2**32 - 1)).to_bytes(8, 'little')
    return bytes(changed)
