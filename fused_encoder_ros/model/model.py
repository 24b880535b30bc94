"""The model that the node and the bag tools use: an encoder with the engine that runs it."""

from __future__ import annotations

import ctypes
import gc
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import torch
from numpy.typing import NDArray

from fused_encoder_ros.errors import CheckpointError, EngineError, in_one_line
from fused_encoder_ros.model.checkpoint import (
    Dimensions,
    check_design,
    check_fits,
    content_hash,
    load_encoder,
    random_encoder,
)
from fused_encoder_ros.model.encoder import Encoder
from fused_encoder_ros.model.engines import ERROR_BOUNDS, Choice, choose_engine, device_for
from fused_encoder_ros.model.options import SINGLE, ModelOptions
from fused_encoder_ros.model.packed_checkpoint import PackedCheckpoint, read_packed
from fused_encoder_ros.spec import ObservationSpec


class Model:
    """A loaded encoder, ready to run; `load_model` makes it.

    Attributes:
        engine: what runs the encoder; it has a `name`, a `precision` and a `device`.
        engine_error: difference to the engine `eager` in float32, relative to the largest value of the features.
        engine_reason: one sentence on why this engine was chosen.
        threads: number of CPU threads.
        design: class name of the encoder.
        feature_dim: number D of values in a feature.
        hash: SHA-256 of the weights, in hex.
        is_random: whether the weights are random, because no checkpoint was given.
        is_described: whether the checkpoint is a packed one, which holds its observation spec.
        start_up_s: time that building, checking and warming up the engine took, in seconds.
    """

    def __init__(
        self, encoder: Encoder, choice: Choice, *, threads: int, is_random: bool, is_described: bool, start_up_s: float
    ) -> None:
        self.engine = choice.engine
        self.engine_error = choice.error
        self.engine_reason = choice.reason
        self.threads = threads
        self.design = type(encoder).__name__
        self.feature_dim = encoder.fusion_dim
        self.hash = content_hash(encoder)
        self.is_random = is_random
        self.is_described = is_described
        self.start_up_s = start_up_s
        self._build = choice.build

    @property
    def short_hash(self) -> str:
        """The first twelve digits of the hash, for names and displays."""
        return self.hash[:12]

    @property
    def description(self) -> str:
        """One line for the log: design, weights and engine."""
        weights = 'RANDOM weights' if self.is_random else 'weights'
        engine = f'{self.engine.name} {self.engine.precision} on {self.engine.device}'
        return f'{self.design}, {weights} {self.short_hash}, engine {engine}'

    @property
    def device_bytes(self) -> int | None:
        """Bytes that torch has reserved on the engine's GPU; None on a CPU."""
        return torch.cuda.memory_reserved(self.engine.device) if self.engine.device.type == 'cuda' else None

    @property
    def warnings(self) -> list[str]:
        """What the user should be warned about, one text for each warning; empty for a packed checkpoint."""
        if self.is_random:
            return ['NO CHECKPOINT: every feature comes from RANDOM weights; set the parameter checkpoint']
        if not self.is_described:
            return [
                'the checkpoint contains no observation spec: image size, camera order, scaling and joints come from the '
                'parameters, and nothing checks them; `fused-encoder pack` writes a checkpoint with a spec'
            ]
        return []

    def encode(self, images: NDArray[np.uint8], joints: NDArray[np.float32]) -> NDArray[np.float32]:
        """Encode B observations.

        Args:
            images: uint8 [B,S,S,3*cameras], as `Observation.images`.
            joints: float32 [B,J], as `Observation.joints`.

        Returns:
            Features, float32 [B,D]. If the joints of an observation hold NaN or infinity, its feature is NaN.

        Raises:
            EngineError: if the engine fails; `rebuild` may help.
        """
        if torch.get_num_threads() != self.threads:  # torch keeps the number for each calling thread
            torch.set_num_threads(self.threads)
        finite: NDArray[np.bool_] = np.asarray(np.isfinite(joints).all(axis=1))
        if not finite.all():
            joints = np.where(finite[:, np.newaxis], joints, np.float32(0))
        try:
            features = self.engine.encode(images, joints)
        except torch.cuda.OutOfMemoryError as error:
            raise EngineError(
                f'{self.engine.device} is out of memory: free memory, use a smaller batch, or set device to cpu '
                f'({in_one_line(error)})'
            ) from error
        except (RuntimeError, MemoryError) as error:  # what torch and OpenVINO raise
            raise EngineError(f'the engine {self.engine.name} failed: {type(error).__name__}: {in_one_line(error)}') from error
        # oneDNN's ReLU turns NaN into 0, and the feature would look sound.
        features[~finite] = np.nan
        return features

    def rebuild(self) -> None:
        """Build the engine again after it has failed.

        Raises:
            EngineError: if that fails as well.
        """
        try:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.engine = self._build()
        except Exception as error:
            on_cuda = self.engine.device.type == 'cuda'
            hint = '; if the GPU was lost, restart the program' if on_cuda else ''
            raise EngineError(f'the engine {self.engine.name} cannot be rebuilt: {in_one_line(error)}{hint}') from error


