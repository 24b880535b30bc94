"""The observation spec: how the encoder's input is made, for the node, the bag tools and checkpoints alike."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.errors import ConfigError

CAMERAS = ('left_wrist', 'right_wrist', 'global')
"""The cameras where nothing else is said, in the channel order of the training code: left 0-2, right 3-5, global 6-8."""

MOST_CAMERAS = 8

_CAMERA_NAME = re.compile('[A-Za-z](_?[A-Za-z0-9])*')
_NO_CAMERAS = ('joint_states', 'encoder')
"""Names of other sources and statuses, which a camera cannot have."""

INTERPOLATIONS = ('nearest', 'linear', 'area', 'cubic')

_JOINT_STD_EPSILON = 1e-6

_ARMS = ('left', 'right')
DEFAULT_JOINT_NAMES = tuple(name for arm in _ARMS for name in (*(f'{arm}_joint_{i}' for i in range(1, 8)), f'{arm}_gripper'))
"""Sixteen joints: seven and a gripper a side."""


@dataclass(frozen=True)
class ObservationSpec:
    """How camera and joint messages become the encoder's input; it must be the same as in training.

    Attributes:
        cameras: one to eight camera names, in the channel order of the stacked image.
        image_size: side S of the square that each image is resized to, in pixels (8 to 1024).
        interpolation: resize method: 'nearest', 'linear', 'area' or 'cubic', as OpenCV defines them.
        pixel_divisor: every uint8 pixel is divided by this, before the mean and standard deviation are applied.
        pixel_mean: mean of each channel after the division: 3 values for all cameras, or 3 values per camera. None means 0.
        pixel_std: standard deviation of each channel after the division. Set it together with `pixel_mean`.
        joint_names: names of the J joints, in the order of the encoder's input.
        joint_mean: mean of each joint, in rad or m. None leaves the joint positions as they are.
        joint_std: standard deviation of each joint, in rad or m. Set it together with `joint_mean`.

    Raises:
        ConfigError: if a field has an unusable value; the text names the field.

    Example:
        >>> ObservationSpec(cameras=('front', 'wrist'), joint_names=('shoulder', 'elbow')).channels
        6
    """

    cameras: tuple[str, ...] = CAMERAS
    image_size: int = 84
    interpolation: str = 'linear'
    pixel_divisor: float = 255.0
    pixel_mean: tuple[float, ...] | None = None
    pixel_std: tuple[float, ...] | None = None
    joint_names: tuple[str, ...] = DEFAULT_JOINT_NAMES
    joint_mean: tuple[float, ...] | None = None
    joint_std: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        check_cameras(self.cameras)
        if not 8 <= self.image_size <= 1024:
            raise ConfigError(f'image_size: {self.image_size} is not within 8 to 1024 pixels')
        if self.interpolation not in INTERPOLATIONS:
            raise ConfigError(f'interpolation: {self.interpolation!r} is unknown; use one of {list(INTERPOLATIONS)}')
        if not (math.isfinite(self.pixel_divisor) and self.pixel_divisor > 0):
            raise ConfigError(f'pixel_divisor: {self.pixel_divisor} must be a positive number')
        if not self.joint_names or len(set(self.joint_names)) != len(self.joint_names):
            raise ConfigError('joint_names: name each joint once, and at least one')
        self._check_statistics('pixel', (3, 3 * len(self.cameras)))
        self._check_statistics('joint', (len(self.joint_names),))

    def _check_statistics(self, kind: str, lengths: tuple[int, ...]) -> None:
        mean: tuple[float, ...] | None = getattr(self, f'{kind}_mean')
        std: tuple[float, ...] | None = getattr(self, f'{kind}_std')
        if (mean is None) != (std is None):
            raise ConfigError(f'{kind}_mean and {kind}_std go together: set both or neither')
        if mean is None or std is None:
            return
        if len(mean) not in lengths or len(std) != len(mean):
            expected = ' or '.join(str(n) for n in sorted(set(lengths)))
            raise ConfigError(f'{kind}_mean has {len(mean)} values and {kind}_std {len(std)}; expected {expected} each')
        if not all(map(math.isfinite, (*mean, *std))) or min(std) < 0:
            raise ConfigError(f'{kind}_mean and {kind}_std must be finite, and {kind}_std not negative')
        if kind == 'pixel' and min(std) == 0:
            raise ConfigError('pixel_std must be greater than zero')

    @property
    def channels(self) -> int:
        """Number of channels of the stacked image: three per camera."""
        return 3 * len(self.cameras)

    @property
    def default_anchor(self) -> str:
        """The anchor camera where none is chosen: `global` if there is a camera of that name, else the first."""
        return 'global' if 'global' in self.cameras else self.cameras[0]

    def standardise(self, positions: NDArray[np.float64]) -> NDArray[np.float32]:
        """Turn joint positions into the encoder's input: (positions - mean) / (std + 1e-6), as the training code does.

        Args:
            positions: float64 [..., J], in rad or m.

        Returns:
            float32 [..., J], computed in float64 and rounded once. Without `joint_mean`, the positions as float32.
        """
        if self.joint_mean is None or self.joint_std is None:
            return positions.astype(np.float32)
        return ((positions - np.asarray(self.joint_mean)) / (np.asarray(self.joint_std) + _JOINT_STD_EPSILON)).astype(
            np.float32
        )

    def to_dict(self) -> dict[str, Any]:
        """The spec as values that JSON and YAML can hold; `from_dict` reads them back."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ObservationSpec:
        """Build a spec from values as `to_dict` returns them; a field that is absent keeps its default.

        Raises:
            ConfigError: if a field is unknown or has an unusable value.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        if unknown := sorted(set(values) - known):
            raise ConfigError(f'observation spec: unknown field {unknown[0]!r}; use {sorted(known)}')
        fields: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
        return cls(**fields)


def check_cameras(cameras: Sequence[str]) -> None:
    """Whether these are usable camera names: they become part of topics, parameters and columns.

    Raises:
        ConfigError: naming the one that is not.
    """
    if not 1 <= len(cameras) <= MOST_CAMERAS:
        raise ConfigError(f'cameras: there are {len(cameras)}; name 1 to {MOST_CAMERAS}, in the channel order of the training')
    for name in cameras:
        if not isinstance(name, str) or not _CAMERA_NAME.fullmatch(name):
            raise ConfigError(
                f'cameras: {name!r} cannot be part of a topic; use letters, digits and single underscores between them, '
                'and begin with a letter'
            )
        if name in _NO_CAMERAS:
            raise ConfigError(f'cameras: {name!r} is a reserved name; give the camera another name')
        if cameras.count(name) > 1:
            raise ConfigError(f'cameras: {name!r} is named {cameras.count(name)} times; name each camera once')
