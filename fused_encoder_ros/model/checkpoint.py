"""Checkpoints of the training code: recognise what they hold, and build the encoder for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fused_encoder_ros.errors import CheckpointError, in_one_line
from fused_encoder_ros.model.encoder import STREAM_SUFFIX, Encoder, ImageJointEncoder, ThreeStreamEncoder
from fused_encoder_ros.model.options import SINGLE, THREE_STREAM
from fused_encoder_ros.model.state_dict import read_state_dict
from fused_encoder_ros.spec import CAMERAS, ObservationSpec

_FEATURE = '.fc.weight'
_SINGLE_FEATURE = f'image_encoder{_FEATURE}'
_CONV1 = 'image_encoder.resnet.0.weight'
_JOINTS = 'joint_fc.0.weight'  # of either design


@dataclass(frozen=True)
class Dimensions:
    """What is read off a checkpoint.

    Attributes:
        design: one of `DESIGNS`.
        joint_dim: number of joints.
        image_feature_dim: width of an image feature.
        fusion_dim: width of the fused feature.
        camera_count: number of cameras.
        cameras: their names, where the design has an encoder for each; empty otherwise.
    """

    design: str
    joint_dim: int
    image_feature_dim: int
    fusion_dim: int
    camera_count: int = len(CAMERAS)
    cameras: tuple[str, ...] = ()


def read_dimensions(state: Mapping[str, Tensor], source: str, cameras: Sequence[str] = CAMERAS) -> Dimensions:
    """Read the dimensions off a state dict of either design.

    Args:
        state: names and tensors.
        source: names the file in errors.
        cameras: those of the spec, which say in what order encoders for each camera belong.

    Raises:
        CheckpointError: when keys are missing.
    """
    design = SINGLE if _SINGLE_FEATURE in state else THREE_STREAM
    streams = _in_order([name.removesuffix(STREAM_SUFFIX + _FEATURE) for name in state if _is_stream(name)], cameras)
    if design == THREE_STREAM and not streams:
        raise CheckpointError(
            f'checkpoint: {source} is of neither design: it has no {_SINGLE_FEATURE} and no CAMERA{STREAM_SUFFIX}{_FEATURE} '
            f'(its keys begin: {", ".join(sorted(state)[:3])})'
        )
    try:
        return Dimensions(
            design=design,
            joint_dim=state[_JOINTS].shape[1],
            image_feature_dim=state[_SINGLE_FEATURE if design == SINGLE else streams[0] + STREAM_SUFFIX + _FEATURE].shape[0],
            fusion_dim=state['fusion_fc.3.weight'].shape[0],
            camera_count=_stacked_cameras(state[_CONV1], source) if design == SINGLE else len(streams),
            cameras=() if design == SINGLE else streams,
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(f'checkpoint: {source} looks like a {design} encoder but is incomplete: {error}') from error


def _is_stream(name: str) -> bool:
    return name.endswith(STREAM_SUFFIX + _FEATURE) and '.' not in name.removesuffix(_FEATURE) and name != _SINGLE_FEATURE


def _in_order(streams: list[str], cameras: Sequence[str]) -> tuple[str, ...]:
    """Cameras in the order in which the encoder joins their features, which the names alone do not say."""
    if set(streams) == set(CAMERAS):
        return CAMERAS  # the training code's own
    return tuple(cameras) if set(streams) == set(cameras) else tuple(streams)


def _stacked_cameras(conv1: Tensor, source: str) -> int:
    channels = conv1.shape[1]
    if channels % 3:
        raise CheckpointError(f'checkpoint: {source} takes images of {channels} channels, which is not a multiple of 3')
    return channels // 3


def dimensions_of(encoder: Encoder) -> Dimensions:
    """The design and dimensions of an encoder."""
    cameras = encoder.cameras if isinstance(encoder, ThreeStreamEncoder) else CAMERAS
    return read_dimensions(encoder.state_dict(), type(encoder).__name__, cameras)


def build_encoder(dimensions: Dimensions) -> Encoder:
    """An encoder of these dimensions, randomly initialised."""
    sizes = dimensions.joint_dim, dimensions.image_feature_dim, dimensions.fusion_dim
    if dimensions.design == SINGLE:
        return ImageJointEncoder(*sizes, camera_count=dimensions.camera_count)
    return ThreeStreamEncoder(*sizes, cameras=dimensions.cameras)


def load_encoder(path: str | os.PathLike[str], design: str = 'auto', cameras: Sequence[str] = CAMERAS) -> Encoder:
    """Load a checkpoint into an encoder of the right design and size, in eval mode.

    Args:
        path: a state dict of the training code (.pth or .safetensors), or a packed checkpoint.
        design: 'single' or 'three_stream' to require that design; 'auto' takes what the checkpoint holds.
        cameras: names of the cameras, in channel order.

    Raises:
        CheckpointError: if the file cannot be read, holds another design, or lacks keys or has surplus ones.
    """
    return encoder_of(read_state_dict(path, _JOINTS), str(path), design, cameras)


def encoder_of(state: Mapping[str, Tensor], source: str, design: str = 'auto', cameras: Sequence[str] = CAMERAS) -> Encoder:
    """The encoder of a state dict; see `load_encoder`. `source` names the file in errors."""
    dimensions = read_dimensions(state, source, cameras)
    check_design(dimensions, design, source)
    for name, tensor in state.items():
        if not tensor.is_floating_point() and not name.endswith('num_batches_tracked'):
            raise CheckpointError(f'checkpoint: {source} holds {name} as {tensor.dtype}; save it as floating-point numbers')
    with _Uninitialised():
        encoder = build_encoder(dimensions)
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(
            f'checkpoint: {source} does not fit the {dimensions.design} design: {in_one_line(error)}'
        ) from error
    return encoder.eval()


class _Uninitialised(TorchFunctionMode):
    """Modules that are built in it draw no random weights: that takes long, and those of the checkpoint overwrite them."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_) or getattr(func, '__module__', '') == nn.init.__name__:
            return None
        return func(*args, **(kwargs or {}))


