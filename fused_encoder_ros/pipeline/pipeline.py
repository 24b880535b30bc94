"""Turns messages into sets: decodes, matches and counts them, in the same way for DDS and for bags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.errors import DecodeError
from fused_encoder_ros.pipeline.data import (
    JOINTS,
    Drop,
    Frame,
    Observation,
    Outcome,
    Reason,
    Reject,
    stamp_to_ns,
)
from fused_encoder_ros.pipeline.images import ImageDecoder
from fused_encoder_ros.pipeline.joints import LARGEST_POSITION, JointReader
from fused_encoder_ros.pipeline.options import SyncOptions
from fused_encoder_ros.pipeline.stillness import Stillness
from fused_encoder_ros.pipeline.sync import Synchroniser
from fused_encoder_ros.spec import ObservationSpec

_SECOND_NS = 1_000_000_000


class Undecodable(NamedTuple):
    """A camera's message that gives no frame: its stamp, and why."""

    stamp_ns: int
    reason: Reason
    detail: str


class Inspector(Protocol):
    """Looks at what observations show."""

    def inspect(self, observation: Observation) -> Drop | None:
        """Take the next observation; why it must not be encoded, None when it may be."""


class MotionMeter(Protocol):
    """Looks at every frame and at the joints as they come, under their corrected stamps."""

    def see_frame(self, camera: str, time_ns: int, pixels: NDArray[np.uint8]) -> None:
        """Take a camera's next frame, uint8 [S,S,3] RGB."""

    def see_joints(self, time_ns: int, positions: NDArray[np.float64]) -> None:
        """Take joint positions, float64 [J]; NaN for those that the message does not bring."""


