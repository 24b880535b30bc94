"""Checkpoints of the training code: recognise what they hold, and build the encoder for it."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fused_encoder_ros.errors import CheckpointError
from fused_encoder_ros.model.encoder import ImageJointEncoder, ThreeStreamEncoder
from fused_encoder_ros.model.state_dict import read_state_dict

SINGLE, THREE_STREAM = 'single', 'three_stream'
DESIGNS = (SINGLE, THREE_STREAM)

# A key that only one design has, and the module whose width is the image feature's.
_TELLTALE = {SINGLE: 'image_encoder.fc.weight', THREE_STREAM: 'left_wrist_encoder.fc.weight'}
_CLASSES: dict[str, type[ImageJointEncoder] | type[ThreeStreamEncoder]] = {
    SINGLE: ImageJointEncoder,
    THREE_STREAM: ThreeStreamEncoder,
}


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
    """Recognise the design and its dimensions.

    Raises:
        CheckpointError: when the keys or shapes are of neither design; `source` names the file in the text.
    """
    design = next((name for name, key in _TELLTALE.items() if key in state), None)
    if design is None:
        some, missing = ', '.join(sorted(state)[:3]), ' and no '.join(_TELLTALE.values())
        raise CheckpointError(f'checkpoint: {source} is of neither design: it has no {missing} (its keys begin: {some})')
    try:
        return Dimensions(
            design=design,
            joint_dim=state['joint_fc.0.weight'].shape[1],
            image_feature_dim=state[_TELLTALE[design]].shape[0],
            fusion_dim=state['fusion_fc.3.weight'].shape[0],
        )
    except (KeyError, IndexError) as error:
        raise CheckpointError(f'checkpoint: {source} looks like a {design} encoder but is incomplete: {error}') from error


def build_encoder(dimensions: Dimensions) -> ImageJointEncoder | ThreeStreamEncoder:
    """An encoder of these dimensions, randomly initialised."""
    return _CLASSES[dimensions.design](
        joint_dim=dimensions.joint_dim,
        image_feature_dim=dimensions.image_feature_dim,
        fusion_dim=dimensions.fusion_dim,
    )


def load_encoder(path: str | os.PathLike[str], design: str = 'auto') -> ImageJointEncoder | ThreeStreamEncoder:
    """Load a checkpoint into an encoder of its own design and dimensions, in eval mode.

    Args:
        path: a state dict saved by the training code.
        design: 'auto' takes what the checkpoint is; otherwise the design that it must be.

    Raises:
        CheckpointError: when it cannot be read, is of the other design, or does not fit key by key.
    """
    state = read_state_dict(path)
    dimensions = read_dimensions(state, str(path))
    if design not in ('auto', dimensions.design):
        raise CheckpointError(
            f'checkpoint: {path} holds the {dimensions.design} design, but design is {design}; '
            f'set design to auto or {dimensions.design}, or give the other checkpoint'
        )
    with torch.random.fork_rng(devices=[]):  # the initialisation that is overwritten must not disturb the caller's
        encoder = build_encoder(dimensions)
    try:
        encoder.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f'checkpoint: {path} does not fit the {dimensions.design} design: {error}') from error
    return encoder.eval()


def random_encoder(dimensions: Dimensions, seed: int) -> ImageJointEncoder | ThreeStreamEncoder:
    """An encoder with random weights that depend on the seed alone, in eval mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_encoder(dimensions).eval()


def content_hash(encoder: nn.Module) -> str:
    """SHA-256 over every tensor's name, type, shape and bytes: equal for equal weights, however they were stored."""
    digest = hashlib.sha256()
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f'{name} {tensor.dtype} {tuple(tensor.shape)}\n'.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
