"""What the synthetic robot's cameras see when its scene is a laboratory: a workbench with objects on it.

A camera named after an arm of the joints (`left_wrist`, `right_wrist`) rides on that arm: its view shifts, turns and zooms
with the seven joints, and shows the gripper opening and closing. Every other camera stands still and sees the bench with both
arms.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.errors import ConfigError

_TEXTURE_SIDE = 1536
_BENCH_WIDTH = 3.0
"""Side of the bench; a wrist camera sees some 0.6 of it, a fixed camera 1.8."""

_WRIST_VIEW, _FIXED_VIEW = 0.6, 1.8
_ARM_SIDE = {'left': -1.0, 'right': 1.0}
_HOME = (0.35, 0.05)
"""Of an arm's wrist: distance from the middle of the bench to the side, and towards the robot."""

_SHIFT_PER_RAD, _YAW_PER_RAD, _ZOOM_PER_RAD = 0.06, 0.08, 0.05
_FINGER_GAP_PER_RAD = 0.08


@dataclass(frozen=True)
class Lab:
    """A laboratory.

    Attributes:
        seed: of what stays: the bench, its fixtures, and how the cameras are mounted.
        objects: of what changes from episode to episode: what lies on the bench, and where.
        brightness: of the light; 1 is ordinary.
        warmth: red up and blue down by this part, or the other way round when negative.
        noise: standard deviation of each pixel, of 255.

    Raises:
        ConfigError: naming the number that is not usable.
    """

    seed: int = 0
    objects: int = 0
    brightness: float = 1.0
    warmth: float = 0.0
    noise: float = 2.0

    def __post_init__(self) -> None:
        limits = {
            'seed': (0, 2**63),
            'objects': (0, 2**63),
            'brightness': (0.05, 5),
            'warmth': (-0.5, 0.5),
            'noise': (0, 50),
        }
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise ConfigError(f'lab {name}: {getattr(self, name)} is not within {least} to {most}')

    def view(self, camera: str, size: tuple[int, int], joints: Mapping[str, float], time_ns: int) -> NDArray[np.uint8]:
        """What a camera sees: uint8 [H,W,3] RGB.

        Args:
            camera: its name.
            size: height and width, pixels.
            joints: position by name, rad; `<arm>_joint_1` to `_7` and `<arm>_gripper` of each arm.
            time_ns: of the picture; the noise depends on it.
        """
        arm = camera.removesuffix('_wrist')
        if arm in _ARM_SIDE and camera != arm:
            x, y, yaw, zoom = self._wrist(arm, joints)
            image = self._look(size, x, y, yaw, _WRIST_VIEW / zoom)
            _draw_gripper(image, _ARM_SIDE[arm], joints.get(f'{arm}_gripper', 0.0))
        else:
            x, y, yaw = self._mount(camera)
            image = self._look(size, x, y, yaw, _FIXED_VIEW)
            for name in _ARM_SIDE:
                self._draw_arm(image, name, joints, (x, y, yaw))
        return self._exposed(image, time_ns)

    def _wrist(self, arm: str, joints: Mapping[str, float]) -> tuple[float, float, float, float]:
        """Where a wrist camera is on the bench, how it is turned (rad), and its zoom."""
        positions = np.array([joints.get(f'{arm}_joint_{i}', 0.0) for i in range(1, 8)])
        shift, yaw, zoom = self._mounting
        dx, dy = _SHIFT_PER_RAD * shift @ positions
        side = _ARM_SIDE[arm]
        turned = side * float(_YAW_PER_RAD * yaw @ positions)
        return side * (_HOME[0] + dx), _HOME[1] + dy, turned, float(np.exp(_ZOOM_PER_RAD * zoom @ positions))

    def _mount(self, camera: str) -> tuple[float, float, float]:
        if camera == 'global':
            return 0.0, 0.0, 0.0
        rng = np.random.default_rng((self.seed, *camera.encode()))
        return rng.uniform(-0.4, 0.4), rng.uniform(-0.3, 0.3), rng.uniform(-0.5, 0.5)

    @cached_property
    def _mounting(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        rng = np.random.default_rng((self.seed, 7))
        return rng.normal(size=(2, 7)), rng.normal(size=7), rng.normal(size=7)

    def _look(self, size: tuple[int, int], x: float, y: float, yaw: float, width: float) -> NDArray[np.uint8]:
        """The bench around a point, turned, with so much of it across the image."""
        pixels_per_unit = _TEXTURE_SIDE / _BENCH_WIDTH
        scale = width / size[1] * pixels_per_unit
        cos, sin = scale * np.cos(yaw), scale * np.sin(yaw)
        turn = np.array([[cos, -sin], [sin, cos]])
        centre = np.array([x, y]) * pixels_per_unit + _TEXTURE_SIDE / 2
        offset = centre - turn @ np.array([size[1] / 2, size[0] / 2])
        return cv2.warpAffine(  # type: ignore[return-value]
            self._bench,
            np.column_stack([turn, offset]),
            (size[1], size[0]),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT,
        )

    def _draw_arm(
        self, image: NDArray[np.uint8], arm: str, joints: Mapping[str, float], mount: tuple[float, float, float]
    ) -> None:
        height, width = image.shape[:2]
        x0, y0, yaw = mount
        cos, sin = np.cos(yaw), np.sin(yaw)

        def at(x: float, y: float) -> tuple[int, int]:
            dx, dy = x - x0, y - y0
            u, v = cos * dx + sin * dy, -sin * dx + cos * dy
            return round((u / _FIXED_VIEW + 0.5) * width), round(v / _FIXED_VIEW * width + height / 2)

        side = _ARM_SIDE[arm]
        x, y, _, zoom = self._wrist(arm, joints)
        base, wrist = at(side * 0.55, 0.75), at(x, y + 0.08)
        elbow = at((x + side * 0.55) / 2 + side * 0.12 * zoom, (y + 0.75) / 2)
        for start, end, share in ((base, elbow, 0.075), (elbow, wrist, 0.055)):
            cv2.line(image, start, end, (45, 45, 50), round(share * width), cv2.LINE_AA)
            cv2.line(image, start, end, (205, 205, 210), round(share * width * 0.6), cv2.LINE_AA)
        cv2.circle(image, wrist, round(0.03 * width), (230, 120, 40) if side < 0 else (60, 90, 200), -1, cv2.LINE_AA)

    @cached_property
    def _bench(self) -> NDArray[np.uint8]:
        rng = np.random.default_rng((self.seed, 1))
        side = _TEXTURE_SIDE
        bench = np.full((side, side, 3), (150.0, 128.0, 100.0), np.float32)
        for cells, strength in ((6, 30.0), (24, 18.0), (96, 14.0), (384, 9.0)):
            grain = rng.normal(0, strength, (cells, cells, 3)).astype(np.float32)
            grain = 0.75 * grain.mean(axis=2, keepdims=True) + 0.25 * grain
            bench += cv2.resize(grain, (side, side), interpolation=cv2.INTER_CUBIC)
        image = np.clip(bench, 0, 255).astype(np.uint8)
        _scatter(image, rng, count=70, largest=0.05)
        _scatter(image, np.random.default_rng((self.seed, self.objects, 2)), count=12, largest=0.035)
        return image

    @cached_property
    def _grain(self) -> NDArray[np.int16]:
        rng = np.random.default_rng((self.seed, 3))
        return np.round(rng.normal(0, self.noise, (1 << 21) + (1 << 16))).astype(np.int16)

    def _exposed(self, image: NDArray[np.uint8], time_ns: int) -> NDArray[np.uint8]:
        gains = self.brightness * np.array([1 + self.warmth, 1.0, 1 - self.warmth])
        table = np.clip(np.arange(256)[:, np.newaxis] * gains, 0, 255).astype(np.uint8)
        image = cv2.LUT(image, table.reshape(1, 256, 3))  # type: ignore[assignment]
        if not self.noise:
            return image
        start = time_ns // 1000 * 48_271 % (1 << 16)
        noise = np.resize(self._grain[start:], image.shape)
        return np.clip(image + noise, 0, 255).astype(np.uint8)


def _scatter(image: NDArray[np.uint8], rng: np.random.Generator, count: int, largest: float) -> None:
    """Paint rectangles, discs and strokes of many colours."""
    side = image.shape[0]
    for _ in range(count):
        x, y = (int(v) for v in rng.uniform(0.08, 0.92, 2) * side)
        a, b = (int(v) for v in rng.uniform(0.2, 1.0, 2) * largest * side)
        color = tuple(int(v) for v in rng.uniform(20, 240, 3))
        kind = rng.integers(3)
        if kind == 0:
            corners = cv2.boxPoints(((x, y), (2 * a, 2 * b), rng.uniform(0, 180))).astype(np.int32)
            cv2.fillPoly(image, [corners], color, cv2.LINE_AA)
        elif kind == 1:
            cv2.circle(image, (x, y), a, color, -1, cv2.LINE_AA)
        else:
            cv2.line(image, (x, y), (x + 4 * a, y + 2 * b - side // 40), color, max(3, b // 3), cv2.LINE_AA)


def _draw_gripper(image: NDArray[np.uint8], side: float, position: float) -> None:
    """Two fingers from below, and the cable, which runs along the outer side."""
    height, width = image.shape[:2]
    gap = 0.09 + _FINGER_GAP_PER_RAD * float(np.clip(abs(position), 0, 1.5))
    for direction in (-1, 1):
        foot, tip = 0.5 + direction * (0.22 + 0.3 * gap), 0.5 + direction * gap
        finger = [(foot - 0.05, 1.0), (tip - 0.02, 0.66), (tip + 0.02, 0.66), (foot + 0.05, 1.0)]
        corners = np.array([(u * width, v * height) for u, v in finger]).round().astype(np.int32)
        cv2.fillPoly(image, [corners], (60, 62, 66), cv2.LINE_AA)
        cv2.polylines(image, [corners], True, (190, 192, 198), max(1, width // 160), cv2.LINE_AA)
    start, end = (round((0.5 + side * 0.42) * width), height), (round((0.5 + side * 0.28) * width), round(0.86 * height))
    cv2.line(image, start, end, (25, 25, 28), max(2, width // 40), cv2.LINE_AA)