@dataclass
class Counts:
    """How many messages came in, and what became of them.

    `anchors` equals `sets` plus all `drops` plus the anchor frames that are still waiting.

    Attributes:
        messages: messages received, by source.
        anchors: frames received from the anchor camera.
        sets: observations made.
        drops: anchor frames that became no set, by `Drop.key`.
        rejects: other messages that could not be used, by `source: reason`.
    """

    messages: Counter[str] = field(default_factory=Counter)
    anchors: int = 0
    sets: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    rejects: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Count one outcome."""
        if isinstance(outcome, Observation):
            self.sets += 1
        elif isinstance(outcome, Drop):
            self.drops[outcome.key] += 1
        else:
            self.rejects[f'{outcome.stream}: {outcome.reason}'] += 1


class Pipeline:
    """Turns messages into observations: push them in order of arrival, and each push returns what it decided.

    `Settings.pipeline` makes one from parameters.

    Args:
        spec: how the encoder's input is made.
        options: how sets are matched.
        untyped_color_order: 'rgb' or 'bgr', the channel order of 8UC3 and 8UC4 images; '' refuses such images.
        keep_full_images: whether observations also keep their images at the size in which they were received.
        inspector: looks at every observation before it is returned; may drop it.

    Attributes:
        inspector: the inspector given.
        spec: the spec given.
        counts: how many messages came in, and what became of them.
        sources: names that `push` accepts: the cameras, then 'joint_states'.
    """

    def __init__(
        self,
        spec: ObservationSpec,
        options: SyncOptions,
        untyped_color_order: str = '',
        keep_full_images: bool = False,
        inspector: Inspector | None = None,
    ) -> None:
        self.spec = spec
        self.inspector = inspector
        self._keep_full_images = keep_full_images
        self._anchor = options.anchor
        self._offsets_ns = options.stamp_offsets_ns
        self._meter: MotionMeter | None = None
        self.counts = Counts()
        self.sources = (*spec.cameras, JOINTS)
        self._decoder = ImageDecoder(spec.image_size, spec.interpolation, untyped_color_order)
        self._joint_reader = JointReader(spec.joint_names)
        self._sync = Synchroniser(spec, options)
        self._on_decoded: Callable[[str, int], None] = lambda camera, stamp_ns: None
        self._stillness = {camera: Stillness() for camera in spec.cameras}

    @property
    def pending(self) -> int:
        """Number of anchor frames that are neither a set nor a drop yet."""
        return self._sync.pending

    @property
    def stale_joints(self) -> list[str]:
        """Names of the joints that had no recent position when the last anchor frame was decided."""
        return self._sync.stale_joints

    def still_for_s(self, camera: str) -> float:
        """For how many seconds the camera has been sending the same picture, bit for bit."""
        return self._stillness[camera].for_s

    def longest_still_s(self, camera: str) -> float:
        """The longest time, in seconds, for which the camera sent the same picture, bit for bit."""
        return self._stillness[camera].longest_s

    def watch(self, on_decoded: Callable[[str, int], None], on_settled: Callable[[int, str], None]) -> None:
        """Register callbacks that measure latency.

        Args:
            on_decoded: called as `on_decoded(camera, stamp_ns)` when a frame has been decoded.
            on_settled: called as described at `Synchroniser`.
        """
        self._on_decoded = on_decoded
        self._sync.on_settled = on_settled

    def watch_motion(self, meter: MotionMeter) -> None:
        """Show every usable frame and joint message to a meter, in the order in which they are pushed."""
        self._meter = meter

    def set_options(self, options: SyncOptions) -> None:
        """Change how sets are matched, from the next message on."""
        self._sync.set_options(options)

    def push(self, source: str, message: Any) -> list[Outcome]:
        """Take one message and return what it decided: often nothing, sometimes several outcomes.

        A bad message does not raise. It is returned as a `Drop` if it is from the anchor camera, else as a `Reject`.

        Args:
            source: a camera of the spec, or 'joint_states'.
            message: an object with the attributes of sensor_msgs' Image, CompressedImage or JointState.

        Returns:
            Observations, drops and rejects, in the order in which they were decided.
        """
        return self.push_decoded(source, message if source == JOINTS else self.decoded(message))

    def decoded(self, message: Any) -> Frame | Undecodable:
        """Decode a camera's message, for `push_decoded`; it changes no state, so any thread may call it."""
        stamp_ns = stamp_to_ns(message.header.stamp)
        if bad := _bad_stamp(message):
            return Undecodable(stamp_ns, Reason.BAD_STAMP, bad)
        try:
            if self._keep_full_images:
                return Frame(stamp_ns, *self._decoder.decode_both(message))
            return Frame(stamp_ns, self._decoder.decode(message))
        except DecodeError as error:
            return Undecodable(stamp_ns, Reason.UNDECODABLE, str(error))

    def push_decoded(self, source: str, item: Any) -> list[Outcome]:
        """Like `push`, for what `decoded` returned, or for a message of the joints."""
        self.counts.messages[source] += 1
        if source == self._anchor:
            self.counts.anchors += 1
        return self._counted(self._push_joints(item) if source == JOINTS else self._push_image(source, item))

    def finish(self) -> list[Outcome]:
        """End the stream, and return the anchor frames still waiting as drops: a live node would still be waiting for them."""
        return self._counted(self._sync.flush(Reason.END_OF_STREAM, 'the stream ended before the set was complete'))

    def reset(self) -> list[Outcome]:
        """Empty the buffers, and return the anchor frames still waiting as drops."""
        return self._counted(self._sync.flush(Reason.CLOCK_JUMP, 'the buffers were reset before the set was complete'))

    def _push_image(self, camera: str, frame: Frame | Undecodable) -> list[Outcome]:
        if isinstance(frame, Undecodable):
            return [self._sync.refuse(camera, *frame)]
        self._on_decoded(camera, frame.stamp_ns)
        self._stillness[camera].see(frame)
        if self._meter and frame.stamp_ns > 0:
            self._meter.see_frame(camera, frame.stamp_ns + self._offsets_ns.get(camera, 0), frame.pixels)
        return self._sync.push_frame(camera, frame)

    def _push_joints(self, message: Any) -> list[Outcome]:
        stamp_ns = stamp_to_ns(message.header.stamp)
        if bad := _bad_stamp(message):
            return [self._sync.refuse(JOINTS, stamp_ns, Reason.BAD_STAMP, bad)]
        try:
            sample = self._joint_reader.read(message)
        except DecodeError as error:
            return [self._sync.refuse(JOINTS, stamp_ns, Reason.UNDECODABLE, str(error))]
        if self._meter and sample.stamp_ns > 0:
            self._meter.see_joints(sample.stamp_ns + self._offsets_ns.get(JOINTS, 0), sample.positions)
        outcomes = self._sync.push_joints(sample)
        if any(isinstance(outcome, Reject) for outcome in outcomes):  # one for a message
            return outcomes
        if np.isnan(sample.positions).any() and (unusable := self._joint_reader.unusable(message)):
            detail = f'position is NaN, infinite or beyond {LARGEST_POSITION:g}: {", ".join(unusable)}'
            outcomes.append(Reject(sample.stamp_ns, JOINTS, Reason.UNDECODABLE, detail))
        return outcomes

    def _explained(self, outcome: Outcome) -> Outcome:
        """Missing joints are most often joints of another name."""
        unknown = self._joint_reader.unknown
        if isinstance(outcome, Drop) and outcome.reason is Reason.NO_JOINTS and unknown:
            return replace(outcome, detail=f'{outcome.detail}; not in joint_names, but published: {", ".join(unknown)}')
        return outcome

    def _inspected(self, outcome: Outcome) -> Outcome:
        if self.inspector is None or not isinstance(outcome, Observation):
            return outcome
        return self.inspector.inspect(outcome) or outcome

    def _counted(self, outcomes: list[Outcome]) -> list[Outcome]:
        outcomes = [self._inspected(self._explained(outcome)) for outcome in outcomes]
        for outcome in outcomes:
            self.counts.add(outcome)
        return outcomes


def _bad_stamp(message: Any) -> str:
    """What is wrong with a stamp; '' for nothing."""
    nanosec = message.header.stamp.nanosec
    if nanosec < _SECOND_NS:
        return ''
    # Carried over to the seconds, it would be another stamp than the one that others see.
    return f'the stamp has {nanosec} nanoseconds, which is more than a second: this is a fault of the driver'
