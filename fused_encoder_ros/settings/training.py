"""What the checkpoint says about its training data."""

from __future__ import annotations

from functools import lru_cache

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
    contents = read_packed_profile(checkpoint)
    if contents is None:
        return None
    reference = _learned(contents, checkpoint)
    reference.profile.check_fits(spec, checkpoint)
    return reference


@lru_cache(maxsize=2)
def _learned(contents: bytes, where: str) -> Reference:
    """Learning takes a second, and several pipelines may need it."""
    return Reference(Profile.from_bytes(contents, where))
