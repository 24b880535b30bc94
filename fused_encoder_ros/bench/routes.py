"""From three camera messages to the feature: this package against the route that one would write from the tutorials."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import nn

from fused_encoder_ros.bench.measuring import interleaved
from fused_encoder_ros.model._torchvision import import_torchvision
from fused_encoder_ros.model.engines import Engine
from fused_encoder_ros.options import SINGLE, THREE_STREAM
from fused_encoder_ros.pipeline.images import ImageDecoder

_WIDTH, _HEIGHT = 640, 480
_PLAIN = f'torchvision transforms, {THREE_STREAM} eager'


def measure(encoders: Mapping[str, nn.Module], engines: Mapping[str, Engine], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each route, and how many times faster it is than transforms and three-stream in eager torch."""
    messages = _messages()
    device = next(iter(engines.values())).device
    routes: dict[str, Callable[[], object]] = {}
    for design in (THREE_STREAM, SINGLE):
        routes[f'torchvision transforms, {design} eager'] = _plain_route(encoders[design], messages, device)
    for name, engine in engines.items():
        if name.startswith(SINGLE):
            routes[f'this package, {name}'] = _our_route(engine, messages)
    times = interleaved(routes, rounds)
    return {
        name: {
            'ms': round(float(np.median(values)), 3),
            'times_faster': round(float(np.median(times[_PLAIN] / values)), 2),
        }
        for name, values in times.items()
    }


def _our_route(engine: Engine, messages: list[Any]) -> Callable[[], object]:
    decoder = ImageDecoder(84, 'linear')
    joints = np.zeros((1, 16), np.float32)

    def run() -> object:
        images = np.concatenate([decoder.decode(message) for message in messages], axis=2)
        return engine.encode(images[np.newaxis], joints)

    return run


def _plain_route(encoder: nn.Module, messages: list[Any], device: torch.device) -> Callable[[], object]:
    import_torchvision()
    from torchvision import transforms

    transform = transforms.Compose([transforms.ToTensor(), transforms.Resize((84, 84), antialias=True)])
    encoder = copy.deepcopy(encoder).to(device)
    joints = torch.zeros(1, 16, device=device)

    def run() -> object:
        pixels = [np.frombuffer(message.data, np.uint8).reshape(_HEIGHT, _WIDTH, 3) for message in messages]
        with torch.no_grad():
            return encoder(*(transform(image).unsqueeze(0).to(device) for image in pixels), joints).cpu().numpy()

    return run


def _messages() -> list[Any]:
    rng = np.random.default_rng(0)
    return [
        SimpleNamespace(
            height=_HEIGHT,
            width=_WIDTH,
            encoding='rgb8',
            is_bigendian=0,
            step=3 * _WIDTH,
            data=rng.integers(0, 256, 3 * _WIDTH * _HEIGHT, dtype=np.uint8),
        )
        for _ in range(3)
    ]
