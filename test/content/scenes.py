"""What observations of a small lab show, rendered at the encoder's size, and faults put into them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fused_encoder_ros.content.judgement import ContentFault
from fused_encoder_ros.content.profile import Profile, ProfileMaker
from fused_encoder_ros.content.reference import Reference
from fused_encoder_ros.content.watch import Watcher
from fused_encoder_ros.lab import Lab
from fused_encoder_ros.pipeline.data import JOINTS, Observation
from fused_encoder_ros.spec import ObservationSpec
from fused_encoder_ros.synthetic import Rig

SPEC = ObservationSpec()
RATE_HZ = 5.0

Picture = NDArray[np.uint8]
Change = Callable[[Observation], Observation]

_POSTURE = np.random.default_rng(5).uniform(-0.8, 0.8, len(SPEC.joint_names))
"""About which the joints move: robots do not train around zero."""


def episode(seed: int, seconds: float = 12.0, still: bool = False, spec: ObservationSpec = SPEC) -> list[Observation]:
    """Observations of one episode: other objects, other light and other motion for each seed."""
    rng = np.random.default_rng((seed, 77))
    lab = Lab(objects=seed, brightness=float(rng.uniform(0.8, 1.2)), warmth=float(rng.uniform(-0.05, 0.05)))
    rig = Rig(seed=seed, lab=lab, width=112, height=84, cameras=spec.cameras)
    made = []
    for number in range(int(seconds * RATE_HZ)):
        stamp_ns = 1_000_000_000 + int(number * 1e9 / RATE_HZ)
        moment_ns = 1_000_000_000 if still else stamp_ns
        views = [lab.view(c, (84, 112), _joints(rig, moment_ns), stamp_ns) for c in spec.cameras]
        images = np.concatenate([cv2.resize(view, (84, 84)) for view in views], axis=2).astype(np.uint8)
        positions = rig.joint_positions(moment_ns) + _POSTURE
        stamps = dict.fromkeys((*spec.cameras, JOINTS), stamp_ns)
        made.append(Observation(stamp_ns, images, positions.astype(np.float32), positions, stamps))
    return made


def _joints(rig: Rig, time_ns: int) -> dict[str, float]:
    return dict(zip(rig.joint_names, rig.joint_positions(time_ns).tolist()))


def profile_of(observations: list[Observation], spec: ObservationSpec = SPEC) -> Profile:
    """The profile of one episode."""
    maker = ProfileMaker(spec)
    for observation in observations:
        maker.see(observation)
    return maker.finish()


def faults_in(reference: Reference, observations: list[Observation], change: Change) -> tuple[list[ContentFault], float]:
    """The faults that are told of changed observations, and after how many seconds the first was."""
    watcher = Watcher(reference)
    found: dict[tuple[str, str, str], ContentFault] = {}
    first_s = float('inf')
    for observation in observations:
        for fault in watcher.see(change(observation)):
            first_s = min(first_s, (observation.stamp_ns - observations[0].stamp_ns) / 1e9)
            found[fault.key] = fault
    return list(found.values()), first_s


def of_camera(camera: str, change: Callable[[Picture], Picture]) -> Change:
    """A change of one camera's pictures."""

    def apply(observation: Observation) -> Observation:
        pictures = dict(observation.camera_images)
        pictures[camera] = change(np.ascontiguousarray(pictures[camera]))
        return replace(observation, images=np.concatenate(list(pictures.values()), axis=2))

    return apply


def of_joints(change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Change:
    """A change of the positions."""

    def apply(observation: Observation) -> Observation:
        positions = change(observation.joint_positions.copy())
        return replace(observation, joint_positions=positions, joints=positions.astype(np.float32))

    return apply


def exchanged(one: str, other: str) -> Change:
    """Two cameras that show each other's pictures."""

    def apply(observation: Observation) -> Observation:
        pictures = dict(observation.camera_images)
        pictures[one], pictures[other] = pictures[other], pictures[one]
        return replace(observation, images=np.concatenate(list(pictures.values()), axis=2))

    return apply


def frozen(camera: str) -> Change:
    """A camera whose first picture comes again and again."""
    first: list[Picture] = []

    def same(picture: Picture) -> Picture:
        first.append(picture)
        return first[0]

    return of_camera(camera, same)


def stuck(joint: int) -> Change:
    """A joint that stays where it was first."""
    first: list[float] = []

    def same(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        first.append(positions[joint])
        positions[joint] = first[0]
        return positions

    return of_joints(same)


def unchanged(observation: Observation) -> Observation:
    """No fault."""
    return observation


def upside_down(camera: str) -> Change:
    """A camera mounted the wrong way up."""
    return of_camera(camera, lambda picture: np.rot90(picture, 2))


def times(joint: int, factor: float) -> Change:
    """A joint in another unit."""

    def change(positions: NDArray[np.float64]) -> NDArray[np.float64]:
        positions[joint] *= factor
        return positions

    return of_joints(change)


def tilted(camera: str, degrees: float) -> Change:
    """A camera that has been knocked."""
    turn = cv2.getRotationMatrix2D((41.5, 41.5), degrees, 1.0)
    return of_camera(camera, lambda picture: _warped(picture, np.asarray(turn)))


def _warped(picture: Picture, turn: NDArray[np.float64]) -> Picture:
    return np.asarray(cv2.warpAffine(picture, turn, (84, 84), borderMode=cv2.BORDER_REFLECT), np.uint8)


FAULTS_OF_PICTURES: dict[str, Callable[[str], Change]] = {
    'red_and_blue_exchanged': lambda camera: of_camera(camera, lambda picture: picture[..., ::-1]),
    'turned_180': upside_down,
    'turned_90': lambda camera: of_camera(camera, lambda picture: np.rot90(picture, -1)),
    'turned_270': lambda camera: of_camera(camera, lambda picture: np.rot90(picture, 1)),
    'mirrored': lambda camera: of_camera(camera, lambda picture: picture[:, ::-1]),
    'flipped': lambda camera: of_camera(camera, lambda picture: picture[::-1]),
    'too_dark': lambda camera: of_camera(camera, lambda picture: (0.3 * picture).astype(np.uint8)),
    'too_bright': lambda camera: of_camera(camera, lambda picture: np.minimum(2.5 * picture, 255).astype(np.uint8)),
    'covered': lambda camera: of_camera(camera, lambda picture: (0.02 * picture + 6).astype(np.uint8)),
    'blurred': lambda camera: of_camera(camera, lambda picture: np.asarray(cv2.GaussianBlur(picture, (0, 0), 2.5), np.uint8)),
    'frozen': frozen,
    'moved': lambda camera: tilted(camera, 10 if camera == 'global' else 18),
}
"""By name, the fault of a camera."""

FAULTS_OF_JOINTS: dict[str, Change] = {
    'degrees': of_joints(np.degrees),
    'arms_exchanged': of_joints(lambda positions: np.concatenate([positions[8:], positions[:8]])),
    'scaled': times(7, 100.0),
}
