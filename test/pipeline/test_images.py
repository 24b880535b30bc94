"""Decoding: the right pixels or a clear refusal, never a guess."""

from __future__ import annotations

import importlib.util
import zlib

import cv2
import numpy as np
import pytest
import ros_messages
from hypothesis import given, settings
from hypothesis import strategies as st

from fused_encoder_ros.errors import DecodeError
from fused_encoder_ros.pipeline import images
from fused_encoder_ros.pipeline.images import ImageDecoder, image_content

RNG = np.random.default_rng(7)
SCENE = RNG.integers(0, 256, (48, 64, 3), dtype=np.uint8)
SMOOTH = cv2.resize(RNG.integers(0, 256, (6, 8, 3), dtype=np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)


def trained(rgb: np.ndarray, size: int = 84) -> np.ndarray:
    """What training did: resize the uint8 RGB image."""
    return cv2.resize(rgb, (size, size), interpolation=cv2.INTER_LINEAR)


@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    padding=st.integers(0, 13),
    encoding=st.sampled_from(['rgb8', 'bgr8', 'rgba8', 'bgra8', 'mono8', '8UC1']),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=150, deadline=None)
def test_common_encodings_equal_converting_first(height: int, width: int, padding: int, encoding: str, seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    alpha = np.full((height, width, 1), 17, np.uint8)
    stored = {
        'rgb8': rgb,
        'bgr8': rgb[..., ::-1],
        'rgba8': np.dstack([rgb, alpha]),
        'bgra8': np.dstack([rgb[..., ::-1], alpha]),
        'mono8': rgb[..., 0],
        '8UC1': rgb[..., 0],
    }[encoding]
    if encoding in ('mono8', '8UC1'):
        rgb = np.repeat(rgb[..., :1], 3, axis=2)
    decoded = ImageDecoder(84).decode(ros_messages.image(pixels=stored, encoding=encoding, padding=padding))
    assert decoded.dtype == np.uint8 and decoded.flags.c_contiguous
    np.testing.assert_array_equal(decoded, trained(rgb))


def test_resize_follows_the_spec() -> None:
    message = ros_messages.image(pixels=SCENE)
    for name, flag in (('area', cv2.INTER_AREA), ('nearest', cv2.INTER_NEAREST), ('cubic', cv2.INTER_CUBIC)):
        expected = cv2.resize(SCENE, (32, 32), interpolation=flag)
        np.testing.assert_array_equal(ImageDecoder(32, name).decode(message), expected)


@pytest.mark.parametrize(
    ('encoding', 'code'),
    [
        ('bayer_rggb8', cv2.COLOR_BayerBG2RGB),
        ('bayer_bggr8', cv2.COLOR_BayerRG2RGB),
        ('bayer_gbrg8', cv2.COLOR_BayerGR2RGB),
        ('bayer_grbg8', cv2.COLOR_BayerGB2RGB),
    ],
)
@pytest.mark.parametrize('padding', [0, 5])
def test_bayer(encoding: str, code: int, padding: int) -> None:
    mosaic = np.ascontiguousarray(SCENE[..., 0])
    decoded = ImageDecoder(84).decode(ros_messages.image(pixels=mosaic, encoding=encoding, padding=padding))
    np.testing.assert_array_equal(decoded, trained(cv2.cvtColor(mosaic, code)))


def test_bayer_pattern_by_hand() -> None:
    """A red surface seen through RGGB: only the even-even sites are lit, so the picture is red and not blue."""
    mosaic = np.zeros((16, 16), np.uint8)
    mosaic[0::2, 0::2] = 200
    red, green, blue = ImageDecoder(8).decode(ros_messages.image(pixels=mosaic, encoding='bayer_rggb8'))[4, 4]
    assert red > 150 and green < 50 and blue < 50


@pytest.mark.parametrize(
    ('encoding', 'code'),
    [
        ('yuv422', cv2.COLOR_YUV2RGB_UYVY),
        ('uyvy', cv2.COLOR_YUV2RGB_UYVY),
        ('yuv422_yuy2', cv2.COLOR_YUV2RGB_YUYV),
        ('yuyv', cv2.COLOR_YUV2RGB_YUYV),
    ],
)
def test_yuv422(encoding: str, code: int) -> None:
    packed = np.ascontiguousarray(SCENE[..., :2])
    decoded = ImageDecoder(84).decode(ros_messages.image(pixels=packed, encoding=encoding, padding=6))
    np.testing.assert_array_equal(decoded, trained(cv2.cvtColor(packed, code)))


@pytest.mark.parametrize(('encoding', 'code'), [('nv12', cv2.COLOR_YUV2RGB_NV12), ('nv21', cv2.COLOR_YUV2RGB_NV21)])
@pytest.mark.parametrize('padding', [0, 8])
def test_semi_planar(encoding: str, code: int, padding: int) -> None:
    planes = RNG.integers(0, 256, (72, 64), dtype=np.uint8)
    message = ros_messages.image(pixels=planes, encoding=encoding, padding=padding)
    message.height = 48
    np.testing.assert_array_equal(ImageDecoder(84).decode(message), trained(cv2.cvtColor(planes, code)))


@pytest.mark.parametrize('is_bigendian', [False, True])
@pytest.mark.parametrize('encoding', ['mono16', 'rgb16', 'bgr16', 'rgba16', 'bayer_rggb16'])
def test_sixteen_bits_scale_to_the_full_range(encoding: str, is_bigendian: bool) -> None:
    """A level of 8 bits times 257 is the same level of 16 bits, so the two images must agree."""
    eight = {
        'mono16': SCENE[..., 0],
        'rgb16': SCENE,
        'bgr16': SCENE[..., ::-1],
        'rgba16': np.dstack([SCENE, SCENE[..., :1]]),
        'bayer_rggb16': np.full((48, 64), 90, np.uint8),
    }[encoding]
    same = ImageDecoder(84).decode(ros_messages.image(pixels=eight, encoding=encoding.replace('16', '8')))
    sixteen = eight.astype(np.uint16) * 257
    message = ros_messages.image(pixels=sixteen, encoding=encoding, is_bigendian=is_bigendian, padding=4)
    np.testing.assert_array_equal(ImageDecoder(84).decode(message), same)


def test_untyped_channels_need_to_be_declared() -> None:
    message = ros_messages.image(pixels=SCENE, encoding='8UC3')
    with pytest.raises(DecodeError, match='untyped_color_order'):
        ImageDecoder(84).decode(message)
    np.testing.assert_array_equal(ImageDecoder(84, untyped_color_order='rgb').decode(message), trained(SCENE))
    np.testing.assert_array_equal(ImageDecoder(84, untyped_color_order='bgr').decode(message), trained(SCENE[..., ::-1]))


@pytest.mark.parametrize(
    ('encoding', 'says'), [('16UC1', 'depth'), ('32FC1', 'depth'), ('32FC3', 'depth'), ('hsv9', "'hsv9' is unknown")]
)
def test_depth_and_unknown_encodings_are_refused(encoding: str, says: str) -> None:
    with pytest.raises(DecodeError, match=says):
        ImageDecoder(84).decode(ros_messages.image(encoding=encoding))


def test_without_a_converter_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, 'image_converters', lambda: ())
    with pytest.raises(DecodeError, match=r'needs cv_bridge .* or rosbags-image'):
        ImageDecoder(84).decode(ros_messages.image(pixels=SCENE[..., 0], encoding='bayer_rggb8'))


