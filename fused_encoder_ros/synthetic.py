"""A synthetic two-armed robot: the streams that the real one would send, for demos, tests and benchmarks.

Free-running cameras see one scene, and the joints follow smooth curves. Everything depends on the seed and the stamps alone.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.lab import Lab
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.spec import CAMERAS, DEFAULT_JOINT_NAMES, check_cameras


@dataclass(frozen=True)
class _View:
    """How a camera sees the scene: colour of the background (RGB), offset in widths, enlargement."""

    tint: tuple[int, int, int]
    shift: float
    zoom: float


_VIEWS = {
    'left_wrist': _View((70, 105, 150), -0.12, 1.8),
    'right_wrist': _View((150, 95, 70), 0.12, 1.8),
    'global': _View((75, 125, 85), 0.0, 1.0),
}
# Of cameras with other names, in their order.
_OTHER_VIEWS = (
    _View((120, 110, 60), -0.06, 1.3),
    _View((105, 75, 130), 0.06, 1.3),
    _View((60, 120, 125), -0.18, 1.5),
    _View((130, 70, 105), 0.18, 1.5),
)
_OBJECTS = (((226, 74, 51), 0.07), ((52, 138, 189), 0.055), ((251, 193, 94), 0.045))  # RGB, radius of the image's height


SCENES = ('plain', 'lab')
"""What the cameras can be given to see; see `Rig.lab`."""


def lab_of(scene: str, seed: int) -> Lab | None:
    """The lab of a scene, with the objects of a seed; None for the plain scene. Raises ConfigError."""
    if scene not in SCENES:
        raise ConfigError(f'scene: {scene!r} is unknown; use one of {list(SCENES)}')
    return Lab(objects=seed) if scene == 'lab' else None


@dataclass(frozen=True)
class Rig:
    """What the synthetic robot sends.

    Attributes:
        seed: of phases, jitter and the joints' curves.
        width, height: of the images, pixels.
        camera_rate_hz: nominal frame rate of each camera; each runs on its own phase.
        joint_rate_hz: rate of the joint messages.
        jitter_ms: standard deviation of the time between capture instants and the exact period.
        camera_delay_ms: from capture to publishing, the same for each camera, plus a random part a tenth as large.
        joint_names: order of the names in the messages is shuffled once by the seed.
        cameras: as in `ObservationSpec`.
        lab: what the cameras see; None for plain shapes that move by themselves, with the camera's name and the frame number.
        stamp_error_ms: by how much the stamps of a camera, or of the joints, lie after the capture; 0 for those not named.

    Raises:
        ConfigError: naming the camera or the number that is not usable.
    """

    seed: int = 0
    width: int = 640
    height: int = 480
    camera_rate_hz: float = 30.0
    joint_rate_hz: float = 100.0
    jitter_ms: float = 0.5
    camera_delay_ms: float = 5.0
    joint_names: tuple[str, ...] = DEFAULT_JOINT_NAMES
    cameras: tuple[str, ...] = CAMERAS
    lab: Lab | None = None
    stamp_error_ms: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_cameras(self.cameras)
        limits = {
            'seed': (0, 2**63),
            'width': (64, 8192),
            'height': (48, 8192),
            'camera_rate_hz': (0.1, 1000),
            'joint_rate_hz': (0.1, 10_000),
            'jitter_ms': (0, 1000),
            'camera_delay_ms': (0, 10_000),
        }
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f'{name}: {getattr(self, name)} is not within {least} to {most}')
        for source, error_ms in self.stamp_error_ms.items():
            if source not in (*self.cameras, JOINTS) or not abs(error_ms) <= 1000:
                known = ', '.join((*self.cameras, JOINTS))
                raise ConfigError(f'stamp_error_ms: {source} by {error_ms:g}: name one of {known}, by at most 1000')

    def header_stamp_ns(self, event: Event) -> int:
        """What the header of an event's message says."""
        return event.stamp_ns + round(1e6 * self.stamp_error_ms.get(event.source, 0.0))

    @cached_property
    def message_joint_names(self) -> list[str]:
        """The joints' names in the order of the messages."""
        return [self.joint_names[i] for i in np.random.default_rng(self.seed).permutation(len(self.joint_names))]

    def events(self, duration_s: float) -> Iterator[Event]:
        """Every message of the first `duration_s` seconds, in the order of publishing; times count from the start."""
        streams = [self._camera_events(i, camera, duration_s) for i, camera in enumerate(self.cameras)]
        return heapq.merge(*streams, self._joint_events(duration_s), key=lambda event: event.publish_ns)

    def _camera_events(self, index: int, camera: str, duration_s: float) -> Iterator[Event]:
        rng = np.random.default_rng((self.seed, index))
        period_ns = 1e9 / self.camera_rate_hz
        phase_ns = rng.uniform(0, period_ns)
        published_ns = 0
        for number in range(int(duration_s * self.camera_rate_hz)):
            stamp_ns = int(phase_ns + number * period_ns + max(rng.normal(0, self.jitter_ms * 1e6), -period_ns / 4))
            delay_ns = int(self.camera_delay_ms * 1e6 * (1 + 0.1 * rng.random()))
            published_ns = max(published_ns + 1, stamp_ns + delay_ns)
            yield Event(published_ns, stamp_ns, camera, number)

    def _joint_events(self, duration_s: float) -> Iterator[Event]:
        for number in range(int(duration_s * self.joint_rate_hz)):
            stamp_ns = int((number + 0.5) * 1e9 / self.joint_rate_hz)
            yield Event(stamp_ns, stamp_ns, JOINTS, number)

    @cached_property
    def _curves(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        rng = np.random.default_rng((self.seed, 99))
        count = len(self.joint_names)
        return rng.uniform(0.2, 1.2, count), rng.uniform(0.1, 0.6, count), rng.uniform(0, 2 * np.pi, count)

    def joint_positions(self, time_ns: int) -> NDArray[np.float64]:
        """Positions float64 [J] in the order of `joint_names`, rad."""
        amplitude, frequency_hz, phase = self._curves
        return amplitude * np.sin(2 * np.pi * frequency_hz * time_ns / 1e9 + phase)

    def message_positions(self, time_ns: int) -> list[float]:
        """Positions in the order of `message_joint_names`."""
        positions = dict(zip(self.joint_names, self.joint_positions(time_ns).tolist()))
        return [positions[name] for name in self.message_joint_names]

    @cached_property
    def _backgrounds(self) -> dict[str, NDArray[np.uint8]]:
        return {camera: self._background(camera) for camera in self.cameras}

    def _background(self, camera: str) -> NDArray[np.uint8]:
        rows = np.linspace(0.55, 1.25, self.height)[:, np.newaxis, np.newaxis]
        shades = np.broadcast_to(rows * self._view(camera).tint, (self.height, self.width, 3))
        image: NDArray[np.uint8] = np.clip(shades, 0, 255).astype(np.uint8)
        step = self.height // 8
        for x in range(0, self.width, step):
            cv2.line(image, (x, self.height // 2), (2 * x - self.width // 2, self.height), (225, 225, 225), 1, cv2.LINE_AA)
        for y in range(self.height // 2, self.height, step):
            cv2.line(image, (0, y), (self.width, y), (225, 225, 225), 1, cv2.LINE_AA)
        cv2.putText(image, camera, (12, 34), cv2.FONT_HERSHEY_SIMPLEX, 1.0, (255, 255, 255), 2, cv2.LINE_AA)
        return image

    def _view(self, camera: str) -> _View:
        others = [name for name in self.cameras if name not in _VIEWS]
        return _VIEWS[camera] if camera in _VIEWS else _OTHER_VIEWS[others.index(camera) % len(_OTHER_VIEWS)]

    def image(self, camera: str, stamp_ns: int, number: int) -> NDArray[np.uint8]:
        """What a camera sees: uint8 [H,W,3] RGB."""
        if self.lab:
            joints = dict(zip(self.joint_names, self.joint_positions(stamp_ns).tolist()))
            return self.lab.view(camera, (self.height, self.width), joints, stamp_ns)
        image = self._backgrounds[camera].copy()
        time_s = stamp_ns / 1e9
        view = self._view(camera)
        for i, (color, radius) in enumerate(_OBJECTS):
            angle = 2 * np.pi * (0.25 + 0.1 * i) * time_s + 2.1 * i
            x = (0.5 + view.shift + 0.28 * np.cos(angle)) * self.width
            y = (0.6 + 0.2 * np.sin(1.3 * angle)) * self.height
            cv2.circle(image, (round(x), round(y)), round(radius * view.zoom * self.height), color, -1, cv2.LINE_AA)
        label = f'{number:05d}'
        cv2.putText(image, label, (12, self.height - 14), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2, cv2.LINE_AA)
        return image


@dataclass(frozen=True)
class Event:
    """One message: when it is published and captured (nanoseconds from the start), its source and its number there."""

    publish_ns: int
    stamp_ns: int
    source: str
    number: int
