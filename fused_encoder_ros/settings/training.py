"""What the checkpoint says about its training data."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from fused_encoder_ros.content.profile import Profile
from fused_encoder_ros.content.reference import Reference
from fused_encoder_ros.model.packed_spec import read_packed_profile
from fused_encoder_ros.spec import ObservationSpec


def reference_in(checkpoint: str, spec: ObservationSpec) -> Reference | None:
    """What the profile in a checkpoint teaches; None where it has none, or where there is no checkpoint.

    Raises:
        CheckpointError: when the checkpoint cannot be read.
        ConfigError: when its profile cannot be used.
    """
    if not checkpoint:
        return None
    path = Path(os.path.expanduser(checkpoint))
    contents = read_packed_profile(path)
    if contents is None:
        return None
    Profile.from_bytes(contents, str(path)).check_fits(spec, str(path))
    return _learned(contents, str(path))


@lru_cache(maxsize=2)
def _learned(contents: bytes, where: str) -> Reference:
    """Learning takes a second, and several pipelines may need it."""
    return Reference(Profile.from_bytes(contents, where))
