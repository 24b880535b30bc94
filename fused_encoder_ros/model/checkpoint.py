"""Checkpoints of the training code: recognise what they hold, and build the encoder for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fused_encoder_ros.errors import CheckpointError
from fused_encoder_ros.model.encoder import Encoder, ImageJointEncoder, ThreeStreamEncoder
from fused_encoder_ros.model.state_dict import read_state_dict
from fused_encoder_ros.options import SINGLE, THREE_STREAM

# A key that only one design has, and the module whose width is the image feature's.
_TELLTALE = {SINGLE: 'image_encoder.fc.weight', THREE_STREAM: 'left_wrist_encoder.fc.weight'}
_CLASSES: dict[str, type[Encoder]] = {SINGLE: ImageJointEncoder, THREE_STREAM: ThreeStreamEncoder}


@dataclass(frozen=True)
class Dimensions:
    """What is read off a checkpoint.

    Attributes:
        design: one of `DESIGNS`.
        joint_dim: number of joints.
        image_feature_dim: width of an image feature.
        fusion_dim: width of the fused feature.
    """

    design: str
    joint_dim: int
    image_feature_dim: int
    fusion_dim: int


def read_dimensions(state: Mapping[str, Tensor], source: str) -> Dimensions:
    """Read the dimensions off a state dict of either design.

    Raises:
        CheckpointError: when keys are missing; `source` names the file in the text.
    """
    design = SINGLE if _TELLTALE[SINGLE] in state else THREE_STREAM
    try:
        return Dimensions(
            design=design,
            joint_dim=state['joint_fc.0.weight'].shape[1],
            image_feature_dim=state[_TELLTALE[design]].shape[0],
            fusion_dim=state['fusion_fc.3.weight'].shape[0],
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(f'checkpoint: {source} looks like a {design} encoder but is incomplete: {error}') from error


def dimensions_of(encoder: Encoder) -> Dimensions:
    """The design and dimensions of an encoder."""
    return read_dimensions(encoder.state_dict(), type(encoder).__name__)


def build_encoder(dimensions: Dimensions) -> Encoder:
    """An encoder of these dimensions, randomly initialised."""
    return _CLASSES[dimensions.design](
        joint_dim=dimensions.joint_dim,
        image_feature_dim=dimensions.image_feature_dim,
        fusion_dim=dimensions.fusion_dim,
    )


def load_encoder(path: str | os.PathLike[str], design: str = 'auto') -> Encoder:
    """Load a checkpoint into an encoder of its own design and dimensions, in eval mode.

    Args:
        path: what the training code saved, see `read_state_dict`, or a packed checkpoint.
        design: 'auto' takes what the checkpoint is; otherwise the design that it must be.

    Raises:
        CheckpointError: when it cannot be read, is of the other design, or does not fit key by key.
    """
    return encoder_of(read_state_dict(path, list(_TELLTALE.values())), str(path), design)


def encoder_of(state: Mapping[str, Tensor], source: str, design: str = 'auto') -> Encoder:
    """The encoder of a state dict; see `load_encoder`. `source` names the file in errors."""
    dimensions = read_dimensions(state, source)
    check_design(dimensions, design, source)
    for name, tensor in state.items():
        if not tensor.is_floating_point() and not name.endswith('num_batches_tracked'):
            raise CheckpointError(f'checkpoint: {source} holds {name} as {tensor.dtype}; save it in floating point')
    with torch.random.fork_rng(devices=[]):  # the initialisation that is overwritten must not disturb the caller's
        encoder = build_encoder(dimensions)
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f'checkpoint: {source} does not fit the {dimensions.design} design: {error}') from error
    return encoder.eval()


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
    """SHA-256 over every tensor's name, type, shape and bytes: equal for equal weights, however they were stored."""
    return hash_tensors(encoder.state_dict())


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256, hex, over every tensor's name, type, shape and bytes."""
    digest = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}\n'.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
