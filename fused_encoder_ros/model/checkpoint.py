"""Checkpoints of the training code: read safely, and recognise what they hold."""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fused_encoder_ros.errors import CheckpointError
from fused_encoder_ros.model.encoder import ImageJointEncoder, ThreeStreamEncoder

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


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a bare state dict with torch's restricted unpickler, which runs no code.

    Raises:
        CheckpointError: when the file is missing, damaged, wants to run code, or holds anything but tensors by name.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise CheckpointError(f'checkpoint: {path} is not a file; give the path of a *_obs_encoder.pth')
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f'checkpoint: {path} is refused: it is damaged, or it holds more than tensors and would run code when loaded. '
            f'Save it again with torch.save(encoder.state_dict(), ...). ({_first_sentence(error)})'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise CheckpointError(
            f'checkpoint: {path} is truncated or damaged; copy it again and compare its size ({_first_sentence(error)})'
        ) from error
    if not isinstance(content, Mapping) or not content or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(
            f'checkpoint: {path} holds a {type(content).__name__} that is not a state dict of tensors; '
            'save it with torch.save(encoder.state_dict(), ...)'
        )
    return dict(content)


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


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split('\n')[0][:200]