def release_memory() -> None:
    """Return the memory of models that are no longer used to the system and to the GPU.

    glibc would keep it: a node that was configured fifty times grew by 300 MiB (`benchmarks/lifecycle.py`).
    """
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    with suppress(AttributeError):  # other C libraries
        ctypes.CDLL(None).malloc_trim(0)


def load_model(options: ModelOptions, spec: ObservationSpec) -> Model:
    """Load the encoder, put it on its device, check it against plain torch, and warm it up.

    Args:
        options: which checkpoint, engine and device to use; `Settings.model` holds them.
        spec: how the encoder's input is made; `Settings.spec`.

    Raises:
        CheckpointError: if the checkpoint does not fit the spec, or does not give its golden feature on this machine.
        ConfigError: if the device or engine cannot be used on this machine.
    """
    # On a thread that ends with it. torch starts helpers for each thread that computes; those of a loading thread would stay
    # and, with the encoding thread's, outnumber the cores, where OpenMP no longer lets them wait actively: half the speed.
    with ThreadPoolExecutor(max_workers=1) as loader:
        return loader.submit(_load, options, spec).result()


def _load(options: ModelOptions, spec: ObservationSpec) -> Model:
    device = device_for(options.engine, options.device)
    packed = read_packed(options.checkpoint) if options.checkpoint else None
    encoder = _encoder(options, packed, spec)
    if packed is not None and packed.spec != spec:
        raise CheckpointError(f'checkpoint: {options.checkpoint} contains another observation spec; use that one')
    check_fits(encoder, spec, options.checkpoint)
    start = time.perf_counter()
    torch.set_num_threads(options.threads)
    choice = choose_engine(encoder, spec, device, options.engine, options.precision, options.threads)
    if packed is not None:
        _check_golden(packed, choice, options.checkpoint)
    return Model(
        encoder,
        choice,
        threads=options.threads,
        is_random=not options.checkpoint,
        is_described=packed is not None,
        start_up_s=time.perf_counter() - start,
    )


def _encoder(options: ModelOptions, packed: PackedCheckpoint | None, spec: ObservationSpec) -> Encoder:
    if packed is not None:
        check_design(packed.dimensions, options.design, options.checkpoint)
        return packed.encoder
    if options.checkpoint:
        return load_encoder(options.checkpoint, options.design, spec.cameras)
    design = SINGLE if options.design == 'auto' else options.design
    width = 256 if design == SINGLE else 128
    return random_encoder(Dimensions(design, len(spec.joint_names), width, 256, len(spec.cameras), spec.cameras), options.seed)


def _check_golden(packed: PackedCheckpoint, choice: Choice, path: str) -> None:
    """Whether the engine here gives the numbers of the machine where it was packed, from pixels at the encoder's size on."""
    engine = choice.engine
    error, bound = packed.golden_error(engine), ERROR_BOUNDS[engine.precision]
    if not error <= bound:
        raise CheckpointError(
            f'checkpoint: {path} does not give its golden feature on {engine.name} {engine.precision} on {engine.device}: '
            f'relative error {error:.1e}, allowed {bound:.0e}; try engine eager; if that fails too, pack it again'
        )
