"""What a packed checkpoint says of itself, read without torch and without its weights.

Of a .safetensors file this is the header: eight bytes with its length, then JSON (https://github.com/huggingface/safetensors).
The library would import torch for it, which takes seconds; and `ros2 launch` runs in a Python that has neither.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fused_encoder_ros import __version__
from fused_encoder_ros.errors import CheckpointError, ConfigError, first_line
from fused_encoder_ros.spec import ObservationSpec

SAFETENSORS_SUFFIX = '.safetensors'
METADATA_KEY = 'fused_encoder_ros'
PROFILE = 'profile'
"""Name of the tensor, uint8 [N], that holds the bytes of the training data's profile."""

GOLDEN = 'golden.'
"""What the names of the golden pair's tensors begin with."""

FORMAT = 2
"""Of a file with a profile or with stamp offsets. One without is of format 1, which versions read that know neither."""

_LONGEST_HEADER = 100_000_000
"""The library refuses longer ones too."""


def read_packed_spec(path: str | os.PathLike[str]) -> ObservationSpec | None:
    """The spec of a packed checkpoint; None for any other file.

    Raises:
        CheckpointError: when the file is missing or damaged.
    """
    path, about, *_ = _opened(path)
    return None if about is None else spec_in(path, about)


def read_packed_profile(path: str | os.PathLike[str]) -> bytes | None:
    """The profile of the training data in a packed checkpoint, as it was packed; None for a file without one.

    Raises:
        CheckpointError: when the file is missing or damaged.
    """
    path, about, header, begin = _opened(path)
    if about is None or PROFILE not in header:
        return None
    try:
        first, last = header[PROFILE]['data_offsets']
        with path.open('rb') as file:
            file.seek(begin + first)
            return file.read(last - first)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise damaged(path, error) from error


def read_packed_offsets(path: str | os.PathLike[str]) -> dict[str, float]:
    """What was added to the stamps of the training data, ms, by source, by a packed checkpoint; empty for any other file.

    Raises:
        CheckpointError: when the file is missing or damaged.
    """
    path, about, *_ = _opened(path)
    return {} if about is None else offsets_in(path, about)


def checked_path(path: str | os.PathLike[str]) -> Path:
    """The path with `~` resolved. Raises CheckpointError when it is no file."""
    path = Path(os.path.expanduser(path))  # which leaves the name of an unknown user alone
    if not path.is_file():
        raise CheckpointError(f'checkpoint: {path} is not a file; give the path of a *_obs_encoder.pth or .safetensors')
    return path


def about_in(path: Path, metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """What the packer wrote into the metadata of a .safetensors file; None when it was not packed.

    Raises:
        CheckpointError: when that is unreadable, altered, or of a newer format.
    """
    if METADATA_KEY not in metadata:
        return None
    try:
        about: dict[str, Any] = json.loads(metadata[METADATA_KEY])
        if about['format'] > FORMAT:
            raise CheckpointError(
                f'checkpoint: {path} has format {about["format"]}, written by version {about["version"]}, but this is version '
                f'{__version__}; update this package, or pack the checkpoint with this version'
            )
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f'checkpoint: {path} has unreadable metadata ({error}); pack it again') from error
    if about.get('about_hash', about_hash(about)) != about_hash(about):  # older files have none
        raise altered(path)
    return about


def about_hash(about: Mapping[str, Any]) -> str:
    """SHA-256, hex, over what the packer writes, but for the hashes of the file: checks the spec without the weights."""
    told = {name: value for name, value in about.items() if name not in ('about_hash', 'content_hash')}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def spec_in(path: Path, about: Mapping[str, Any]) -> ObservationSpec:
    """The observation spec that the packer wrote. Raises CheckpointError when it is not usable."""
    try:
        return ObservationSpec.from_dict(about['spec'])
    except (ConfigError, KeyError, TypeError) as error:
        raise CheckpointError(f'checkpoint: {path} holds an unusable observation spec: {error}; pack it again') from error


def offsets_in(path: Path, about: Mapping[str, Any]) -> dict[str, float]:
    """The offsets that the packer wrote, ms, by source. Raises CheckpointError when they are not usable."""
    offsets = about.get('stamp_offset_ms', {})
    if not isinstance(offsets, dict) or not all(isinstance(ms, (int, float)) for ms in offsets.values()):
        raise CheckpointError(f'checkpoint: {path} holds unusable stamp offsets: {offsets!r}; pack it again')
    return {source: float(ms) for source, ms in offsets.items()}


def altered(path: Path) -> CheckpointError:
    """What to raise when a packed checkpoint does not match a hash in it."""
    return CheckpointError(f'checkpoint: {path} was altered after it was packed: its hash does not match; pack it again')


def damaged(path: Path, error: Exception) -> CheckpointError:
    """What to raise when a file cannot be read as what its name says."""
    return CheckpointError(
        f'checkpoint: {path} is truncated or damaged; copy it again and compare its size ({first_line(error)})'
    )


def _opened(path: str | os.PathLike[str]) -> tuple[Path, dict[str, Any] | None, dict[str, Any], int]:
    """The checked path, what the packer wrote (None when it was not packed), and what `_read_header` gives."""
    path = checked_path(path)
    if path.suffix != SAFETENSORS_SUFFIX:
        return path, None, {}, 0
    header, begin = _read_header(path)
    try:
        metadata = dict(header.get('__metadata__') or {})
    except (ValueError, TypeError) as error:
        raise damaged(path, error) from error
    about = about_in(path, metadata)
    if about is None and any(name.startswith(GOLDEN) for name in header):
        raise damaged(path, ValueError('it was packed, but its observation spec is missing'))
    return path, about, header, begin


def _read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header, and at which byte of the file the tensors begin."""
    try:
        with path.open('rb') as file:
            (length,) = struct.unpack('<Q', file.read(8))
            if length > min(_LONGEST_HEADER, path.stat().st_size):
                raise ValueError(f'its header claims to be {length} bytes long')
            return dict(json.loads(file.read(length))), 8 + length
    except (OSError, struct.error, ValueError, TypeError, RecursionError) as error:
        raise damaged(path, error) from error
