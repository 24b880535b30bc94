"""A profile in figures that a person understands."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fused_encoder_ros.content.looks import MEASURES
from fused_encoder_ros.content.profile import Profile
from fused_encoder_ros.content.reference import Reference


def summarise(profile: Profile) -> dict[str, Any]:
    """What a profile holds, as JSON has it.

    `cameras` has for each camera the limits of its measures (1st and 99th percentile), and under `cannot_tell` the faults that
    its training data do not tell from sound data; `joints` the limits of each joint.
    """
    reference = Reference(profile)
    names = profile.fed['joint_names']
    cameras = {}
    for name, camera in reference.cameras.items():
        unknown = {t.hypothesis.fault for t in camera.likeness.tellings if t.gain is None}
        known = {t.hypothesis.fault for t in camera.likeness.tellings if t.gain is not None}
        alike = [f'exchanged with {other}' for other, gain in camera.gains_as.items() if gain is None]
        limits = {measure: [float(camera.lowest[i]), float(camera.highest[i])] for i, measure in enumerate(MEASURES)}
        cameras[name] = {**limits, 'cannot_tell': sorted(unknown - known) + alike}
    return {
        'bags': profile.bags,
        'sets': profile.sets,
        'duration_s': profile.duration_ns / 1e9,
        'rows': len(profile.rows),
        'is_weak': reference.is_weak,
        'offsets': {camera: asdict(offset) for camera, offset in profile.trained_offsets().items()},
        'has_features': reference.features is not None,
        'cameras': cameras,
        'joints': {name: [float(low), float(high)] for name, low, high in zip(names, profile.lowest, profile.highest)},
    }
