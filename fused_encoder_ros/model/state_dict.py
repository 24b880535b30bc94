"""State dicts, read safely and found where training code puts them."""

from __future__ import annotations

import os
import pickle
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fused_encoder_ros.errors import CheckpointError
from fused_encoder_ros.model.packed_spec import SAFETENSORS_SUFFIX, checked_path, damaged

# What wrappers and enclosing modules put before the encoder's own names.
_PREFIX = r'((?:(?:module|_orig_mod|model|obs_encoder|encoder)\.)*)'


# A target network's copy, by the name of its part.
_TARGET = re.compile(r'(^|\.)target_|_target($|\.)|(^|\.)target($|\.)')

# A dictionary in a file may hold itself.
_MAX_DEPTH = 8


def read_state_dict(path: str | os.PathLike[str], telltale: str) -> dict[str, Tensor]:
    """The state dict in a file that has the key `telltale`.

    It may lie in nested dictionaries, and its names may begin with `module.`, `_orig_mod.`, `model.`, `obs_encoder.` or
    `encoder.`, which are stripped. A target network's copy counts only where there is no other.

    Raises:
        CheckpointError: when the file is missing, damaged, wants to run code, or holds no such state dict, or several.
    """
    path = checked_path(path)
    content = read_safetensors(path)[0] if path.suffix == SAFETENSORS_SUFFIX else _read_torch(path)
    found = list(_find(content, telltale))
    own = [(where, state) for where, state in found if not _TARGET.search(where)] or found
    if not own:
        raise CheckpointError(
            f'checkpoint: {path} is of neither design: it has no {telltale} '
            f'(its keys begin: {", ".join(_first_keys(content))})'
        )
    if len(own) > 1:
        names = ', '.join(sorted(where for where, _ in own))
        raise CheckpointError(f'checkpoint: {path} holds {len(own)} encoders: {names}; save only the one that you need')
    return own[0][1]


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a .safetensors file.

    Raises:
        CheckpointError: when it is damaged, or the package safetensors is not installed.
    """
    safetensors = _import_safetensors(path)
    try:
        with safetensors.safe_open(path, 'pt') as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
        raise damaged(path, error) from error


def _import_safetensors(path: Path) -> Any:
    try:
        import safetensors
    except ImportError as error:
        raise CheckpointError(f'checkpoint: {path} needs the package safetensors: pip install safetensors') from error
    return safetensors


def _read_torch(path: Path) -> Mapping[str, Any]:
    """With torch's restricted unpickler, which runs no code."""
    _check_sums(path)
    try:
        content = torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f'checkpoint: {path} is refused: {_why_not_unpickled(error)}; '
            'save it again with torch.save(encoder.state_dict(), ...)'
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, AttributeError, AssertionError, TypeError) as error:
        raise damaged(path, error) from error
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f'checkpoint: {path} holds a {type(content).__name__} that is not a state dict of tensors; '
            'save it with torch.save(encoder.state_dict(), ...)'
        )
    return content


def _check_sums(path: Path) -> None:
    """Compare the checksums that torch writes, but does not look at. Raises CheckpointError."""
    if not zipfile.is_zipfile(path):
        return  # torch before 1.6 wrote another kind of file, without any
    try:
        with zipfile.ZipFile(path) as file:
            part = file.testzip()
    except Exception as error:  # zlib's, struct's and others, depending on where it is damaged
        raise damaged(path, error) from error
    if part is not None:
        raise damaged(path, ValueError(f'the checksum of {part} does not match'))


def _why_not_unpickled(error: pickle.UnpicklingError) -> str:
    """In words of our own: torch's are a page of advice on how to load the file all the same."""
    if foreign := re.search(r'GLOBAL (\S+)', str(error)):
        return f'besides tensors it holds {foreign[1]}, which would run code when it is loaded'
    return 'it is damaged, or it holds more than tensors, which would run code when it is loaded'


def _find(content: Any, telltale: str, where: str = '', depth: int = 0) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(content, Mapping) or depth > _MAX_DEPTH:
        return
    pattern = re.compile(_PREFIX + re.escape(telltale))
    tensors = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Tensor)}
    for prefix in dict.fromkeys(match[1] for name in tensors if (match := pattern.fullmatch(name))):
        state = {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        yield f'{where}{prefix}'.rstrip('.') or 'its top level', state
    for name, value in content.items():
        yield from _find(value, telltale, f'{where}{name}.', depth + 1)


def _first_keys(content: Mapping[str, Any]) -> list[str]:
    return [str(key) for key in sorted(content, key=str)[:3]]
