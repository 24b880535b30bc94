"""The errors that a user can act on. The text of each names the topic, file or parameter, and how to fix it."""

from __future__ import annotations


class FusedEncoderError(Exception):
    """Base class of all errors that this package raises for the user to act on."""


class ConfigError(FusedEncoderError):
    """A parameter, an option or a field of the observation spec has an unusable value."""


class DecodeError(FusedEncoderError):
    """A message cannot be decoded, or only by guessing what it means."""


class CheckpointError(FusedEncoderError):
    """A checkpoint cannot be read, or does not fit the parameters."""


class EngineUnavailable(FusedEncoderError):  # noqa: N818
    """An inference engine cannot run on this machine, or is not exact enough on it."""


class EngineError(FusedEncoderError):
    """The inference engine failed while it was encoding."""


class BagError(FusedEncoderError):
    """A bag cannot be read, or lacks a topic that the encoder needs."""


class FeaturesError(FusedEncoderError):
    """A file of features cannot be read, or two files cannot be compared."""


class OutputError(FusedEncoderError):
    """A result cannot be written, for example because the file exists already."""
