"""The reference engine."""

from __future__ import annotations

import copy

import numpy as np
import torch

from fused_encoder_ros.model.encoder import Encoder
from fused_encoder_ros.model.engines.engine import Engine, Features, Images, Inputs, Joints
from fused_encoder_ros.model.engines.network import Network
from fused_encoder_ros.spec import ObservationSpec


class EagerEngine(Engine):
    """Plain torch in float32 with TF32 off: the reference that other engines are compared with."""

    name = 'eager'
    precision = 'fp32'

    def __init__(self, encoder: Encoder, spec: ObservationSpec, device: torch.device) -> None:
        self.device = device
        if device.type == 'cuda':
            exact_float32()
            encoder = copy.deepcopy(encoder)  # the original stays on the CPU, safe from a lost device
        self._network = Network(encoder, spec, torch.contiguous_format).to(device).eval()
        self._spec = spec
        self._inputs = Inputs(1, spec)

    @torch.inference_mode()
    def encode(self, images: Images, joints: Joints) -> Features:
        """See `Engine.encode`."""
        count = len(images)
        if count > len(self._inputs):
            self._inputs = Inputs(count, self._spec)
        self._inputs.fill(images, joints)
        features = self._network(self._inputs.images[:count].to(self.device), self._inputs.joints[:count].to(self.device))
        return np.asarray(features.cpu().numpy(), np.float32)


def exact_float32() -> None:
    """Turn TF32 off, and make CUDA's convolutions the same from run to run. torch keeps this for the whole process."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
