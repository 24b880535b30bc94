"""One engine in a process of its own, which times what it is told to."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from fused_encoder_ros.bench.encoders import calibrated, encoder_for
from fused_encoder_ros.bench.measuring import sweep_caches
from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.model._torchvision import import_torchvision
from fused_encoder_ros.model.encoder import Encoder
from fused_encoder_ros.model.engines import Engine, choose_engine
from fused_encoder_ros.pipeline.images import ImageDecoder
from fused_encoder_ros.spec import ObservationSpec

PLAIN = 'torchvision+eager'
"""No engine of this package: torchvision's transforms, then plain eager torch, as one would write from the tutorials."""

_WIDTH, _HEIGHT = 640, 480
_JOINTS = len(ObservationSpec().joint_names)

Call = Callable[[], object]


@dataclass(frozen=True)
class Subject:
    """What runs in the process."""

    design: str
    engine: str
    precision: str
    device: str
    threads: int
    cameras: tuple[str, ...]


def serve(pipe: Any, subject: Subject) -> None:
    """Say whether the subject runs here; then answer (call, pause in seconds) with milliseconds, for ever.

    The call 'features' is answered with features, and a call that the subject does not know with None.
    """
    torch.set_num_threads(subject.threads)
    encoder = calibrated(encoder_for(subject.design, subject.cameras), subject.cameras)
    device = torch.device(subject.device)
    if subject.engine == PLAIN:
        calls: dict[str, Call] = {'route': _plain_route(encoder, device, len(subject.cameras))}
    else:
        calls = _calls_of_engine(encoder, subject, device)
    pipe.send(bool(calls))
    while calls:
        name, pause_s = pipe.recv()
        if name == 'features':
            pipe.send(calls['features']() if 'features' in calls else None)
        else:
            pipe.send(_timed(calls[name], pause_s) if name in calls else None)


def _timed(call: Call, pause_s: float) -> float:
    if pause_s:
        sweep_caches()
        time.sleep(pause_s)
    else:
        call()
    start = time.perf_counter()
    call()
    return (time.perf_counter() - start) * 1e3


def _calls_of_engine(encoder: Encoder, subject: Subject, device: torch.device) -> dict[str, Call]:
    spec = ObservationSpec(cameras=subject.cameras)
    try:
        choice = choose_engine(encoder, spec, device, subject.engine, subject.precision, subject.threads)
    except ConfigError:
        return {}  # not installed, or not for this device or precision
    engine = choice.engine
    calls = {'route': _our_route(engine, spec), 'features': _encode(engine, spec, 16)}
    return calls | {f'batch {batch}': _encode(engine, spec, batch) for batch in (1, 64)}


def _encode(engine: Engine, spec: ObservationSpec, batch: int) -> Call:
    rng = np.random.default_rng(batch)
    images = rng.integers(0, 256, (batch, 84, 84, spec.channels), dtype=np.uint8)
    joints = rng.normal(size=(batch, _JOINTS)).astype(np.float32)
    return lambda: engine.encode(images, joints)


def _our_route(engine: Engine, spec: ObservationSpec) -> Call:
    decoder, messages = ImageDecoder(84, 'linear'), _messages(len(spec.cameras))
    joints = np.zeros((1, _JOINTS), np.float32)

    def run() -> object:
        images = np.concatenate([decoder.decode(message) for message in messages], axis=2)
        return engine.encode(images[np.newaxis], joints)

    return run


def _plain_route(encoder: nn.Module, device: torch.device, cameras: int) -> Call:
    import_torchvision()
    from torchvision import transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Resize((84, 84), antialias=True)])
    encoder, messages, joints = encoder.to(device), _messages(cameras), torch.zeros(1, _JOINTS, device=device)

    def run() -> object:
        pixels = [np.frombuffer(message.data, np.uint8).reshape(_HEIGHT, _WIDTH, 3) for message in messages]
        with torch.no_grad():
            return encoder(*(transform(image).unsqueeze(0).to(device) for image in pixels), joints).cpu().numpy()

    return run


def _messages(count: int) -> list[Any]:
    rng = np.random.default_rng(0)
    shape = {'height': _HEIGHT, 'width': _WIDTH, 'step': 3 * _WIDTH, 'encoding': 'rgb8', 'is_bigendian': 0}
    return [SimpleNamespace(**shape, data=rng.integers(0, 256, 3 * _WIDTH * _HEIGHT, dtype=np.uint8)) for _ in range(count)]
