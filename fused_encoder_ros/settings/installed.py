"""The files that come with the package beside its code: configurations, policies."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def installed_file(name: str) -> Path | None:
    """A file of the repository's root, as 'config/fused_encoder.yaml'; None where it was not installed.

    It lies beside the package in a checkout, and in share/fused_encoder_ros of the same prefix once it is installed.
    """
    places = [_PACKAGE.parent / name, *(folder / 'share' / _PACKAGE.name / name for folder in _PACKAGE.parents)]
    return next((place for place in places if place.is_file()), None)
