"""What flows through the pipeline. Stamps are nanoseconds since the epoch of the clock in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

JOINTS = 'joint_states'
"""Name of the joint source, beside the camera names of the spec."""


class Reason(str, Enum):
    """Why an anchor frame gave no set, or why a message could not be used."""

    NO_MATCH = 'no_match'
    NO_JOINTS = 'no_joints'
    BAD_STAMP = 'bad_stamp'
    UNDECODABLE = 'undecodable'
    CLOCK_JUMP = 'clock_jump'
    SUPERSEDED = 'superseded'
    ENCODER_FAULT = 'encoder_fault'
    END_OF_STREAM = 'end_of_stream'
    CONTENT = 'content'

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One camera image: `pixels` uint8 [S,S,3] RGB at the encoder's size, and where it is kept, `full` uint8 [H,W,3] RGB."""

    stamp_ns: int
    pixels: NDArray[np.uint8]
    full: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class JointSample:
    """One joint message: `positions` float64 [J] in the spec's order, NaN for a joint it does not bring."""

    stamp_ns: int
    positions: NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One time-matched set.

    Attributes:
        stamp_ns: the anchor frame's stamp.
        images: uint8 [S,S,9], the cameras stacked in the spec's channel order.
        joints: float32 [J], interpolated at `stamp_ns` and standardised if the spec says so.
        joint_positions: float64 [J], the same before standardising.
        stamps_ns: stamp of the message used, by source. For the joints it is `stamp_ns` itself when
            every joint was interpolated, else the stamp of the oldest sample that was held.
        full_images: uint8 [H,W,3] RGB as they came, by camera; empty unless the pipeline keeps them.
        skew_ns: `stamps_ns` minus `stamp_ns`, by source.
        camera_images: uint8 RGB by camera, in channel order: [H,W,3] as they came where these are kept, else [S,S,3].
    """

    stamp_ns: int
    images: NDArray[np.uint8]
    joints: NDArray[np.float32]
    joint_positions: NDArray[np.float64]
    stamps_ns: Mapping[str, int]
    full_images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)

    @property
    def camera_images(self) -> Mapping[str, NDArray[np.uint8]]:
        """See the class."""
        if self.full_images:
            return self.full_images
        cameras = [source for source in self.stamps_ns if source != JOINTS]
        return {camera: self.images[..., 3 * number : 3 * number + 3] for number, camera in enumerate(cameras)}

    @property
    def skew_ns(self) -> dict[str, int]:
        """How far each source's data lies from the anchor; negative is earlier."""
        return {source: stamp - self.stamp_ns for source, stamp in self.stamps_ns.items()}


@dataclass(frozen=True, slots=True)
class Drop:
    """An anchor frame that gave no set.

    Attributes:
        stamp_ns: the anchor frame's stamp.
        stream: the source that is the cause.
        reason: why.
        detail: one sentence for a person; may be empty.
        fault: for `content`, what is wrong with what the data show.
    """

    stamp_ns: int
    stream: str
    reason: Reason
    detail: str = ''
    fault: str = ''

    @property
    def key(self) -> str:
        """What drops are counted by: `no_match:left_wrist`, `content:mirrored`, `bad_stamp`, ..."""
        if self.reason is Reason.CONTENT:
            return f'{self.reason}:{self.fault}'
        return f'{self.reason}:{self.stream}' if self.reason is Reason.NO_MATCH else str(self.reason)


@dataclass(frozen=True, slots=True)
class Reject:
    """A follower or joint message that could not be used; fields as in `Drop`."""

    stamp_ns: int
    stream: str
    reason: Reason
    detail: str = ''


Outcome = Observation | Drop | Reject


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """The encoder's answer to one observation.

    Attributes:
        values: float32 [D].
        observation: what was encoded.
        distance: how far the feature is from those of the training data; 1 is as far as these go. None without a profile.
    """

    values: NDArray[np.float32]
    observation: Observation
    distance: float | None = None

    @property
    def stamp_ns(self) -> int:
        """The anchor frame's stamp."""
        return self.observation.stamp_ns


def stamp_to_ns(stamp: object) -> int:
    """Nanoseconds of a `builtin_interfaces/Time`-like object with `sec` and `nanosec`."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)  # type: ignore[attr-defined]
