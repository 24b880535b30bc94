"""The model as the node and the bag tools use it: encoder, engine and identity together."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fused_encoder_ros.errors import CheckpointError
from fused_encoder_ros.model.checkpoint import SINGLE, Dimensions, content_hash, load_encoder, random_encoder
from fused_encoder_ros.model.choose import Choice, choose_engine
from fused_encoder_ros.model.encoder import ImageJointEncoder, ThreeStreamEncoder
from fused_encoder_ros.model.engine import choose_device
from fused_encoder_ros.spec import ObservationSpec

_WARM_UP_RUNS = 3


@dataclass(frozen=True)
class ModelOptions:
    """Which encoder to run, and where.

    Attributes:
        checkpoint: path of a state dict; '' runs a random encoder.
        design: 'auto', 'single' or 'three_stream'.
        seed: seed of the random encoder.
        device: 'auto', 'cpu', 'cuda' or 'cuda:N'.
        engine: 'auto', 'eager' or 'packed'.
        precision: 'fp32' or 'bf16'.
        threads: CPU threads of torch. The number changes the last bits of a feature, so it is never left to chance.
    """

    checkpoint: str = ''
    design: str = 'auto'
    seed: int = 0
    device: str = 'auto'
    engine: str = 'auto'
    precision: str = 'fp32'
    threads: int = 2


class Model:
    """A loaded and warmed-up encoder.

    Attributes:
        engine: what runs it.
        engine_error: its error against the engine eager in float32, relative to the largest value of the features.
        engine_reason: why this engine.
        threads: CPU threads that it runs on.
        design: class name of the encoder.
        feature_dim: width D of a feature.
        hash: SHA-256 of the weights, hex.
        is_random: whether the weights are random because no checkpoint was given.
        warm_up_s: seconds that the warm-up took.
    """

    def __init__(
        self,
        encoder: ImageJointEncoder | ThreeStreamEncoder,
        choice: Choice,
        spec: ObservationSpec,
        threads: int,
        is_random: bool,
    ) -> None:
        self.engine = choice.engine
        self.engine_error = choice.error
        self.engine_reason = choice.reason
        self.threads = threads
        self.design = type(encoder).__name__
        self.feature_dim = encoder.fusion_dim
        self.hash = content_hash(encoder)
        self.is_random = is_random
        start = time.perf_counter()
        images = np.zeros((1, spec.image_size, spec.image_size, spec.channels), np.uint8)
        for _ in range(_WARM_UP_RUNS):
            self.encode(images, np.zeros((1, len(spec.joint_names)), np.float32))
        self.warm_up_s = time.perf_counter() - start

    @property
    def short_hash(self) -> str:
        """The first twelve digits, for names and displays."""
        return self.hash[:12]

    @property
    def description(self) -> str:
        """One line for logs."""
        weights = 'RANDOM weights' if self.is_random else 'weights'
        engine = f'{self.engine.name} {self.engine.precision} on {self.engine.device}'
        return f'{self.design}, {weights} {self.short_hash}, engine {engine}'

    def encode(self, images: NDArray[np.uint8], joints: NDArray[np.float32]) -> NDArray[np.float32]:
        """Images uint8 [B,S,S,9] and joints float32 [B,J] to features float32 [B,D]."""
        if torch.get_num_threads() != self.threads:  # torch keeps the number for each calling thread
            torch.set_num_threads(self.threads)
        return self.engine.encode(images, joints)


def load_model(options: ModelOptions, spec: ObservationSpec) -> Model:
    """Load, place and warm up the encoder.

    Raises:
        CheckpointError: when the checkpoint cannot be used with this spec.
        ConfigError: when the device cannot be used.
    """
    device = choose_device(options.device)
    joint_dim = len(spec.joint_names)
    if options.checkpoint:
        encoder = load_encoder(options.checkpoint, options.design)
        if encoder.joint_dim != joint_dim:
            raise CheckpointError(
                f'checkpoint: {options.checkpoint} was trained with {encoder.joint_dim} joints, but joint_names lists '
                f'{joint_dim}: {list(spec.joint_names)}; list the joints of the training data, in its order'
            )
    else:
        design = SINGLE if options.design == 'auto' else options.design
        width = 256 if design == SINGLE else 128
        encoder = random_encoder(Dimensions(design, joint_dim, width, 256), options.seed)
    torch.set_num_threads(options.threads)
    choice = choose_engine(encoder, spec, device, options.engine, options.precision)
    return Model(encoder, choice, spec, options.threads, is_random=not options.checkpoint)