def test_malformed_images_are_refused() -> None:
    decoder = ImageDecoder(84)
    short = ros_messages.image(pixels=SCENE)
    short.data = short.data[:-1]
    with pytest.raises(DecodeError, match=r'data holds 9215 bytes, but 48 rows of step 192 take 9216'):
        decoder.decode(short)
    narrow = ros_messages.image(pixels=SCENE)
    narrow.step = 100
    with pytest.raises(DecodeError, match='step is 100 bytes'):
        decoder.decode(narrow)
    empty = ros_messages.image(pixels=SCENE)
    empty.height = 0
    with pytest.raises(DecodeError, match='empty'):
        decoder.decode(empty)
    odd = ros_messages.image(pixels=np.zeros((72, 63), np.uint8), encoding='nv12')
    with pytest.raises(DecodeError, match='even width'):
        decoder.decode(odd)


@pytest.mark.parametrize('kind', ['jpeg', 'png'])
def test_compressed(kind: str) -> None:
    message = ros_messages.compressed(ros_messages.T0, SMOOTH, kind)
    decoded = ImageDecoder(84).decode(message)
    difference = np.abs(decoded.astype(int) - trained(SMOOTH))
    # JPEG loses some colour; channels in the wrong order would differ by tens of levels.
    assert difference.mean() <= (0 if kind == 'png' else 4)


@pytest.mark.parametrize('kind', ['jpeg', 'png'])
@pytest.mark.parametrize('kept', [0.05, 0.5, 0.98])
def test_truncated_files_are_refused(kind: str, kept: float) -> None:
    message = ros_messages.compressed(ros_messages.T0, SCENE, kind)
    message.data = message.data[: int(kept * len(message.data))]
    with pytest.raises(DecodeError, match='truncated or damaged'):
        ImageDecoder(84).decode(message)


