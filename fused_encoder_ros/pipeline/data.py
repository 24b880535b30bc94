"""The data that flow through the pipeline. A stamp is in nanoseconds since the epoch of the clock in use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

JOINTS = 'joint_states'
"""Name of the joint source, beside the camera names of the spec."""


class Reason(str, Enum):
    """Why an anchor frame became no set, or why a message could not be used.

    - `NO_MATCH`: a camera has no frame within the tolerance of the anchor's stamp.
    - `NO_JOINTS`: a joint has no position recent enough.
    - `BAD_STAMP`: the stamp is zero, malformed, or not later than that of an anchor frame that is a set or a drop already.
    - `UNDECODABLE`: the message cannot be decoded.
    - `CLOCK_JUMP`: the clock jumped backwards, as when a bag loops, or the pipeline was reset.
    - `SUPERSEDED`: the encoder was still busy when a newer set came (live node only).
    - `ENCODER_FAULT`: the encoder failed, or gave NaN or infinity.
    - `END_OF_STREAM`: the bag or the node ended before the set was complete.
    """

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
    """One camera image: `pixels` uint8 [S,S,3] RGB at the encoder's size; if kept, `full` uint8 [H,W,3] RGB as received.

    `offset_ns` is `stamp_offset_ms` of its camera.
    """

    stamp_ns: int
    pixels: NDArray[np.uint8]
    full: NDArray[np.uint8] | None = None
    offset_ns: int = 0

    @property
    def time_ns(self) -> int:
        """The corrected stamp, which it is matched by."""
        return self.stamp_ns + self.offset_ns


@dataclass(frozen=True, slots=True, eq=False)
class JointSample:
    """One joint message: `positions` float64 [J] in the order of the spec, NaN for joints that the message lacks.

    `offset_ns` is `stamp_offset_ms` of the joints.
    """

    stamp_ns: int
    positions: NDArray[np.float64]
    offset_ns: int = 0

    @property
    def time_ns(self) -> int:
        """The corrected stamp, which it is looked up by."""
        return self.stamp_ns + self.offset_ns


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """One time-matched set of images and joint positions: the encoder's input.

    S is the image size, J the number of joints. Dictionaries are keyed by source: a camera name, or 'joint_states'.

    Attributes:
        stamp_ns: stamp of the anchor camera's frame, as in its header, nanoseconds.
        images: uint8 [S,S,3*cameras], the RGB images stacked in the order of the spec's cameras.
        joints: float32 [J], the joint positions at `time_ns`, standardised if the spec has a joint mean.
        joint_positions: float64 [J], in rad or m, the same before standardising.
        stamps_ns: stamp of the message that was used, as in its header, by source, nanoseconds. For the joints it
            stands for `time_ns` if every joint was interpolated; otherwise it is the stamp of the oldest sample that was held.
        full_images: uint8 [H,W,3] RGB by camera, as received; empty unless the pipeline keeps full images.
        offset_ns: `stamp_offset_ms` of the anchor, nanoseconds.
        offsets_ns: `stamp_offset_ms` of each source that has one, nanoseconds.
    """

    stamp_ns: int
    images: NDArray[np.uint8]
    joints: NDArray[np.float32]
    joint_positions: NDArray[np.float64]
    stamps_ns: Mapping[str, int]
    full_images: Mapping[str, NDArray[np.uint8]] = field(default_factory=dict)
    offset_ns: int = 0
    offsets_ns: Mapping[str, int] = field(default_factory=dict)

    @property
    def camera_images(self) -> Mapping[str, NDArray[np.uint8]]:
        """RGB images by camera, in channel order: uint8 [H,W,3] as received if they were kept, else uint8 [S,S,3]."""
        if self.full_images:
            return self.full_images
        cameras = [source for source in self.stamps_ns if source != JOINTS]
        return {camera: self.images[..., 3 * number : 3 * number + 3] for number, camera in enumerate(cameras)}

    @property
    def time_ns(self) -> int:
        """The anchor's corrected stamp, which the others are matched to, nanoseconds."""
        return self.stamp_ns + self.offset_ns

    @property
    def skew_ns(self) -> dict[str, int]:
        """How far each source's corrected stamp is from the anchor's, in nanoseconds; negative means earlier."""
        return {source: stamp + self.offsets_ns.get(source, 0) - self.time_ns for source, stamp in self.stamps_ns.items()}


@dataclass(frozen=True, slots=True)
class Drop:
    """An anchor frame that became no set, and why.

    Attributes:
        stamp_ns: stamp of the anchor frame, nanoseconds.
        stream: the source that caused the drop; empty if none did.
        reason: why there is no set.
        detail: one sentence for a person; may be empty.
        fault: for `content`, the name of the fault in what the data show.
    """

    stamp_ns: int
    stream: str
    reason: Reason
    detail: str = ''
    fault: str = ''

    @property
    def key(self) -> str:
        """The name under which the drop is counted, such as `no_match:left_wrist`, `content:mirrored` or `bad_stamp`."""
        if self.reason is Reason.CONTENT:
            return f'{self.reason}:{self.fault}'
        return f'{self.reason}:{self.stream}' if self.reason is Reason.NO_MATCH else str(self.reason)


@dataclass(frozen=True, slots=True)
class Reject:
    """A message of the joints, or of a camera other than the anchor, that could not be used.

    Attributes:
        stamp_ns: stamp of the message, nanoseconds.
        stream: the source that sent it.
        reason: why it could not be used.
        detail: one sentence for a person; may be empty.
    """

    stamp_ns: int
    stream: str
    reason: Reason
    detail: str = ''


Outcome = Observation | Drop | Reject


@dataclass(frozen=True, slots=True, eq=False)
class Feature:
    """The encoder's output for one observation.

    Attributes:
        values: float32 [D], D being the model's `feature_dim`.
        observation: the set that was encoded.
        distance: how far the feature is from those of the training data; 1 is as far as the training data go. None if the
            checkpoint has no profile.
    """

    values: NDArray[np.float32]
    observation: Observation
    distance: float | None = None

    @property
    def stamp_ns(self) -> int:
        """Stamp of the anchor frame, nanoseconds."""
        return self.observation.stamp_ns


def stamp_to_ns(stamp: object) -> int:
    """Nanoseconds of a `builtin_interfaces/Time`-like object with `sec` and `nanosec`."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)  # type: ignore[attr-defined]
