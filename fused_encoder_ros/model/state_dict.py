"""State dicts, read safely."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from fused_encoder_ros.errors import CheckpointError


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
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, AssertionError, TypeError) as error:
        raise CheckpointError(
            f'checkpoint: {path} is truncated or damaged; copy it again and compare its size ({_first_sentence(error)})'
        ) from error
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in content.items())
    ):
        raise CheckpointError(
            f'checkpoint: {path} holds a {type(content).__name__} that is not a state dict of tensors; '
            'save it with torch.save(encoder.state_dict(), ...)'
        )
    return dict(content)


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split('\n')[0][:200]
