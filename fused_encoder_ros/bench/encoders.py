"""Encoders to measure: of usual dimensions, with random weights."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from fused_encoder_ros.model.encoder import Encoder, ImageJointEncoder, ThreeStreamEncoder
from fused_encoder_ros.model.options import SINGLE
from fused_encoder_ros.spec import ObservationSpec

_JOINTS = len(ObservationSpec().joint_names)


def encoder_for(design: str, cameras: Sequence[str]) -> Encoder:
    """An encoder of usual dimensions with random weights, the same each time."""
    torch.manual_seed(0)
    return ImageJointEncoder(camera_count=len(cameras)) if design == SINGLE else ThreeStreamEncoder(cameras=cameras)


def calibrated(encoder: Encoder, cameras: Sequence[str], rounds: int = 10) -> Encoder:
    """The encoder with BatchNorm statistics of ordinary images, so that activations have ordinary sizes."""
    encoder.train()
    with torch.no_grad():
        for _ in range(rounds):
            encoder(*(torch.rand(8, 3, 84, 84) for _ in cameras), torch.randn(8, _JOINTS))
    return encoder.eval()
