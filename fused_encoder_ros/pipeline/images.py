"""Camera messages to RGB pixels at the encoder's size, on arrival.

Messages are duck-typed: rclpy's and the rosbags library's `sensor_msgs` Image and CompressedImage both work.
Common encodings are viewed in place and resized before the channels are put in order: OpenCV resizes each channel
by itself, so the pixels are the same and 84x84 instead of 640x480 are moved. (Only `cubic` rounds a few pixels differently,
by one grey level, for another number of channels.)
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.errors import DecodeError, first_line

Pixels = NDArray[np.uint8]

_INTERPOLATION = {
    'nearest': cv2.INTER_NEAREST,
    'linear': cv2.INTER_LINEAR,
    'area': cv2.INTER_AREA,
    'cubic': cv2.INTER_CUBIC,
}

_SCALE_16_TO_8 = 255.0 / 65535.0


@dataclass(frozen=True)
class _Encoding:
    """How one encoding lies in memory. `order` picks R, G, B out of the channels; None sends it to a converter."""

    dtype: str
    channels: int
    order: tuple[int, int, int] | None = None
    target: str = 'rgb8'
    alias: str = ''


_RGB, _BGR, _GREY = (0, 1, 2), (2, 1, 0), (0, 0, 0)

# To support another encoding, add an entry.
_ENCODINGS: dict[str, _Encoding] = {
    'rgb8': _Encoding('u1', 3, _RGB),
    'bgr8': _Encoding('u1', 3, _BGR),
    'rgba8': _Encoding('u1', 4, _RGB),
    'bgra8': _Encoding('u1', 4, _BGR),
    'mono8': _Encoding('u1', 1, _GREY),
    '8UC1': _Encoding('u1', 1, _GREY),
    **{f'bayer_{pattern}8': _Encoding('u1', 1) for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')},
    **{f'bayer_{p}16': _Encoding('u2', 1, target='rgb16') for p in ('rggb', 'bggr', 'gbrg', 'grbg')},
    'yuv422': _Encoding('u1', 2),
    'uyvy': _Encoding('u1', 2, alias='yuv422'),
    'yuv422_yuy2': _Encoding('u1', 2),
    'yuyv': _Encoding('u1', 2, alias='yuv422_yuy2'),
    'mono16': _Encoding('u2', 1, _GREY),
    'rgb16': _Encoding('u2', 3, _RGB),
    'bgr16': _Encoding('u2', 3, _BGR),
    'rgba16': _Encoding('u2', 4, _RGB),
    'bgra16': _Encoding('u2', 4, _BGR),
}

# Twelve bits a pixel: a plane of luma, then half as many rows of interleaved chroma. cv_bridge has neither.
_SEMI_PLANAR = {'nv12': cv2.COLOR_YUV2RGB_NV12, 'nv21': cv2.COLOR_YUV2RGB_NV21}

_UNTYPED = {'8UC3': 3, '8UC4': 4}
_ORDERS = {'rgb': _RGB, 'bgr': _BGR}

_JPEG_MAGIC, _JPEG_START_OF_SCAN, _JPEG_END = b'\xff\xd8', b'\xff\xda', b'\xff\xd9'
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of the segment that holds the size
_PNG_MAGIC, _PNG_END = b'\x89PNG\r\n\x1a\n', b'IEND'

# OpenCV would fill a gigapixel with grey from one damaged byte, in ten seconds and five gigabytes.
_MAX_COMPRESSED_PIXELS = 2**26


def image_content(message: Any) -> str:
    """What an image message holds, such as 'rgb8 640×480' or 'rgb8; jpeg compressed bgr8 640×480'."""
    if not hasattr(message, 'format'):
        return f'{message.encoding} {message.width}×{message.height}'
    width, height = _announced_size(bytes(memoryview(message.data).cast('B')))
    return f'{message.format} {width}×{height}'


class ImageDecoder:
    """Turns Image and CompressedImage messages into uint8 [S,S,3] RGB.

    Args:
        size: side S of the result, pixels.
        interpolation: one of `spec.INTERPOLATIONS`.
        untyped_color_order: 'rgb' or 'bgr' says what 8UC3 and 8UC4 images hold; '' refuses them.
    """

    def __init__(self, size: int, interpolation: str = 'linear', untyped_color_order: str = '') -> None:
        self._size = (size, size)
        self._interpolation = _INTERPOLATION[interpolation]
        self._encodings = dict(_ENCODINGS)
        if untyped_color_order:
            for name, channels in _UNTYPED.items():
                self._encodings[name] = _Encoding('u1', channels, _ORDERS[untyped_color_order])

    def decode(self, message: Any) -> Pixels:
        """Decode and resize one message.

        Raises:
            DecodeError: when the message is malformed, truncated, or of an encoding that would take a guess.
        """
        with _refusals():
            return self._resized(*self._decode(message))

    def decode_both(self, message: Any) -> tuple[Pixels, Pixels]:
        """As `decode`, and the same image as it came, uint8 [H,W,3] RGB."""
        with _refusals():
            image, order = self._decode(message)
            return self._resized(image, order), _in_order(image, order)

    def _decode(self, message: Any) -> tuple[Pixels, tuple[int, int, int]]:
        """The pixels of a message, uint8 [H,W] or [H,W,C], and which channels are R, G and B."""
        if hasattr(message, 'format'):
            return _decompress(message), self._compressed_order(message.format)
        if message.encoding in _SEMI_PLANAR:
            return _decode_semi_planar(message), _RGB
        encoding = self._encodings.get(message.encoding)
        if encoding is None:
            raise DecodeError(_unknown_encoding(message.encoding))
        image = _view(message, encoding)
        if encoding.order is None:
            return _in_8_bits(_convert(image, message, encoding)), _RGB
        return _in_8_bits(image), encoding.order

    def _compressed_order(self, text: str) -> tuple[int, int, int]:
        """The order of the channels that OpenCV gives for a compressed image: BGR for an ordinary file.

        image_transport writes `ENCODING; KIND compressed TARGET`, where TARGET is what was handed to OpenCV to write.
        Without a TARGET, pixels of ENCODING were handed over as they were.
        """
        encoding, separator, rest = text.partition(';')
        target = rest.partition('compressed')[2].strip()
        if not separator or target.startswith(('bgr', 'mono')):
            return _BGR
        if target.startswith('rgb'):
            return _RGB
        if encoding.startswith('bayer_'):
            raise DecodeError(f'format {text!r} is a compressed Bayer image; make the driver publish colour or the raw image')
        # OpenCV reads what lies first as blue: that is the first channel of ENCODING.
        layout = self._encodings.get(encoding)
        if encoding in _UNTYPED and layout is None:
            raise DecodeError(_unknown_encoding(encoding))
        return layout.order if layout is not None and layout.order is not None else _BGR

    def _resized(self, image: Pixels, order: tuple[int, int, int]) -> Pixels:
        return _in_order(np.asarray(cv2.resize(image, self._size, interpolation=self._interpolation), np.uint8), order)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except cv2.error as error:
        # As for a damaged header that announces gigapixels.
        raise DecodeError(f'OpenCV refuses the image: {first_line(error)}') from error


def _in_8_bits(image: NDArray[Any]) -> Pixels:
    if image.dtype != np.uint8:
        # Scaled over the full range and rounded, as cv_bridge does.
        return np.asarray(cv2.convertScaleAbs(np.ascontiguousarray(image), alpha=_SCALE_16_TO_8), np.uint8)
    return image


def _in_order(image: Pixels, order: tuple[int, int, int]) -> Pixels:
    """uint8 [H,W,3] RGB, in memory of its own."""
    if image.ndim == 2:
        image = image[..., np.newaxis]
    return np.ascontiguousarray(image[..., order])


def _unknown_encoding(name: str) -> str:
    if name in _UNTYPED:
        return (
            f'encoding {name} does not say whether the channels are RGB or BGR; set untyped_color_order to '
            "'bgr' (what OpenCV gives) or 'rgb', or make the driver publish rgb8 or bgr8"
        )
    if name[:2] in ('16', '32', '64') or name.startswith('8S'):
        return f'encoding {name} is depth or raw numbers, not a colour image; remap the camera to its colour topic'
    known = ', '.join((*_ENCODINGS, *_SEMI_PLANAR))
    return f'encoding {name!r} is unknown; make the driver publish one of: {known}'


def _checked_bytes(message: Any, rows: int, row_bytes: int) -> memoryview:
    """The message's data, checked against its own height, width and step."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = memoryview(message.data).cast('B')
    if height == 0 or width == 0:
        raise DecodeError(f'image is empty: {width}x{height} pixels')
    if step < row_bytes:
        raise DecodeError(
            f'step is {step} bytes, but a row of {width} {message.encoding} pixels takes {row_bytes}: '
            'this is a fault of the driver'
        )
    if len(data) != rows * step:
        raise DecodeError(
            f'data holds {len(data)} bytes, but {rows} rows of step {step} take {rows * step}: '
            'the image is truncated, or the driver has a fault'
        )
    return data


