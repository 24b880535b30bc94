"""The errors a user can act on. Each text names the topic, file or parameter and the fix."""

from __future__ import annotations


class FusedEncoderError(Exception):
    """Base of every error that this package raises on purpose."""


class ConfigError(FusedEncoderError):
    """A parameter, option or observation spec is not usable."""


class DecodeError(FusedEncoderError):
    """A message cannot be turned into a frame or a joint sample without guessing."""


class CheckpointError(FusedEncoderError):
    """A checkpoint or weights file cannot be loaded as what was asked for."""


class EngineUnavailable(FusedEncoderError):  # noqa: N818
    """An inference engine cannot run here, or is not exact enough here."""


class EngineError(FusedEncoderError):
    """An inference engine failed while encoding."""


class BagError(FusedEncoderError):
    """A bag cannot be read, or lacks what the encoder needs."""


class FeaturesError(FusedEncoderError):
    """A file holds no features that can be read, or two that cannot be compared."""


class OutputError(FusedEncoderError):
    """A result cannot be written where it was asked for."""