@pytest.mark.parametrize('side', [9_000, 30_000, 65_000])
def test_headers_that_announce_too_many_pixels_are_refused(side: int) -> None:
    """OpenCV itself would take 30000 a side, fill them with grey, and freeze the node meanwhile."""
    png = ros_messages.compressed(ros_messages.T0, SMOOTH, 'png')
    data = bytearray(png.data.tobytes())
    data[16:24] = side.to_bytes(4, 'big') * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, 'big')
    jpeg = ros_messages.compressed(ros_messages.T0, SMOOTH)
    frame = bytearray(jpeg.data.tobytes())
    sof = frame.index(b'\xff\xc0')
    frame[sof + 5 : sof + 9] = side.to_bytes(2, 'big') * 2
    for message, damaged in ((png, data), (jpeg, frame)):
        message.data = np.frombuffer(bytes(damaged), np.uint8)
        with pytest.raises(DecodeError, match=f'header announces {side}x{side} pixels: it is damaged'):
            ImageDecoder(84).decode(message)


def test_a_png_with_a_damaged_chunk_is_refused() -> None:
    """Its length says two gigabytes."""
    png = ros_messages.compressed(ros_messages.T0, SCENE, 'png')
    at = bytes(png.data).index(b'IDAT') - 4
    png.data[at : at + 4] = np.frombuffer(b'\x7b\x00\x20\x00', np.uint8)
    with pytest.raises(DecodeError, match='truncated or damaged'):
        ImageDecoder(84).decode(png)


@pytest.mark.parametrize('kind', ['jpeg', 'png'])
def test_the_content_of_compressed_images(kind: str) -> None:
    message = ros_messages.compressed(ros_messages.T0, np.zeros((48, 64, 3), np.uint8), kind)
    assert image_content(message) == f'rgb8; {kind} compressed bgr8 64×48'
    for size in range(0, 400, 7):  # a damaged one has some, too
        message.data = message.data[:size]
        assert image_content(message).startswith(f'rgb8; {kind} compressed bgr8 ')


def test_compressed_raw_pixels_are_no_guess() -> None:
    message = ros_messages.compressed(ros_messages.T0, SMOOTH, 'png')
    message.format = 'bayer_rggb8; png compressed '
    with pytest.raises(DecodeError, match='compressed Bayer image'):
        ImageDecoder(84).decode(message)
    message.format = 'bayer_rggb8; png compressed bgr8'
    np.testing.assert_array_equal(ImageDecoder(84).decode(message), trained(SMOOTH))
    message.format = '8UC3; png compressed '
    with pytest.raises(DecodeError, match='untyped_color_order'):
        ImageDecoder(84).decode(message)
    for text in ('rgb8; png compressed ', 'bgr8; png compressed rgb8'):
        message.format = text  # an RGB array was written as if it were BGR
        message.data = cv2.imencode('.png', SMOOTH)[1]
        np.testing.assert_array_equal(ImageDecoder(84).decode(message), trained(SMOOTH))
    message.format = '8UC3; png compressed '
    message.data = cv2.imencode('.png', SMOOTH)[1]
    np.testing.assert_array_equal(ImageDecoder(84, untyped_color_order='rgb').decode(message), trained(SMOOTH))


def test_jpeg_with_padding_behind_its_end_is_whole() -> None:
    message = ros_messages.compressed(ros_messages.T0, SMOOTH)
    expected = ImageDecoder(84).decode(message)
    message.data = np.concatenate([message.data, np.zeros(64, np.uint8)])
    np.testing.assert_array_equal(ImageDecoder(84).decode(message), expected)


def test_other_files_and_depth_are_refused() -> None:
    message = ros_messages.compressed(ros_messages.T0, SMOOTH)
    message.data = np.frombuffer(b'GIF89a' + bytes(64), np.uint8)
    with pytest.raises(DecodeError, match='neither JPEG nor PNG'):
        ImageDecoder(84).decode(message)
    depth = ros_messages.compressed(ros_messages.T0, SMOOTH, 'png')
    depth.format = '16UC1; compressedDepth png'
    with pytest.raises(DecodeError, match='depth'):
        ImageDecoder(84).decode(depth)


@pytest.mark.skipif(
    importlib.util.find_spec('cv_bridge') is None, reason='cv_bridge is not on the Python package index; it comes with ROS'
)
def test_cv_bridge_and_rosbags_image_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    converters = dict(images.image_converters())
    assert list(converters) == ['cv_bridge', 'rosbags-image']
    monkeypatch.setattr(images, 'image_converters', lambda: (('cv_bridge', converters['cv_bridge']),))
    messages = [
        ros_messages.image(pixels=np.ascontiguousarray(SCENE[..., 0]), encoding=f'bayer_{pattern}8', padding=3)
        for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')
    ]
    messages.append(ros_messages.image(pixels=np.ascontiguousarray(SCENE[..., :2]), encoding='yuv422', padding=2))
    wide = SCENE[..., 0].astype(np.uint16) * 200
    messages.append(ros_messages.image(pixels=wide, encoding='bayer_rggb16', is_bigendian=True))
    by_bridge = [ImageDecoder(84).decode(message) for message in messages]
    monkeypatch.setattr(images, 'image_converters', lambda: (('rosbags-image', converters['rosbags-image']),))
    for message, expected in zip(messages, by_bridge):
        np.testing.assert_array_equal(ImageDecoder(84).decode(message), expected)