def _view(message: Any, encoding: _Encoding) -> NDArray[Any]:
    """The pixels in place: [H,W] or [H,W,C], row padding skipped, in native byte order."""
    itemsize = np.dtype(encoding.dtype).itemsize
    pixel_bytes = encoding.channels * itemsize
    data = _checked_bytes(message, int(message.height), int(message.width) * pixel_bytes)
    byte_order = '>' if message.is_bigendian else '<'
    shape: tuple[int, ...] = (int(message.height), int(message.width))
    strides: tuple[int, ...] = (int(message.step), pixel_bytes)
    if encoding.channels > 1:
        shape, strides = (*shape, encoding.channels), (*strides, itemsize)
    image: NDArray[Any] = np.ndarray(shape, byte_order + encoding.dtype, data, strides=strides)
    return image if image.dtype.isnative else image.astype(image.dtype.newbyteorder('='))


def _decode_semi_planar(message: Any) -> Pixels:
    height, width, step = int(message.height), int(message.width), int(message.step)
    if height % 2 or width % 2:
        raise DecodeError(f'{message.encoding} needs an even width and height, not {width}x{height}')
    data = _checked_bytes(message, height * 3 // 2, width)
    planes: Pixels = np.ndarray((height * 3 // 2, width), np.uint8, data, strides=(step, 1))
    return np.asarray(cv2.cvtColor(planes, _SEMI_PLANAR[message.encoding]), np.uint8)


def _convert(image: NDArray[Any], message: Any, encoding: _Encoding) -> NDArray[Any]:
    """Colour conversion by the library at hand, of an image that is contiguous and of native byte order."""
    plain = SimpleNamespace(
        height=image.shape[0],
        width=image.shape[1],
        encoding=encoding.alias or message.encoding,
        is_bigendian=int(sys.byteorder == 'big'),
        step=image.shape[1] * encoding.channels * image.itemsize,
        data=np.ascontiguousarray(image).tobytes(),
    )
    failures = []
    for name, convert in image_converters():
        try:
            return convert(plain, encoding.target)
        except Exception as error:
            # The libraries raise what their C++ raises, and older releases of cv_bridge lack some encodings.
            failures.append(f'{name}: {first_line(error)}')
    reason = (
        '; '.join(failures)
        or 'it needs cv_bridge (apt install ros-$ROS_DISTRO-cv-bridge) or rosbags-image (pip install rosbags-image)'
    )
    raise DecodeError(f'encoding {message.encoding} could not be converted: {reason}')


Converter = Callable[[Any, str], NDArray[Any]]


@functools.cache
def image_converters() -> tuple[tuple[str, Converter], ...]:
    """The libraries for the uncommon encodings, in order of preference: name, and (message, encoding) to pixels.

    They give the same pixels. An installed cv_bridge may fail to import: one that was built for NumPy 1 does beside
    NumPy 2, with an ImportError, an AttributeError or a SystemError. That must not take the node down.
    """
    found: list[tuple[str, Converter]] = []
    if importlib.util.find_spec('cv_bridge') is not None:
        try:
            from cv_bridge import CvBridge

            found.append(('cv_bridge', CvBridge().imgmsg_to_cv2))
        except Exception as error:
            logging.getLogger(__name__).warning('cv_bridge is installed but does not import: %s', error)
    if importlib.util.find_spec('rosbags') is not None and importlib.util.find_spec('rosbags.image') is not None:
        from rosbags.image import message_to_cvimage

        found.append(('rosbags-image', message_to_cvimage))
    return tuple(found)


def _decompress(message: Any) -> Pixels:
    """JPEG or PNG to uint8 [H,W,3] BGR; truncated data is refused, because OpenCV 4 fills the rest with grey."""
    data = bytes(memoryview(message.data).cast('B'))
    if any(word in message.format for word in ('16UC1', '32FC1', 'compressedDepth')):
        raise DecodeError(f'format {message.format!r} is a depth image; remap the camera to its colour topic')
    if data.startswith(_JPEG_MAGIC):
        kind, complete = 'JPEG', data.rfind(_JPEG_END) > data.rfind(_JPEG_START_OF_SCAN)
    elif data.startswith(_PNG_MAGIC):
        kind, complete = 'PNG', _png_is_complete(data)
    else:
        raise DecodeError(f'format {message.format!r}: the data is neither JPEG nor PNG ({len(data)} bytes)')
    width, height = _announced_size(data)
    if width * height > _MAX_COMPRESSED_PIXELS:
        raise DecodeError(f'the {kind} header announces {width}x{height} pixels: it is damaged')
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if complete else None
    if image is None:
        raise DecodeError(f'the {kind} data is truncated or damaged ({len(data)} bytes)')
    return np.asarray(image, np.uint8)


def _png_is_complete(data: bytes) -> bool:
    """Whether its chunks lead to the last one; OpenCV would reserve the gigabytes of a damaged chunk's length."""
    at = len(_PNG_MAGIC)
    while at + 12 <= len(data):
        if data[at + 4 : at + 8] == _PNG_END:
            return True
        at += 12 + int.from_bytes(data[at : at + 4], 'big')
    return False


def _announced_size(data: bytes) -> tuple[int, int]:
    """Width and height that a JPEG's or PNG's header announces; zeros where it announces none."""
    if data.startswith(_PNG_MAGIC):
        return int.from_bytes(data[16:20], 'big'), int.from_bytes(data[20:24], 'big')
    at = len(_JPEG_MAGIC)
    while at + 9 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in _JPEG_FRAMES:
            return int.from_bytes(data[at + 7 : at + 9], 'big'), int.from_bytes(data[at + 5 : at + 7], 'big')
        at += 2 + int.from_bytes(data[at + 2 : at + 4], 'big')
    return 0, 0
