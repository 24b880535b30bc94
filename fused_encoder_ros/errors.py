"""The errors that a user can act on. The text of each names the topic, file or parameter, and how to fix it."""

from __future__ import annotations

import re

_COLOR = re.compile(r'\x1b\[[0-9;]*m')
_MOST = 300


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


def in_one_line(error: BaseException | str) -> str:
    """The text of a library's error, which may be pages, in a line of at most 300 characters and without colours."""
    text = ' '.join(_COLOR.sub('', str(error)).split())
    return text if len(text) <= _MOST else f'{text[: _MOST - 1]}…'


def first_line(error: BaseException) -> str:
    """As `in_one_line`, without what stands below the first line: advice that is not for users of this package."""
    return in_one_line(str(error).strip().partition('\n')[0])
