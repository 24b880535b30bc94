"""The self-describing checkpoint: weights, how they must be fed, and a proof that they are fed so.

A .safetensors file. Its tensors are the encoder's state dict under its own names, and the golden pair under `golden.`. Its
metadata holds one entry, `fused_encoder_ros`, with JSON: the observation spec, the design and dimensions, the hash of the
weights and the hash of the whole content. The bytes of the training data's profile, where there is one, are a tensor too.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fused_encoder_ros import __version__
from fused_encoder_ros.errors import CheckpointError, ConfigError
from fused_encoder_ros.model.checkpoint import Dimensions, check_fits, dimensions_of, encoder_of, hash_tensors
from fused_encoder_ros.model.encoder import Encoder
from fused_encoder_ros.model.engines import Engine, relative_error
from fused_encoder_ros.model.engines.eager import EagerEngine
from fused_encoder_ros.model.packed_spec import (
    FORMAT,
    GOLDEN,
    METADATA_KEY,
    PROFILE,
    SAFETENSORS_SUFFIX,
    about_hash,
    about_in,
    altered,
    checked_path,
    offsets_in,
    spec_in,
)
from fused_encoder_ros.model.state_dict import read_safetensors
from fused_encoder_ros.spec import ObservationSpec

_CPU = torch.device('cpu')


@dataclass(frozen=True, eq=False)
class Golden:
    """A fixed observation and the feature that the encoder gave for it when it was packed, on the engine `eager`.

    Attributes:
        images: uint8 [1,S,S,3*cameras], in the spec's camera order.
        joint_positions: float64 [1,J], before standardising.
        feature: float32 [1,D].
    """

    images: NDArray[np.uint8]
    joint_positions: NDArray[np.float64]
    feature: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class PackedCheckpoint:
    """What a packed checkpoint holds, verified.

    Attributes:
        encoder: in eval mode.
        spec: how it must be fed.
        dimensions: its design and dimensions.
        golden: what it must answer.
        model_hash: SHA-256 of the weights.
        content_hash: SHA-256 of everything in the file.
        version: the version of this package that wrote it.
        stamp_offset_ms: what was added to the stamps of the training data, ms, by source.
    """

    encoder: Encoder
    spec: ObservationSpec
    dimensions: Dimensions
    golden: Golden
    model_hash: str
    content_hash: str
    version: str
    stamp_offset_ms: Mapping[str, float]

    def golden_error(self, engine: Engine) -> float:
        """How far an engine's answer to the golden observation is from the golden feature; see `relative_error`."""
        joints = self.spec.standardise(self.golden.joint_positions)
        return relative_error(engine.encode(self.golden.images, joints), self.golden.feature)


def write_packed(
    path: Path,
    encoder: Encoder,
    spec: ObservationSpec,
    profile: bytes | None = None,
    stamp_offset_ms: Mapping[str, float] = MappingProxyType({}),
) -> None:
    """Write an encoder and its spec as a packed checkpoint, with profile and stamp offsets of its training data.

    Raises:
        CheckpointError: when the encoder takes other joints or cameras than the spec names, or gives NaN.
        ConfigError: when the package safetensors is not installed.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise ConfigError('packing needs the package safetensors: pip install safetensors') from error
    check_fits(encoder, spec, 'the checkpoint')
    golden = _make_golden(encoder, spec)
    tensors = {
        **encoder.state_dict(),
        f'{GOLDEN}images': torch.from_numpy(golden.images),
        f'{GOLDEN}joint_positions': torch.from_numpy(golden.joint_positions),
        f'{GOLDEN}feature': torch.from_numpy(golden.feature),
    }
    if profile is not None:
        tensors[PROFILE] = torch.frombuffer(bytearray(profile), dtype=torch.uint8)
    about: dict[str, Any] = {
        'format': FORMAT if profile is not None or stamp_offset_ms else 1,
        'version': __version__,
        'spec': spec.to_dict(),
        'dimensions': asdict(dimensions_of(encoder)),
        'model_hash': hash_tensors(encoder.state_dict()),
        'stamp_offset_ms': dict(stamp_offset_ms),
    }
    about['about_hash'] = about_hash(about)
    about['content_hash'] = _content_hash(tensors, about)
    contents = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {METADATA_KEY: json.dumps(about)})
    path.write_bytes(contents)


def read_packed(path: str | os.PathLike[str]) -> PackedCheckpoint | None:
    """A packed checkpoint, its hashes verified; None for any other file.

    Raises:
        CheckpointError: when the file is missing, damaged, altered, or of a newer format.
    """
    path = checked_path(path)
    if path.suffix != SAFETENSORS_SUFFIX:
        return None
    tensors, metadata = read_safetensors(path)
    about = about_in(path, metadata)
    if about is None:
        return None
    if about.pop('content_hash', None) != (content_hash := _content_hash(tensors, about)):
        raise altered(path)
    spec = spec_in(path, about)
    state = {name: tensor for name, tensor in tensors.items() if not name.startswith(GOLDEN) and name != PROFILE}
    encoder = encoder_of(state, str(path), cameras=spec.cameras)
    check_fits(encoder, spec, str(path))
    golden = Golden(
        images=tensors[f'{GOLDEN}images'].numpy(),
        joint_positions=tensors[f'{GOLDEN}joint_positions'].numpy(),
        feature=tensors[f'{GOLDEN}feature'].numpy(),
    )
    return PackedCheckpoint(
        encoder=encoder,
        spec=spec,
        dimensions=dimensions_of(encoder),
        golden=golden,
        model_hash=about['model_hash'],
        content_hash=content_hash,
        version=about['version'],
        stamp_offset_ms=offsets_in(path, about),
    )


def _make_golden(encoder: Encoder, spec: ObservationSpec) -> Golden:
    rng = np.random.default_rng(0)
    size, channels = spec.image_size, spec.channels
    # Noise on a different shade in each channel, so that an exchange of any two shows.
    shades = np.linspace(40, 200, channels)
    images = (rng.integers(-40, 40, (1, size, size, channels)) + shades).astype(np.uint8)
    # Such that the encoder's input is ordinary: a joint of small std would drown all else.
    mean, std = (0.0, 1.0) if spec.joint_mean is None else (np.asarray(spec.joint_mean), np.asarray(spec.joint_std))
    positions = mean + std * rng.normal(size=(1, len(spec.joint_names)))
    feature = EagerEngine(encoder, spec, _CPU).encode(images, spec.standardise(positions))
    if not np.isfinite(feature).all():
        raise CheckpointError('checkpoint: the encoder gives NaN or infinity on ordinary images; its weights are damaged')
    return Golden(images, positions, feature)


def _content_hash(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(hash_tensors(tensors).encode())
    digest.update(json.dumps(about, sort_keys=True).encode())
    return digest.hexdigest()