def check_fits(encoder: Encoder, spec: ObservationSpec, source: str) -> None:
    """Raises CheckpointError when an encoder takes other joints or cameras than the spec names."""
    if encoder.joint_dim != len(spec.joint_names):
        raise CheckpointError(
            f'checkpoint: {source} was trained with {encoder.joint_dim} joints, but joint_names lists '
            f'{len(spec.joint_names)}: {list(spec.joint_names)}; list the joints of the training data, in its order'
        )
    fix = 'name the cameras of the training data, in its channel order'
    if isinstance(encoder, ThreeStreamEncoder):
        if set(encoder.cameras) != set(spec.cameras):
            raise CheckpointError(
                f'checkpoint: {source} has encoders for {", ".join(encoder.cameras)}, but cameras lists '
                f'{", ".join(spec.cameras)}; {fix}'
            )
    elif encoder.camera_count != len(spec.cameras):
        raise CheckpointError(
            f'checkpoint: {source} takes images of {3 * encoder.camera_count} channels, from {encoder.camera_count} '
            f'camera(s), but cameras lists {len(spec.cameras)}, which make {spec.channels}: {", ".join(spec.cameras)}; {fix}'
        )


def check_design(dimensions: Dimensions, design: str, source: str) -> None:
    """Raises CheckpointError when `design` is neither 'auto' nor that of the dimensions."""
    if design not in ('auto', dimensions.design):
        raise CheckpointError(
            f'checkpoint: {source} holds the {dimensions.design} design, but design is {design}; '
            f'set design to auto or {dimensions.design}, or give the other checkpoint'
        )


def random_encoder(dimensions: Dimensions, seed: int) -> Encoder:
    """An encoder with random weights that depend on the seed alone, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder(dimensions).eval()


def content_hash(encoder: nn.Module) -> str:
    """SHA-256 of the weights, in hex: the same for the same weights, whatever kind of file they came from."""
    return hash_tensors(encoder.state_dict())


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, hex, over every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}\n'.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
