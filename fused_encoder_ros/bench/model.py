"""The two designs against each other, beside the figures that the optimised design was announced with.

The announced figures are those of the training code's note "from three independent ResNet18 to one 9-channel ResNet18", for
batch 64 on a GPU that it does not name.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fused_encoder_ros.bench.encoders import encoder_for
from fused_encoder_ros.bench.measuring import describe_machine, interleaved, synchronise
from fused_encoder_ros.model.encoder import Encoder
from fused_encoder_ros.model.options import SINGLE, THREE_STREAM
from fused_encoder_ros.spec import CAMERAS

BATCH = 64
_JOINTS, _ACTIONS, _LATENT, _HIDDEN = 16, 16, 32, 256

# (original, optimised) as announced; None where nothing was.
ANNOUNCED: dict[str, tuple[float, float] | None] = {
    'parameters, M: ResNet18': (33.0, 11.0),
    'parameters, M: joint FC': (0.13, 0.13),
    'parameters, M: fusion': (0.26, 0.26),
    'parameters, M: total': (33.39, 11.39),
    'forward, ms: batch 1': None,
    'forward, ms: batch 64': None,
    'memory at batch 64, MB: parameters': (1200.0, 400.0),
    'memory at batch 64, MB: feature maps': (2100.0, 900.0),
    'memory at batch 64, MB: gradients': (1200.0, 400.0),
    'memory at batch 64, MB: optimiser state': (2400.0, 800.0),
    'memory at batch 64, MB: total': (5700.0, 2100.0),
    'training step at batch 64, ms: image encoding': (45.0, 22.0),
    'training step at batch 64, ms: feature fusion': (2.0, 1.5),
    'training step at batch 64, ms: CVAE forward': (15.0, 15.0),
    'training step at batch 64, ms: gradients': (30.0, 18.0),
    'training step at batch 64, ms: optimiser step': (8.0, 5.0),
    'training step at batch 64, ms: total': (100.0, 62.0),
}

REMARKS = {
    'parameters, M: joint FC': 'announced is one layer of 512x256; the training code has 16-128-256 (or -128)',
    'memory at batch 64, MB: parameters': 'cannot be right: float32 parameters take 4 bytes each, 47 MB and 137 MB',
    'memory at batch 64, MB: gradients': 'cannot be right: as large as the parameters',
    'memory at batch 64, MB: optimiser state': 'cannot be right: Adam keeps twice the parameters',
    'memory at batch 64, MB: feature maps': 'what autograd keeps for the backward pass, parameters left out',
}


class Cvae(nn.Module):
    """The CVAE behind the encoder, of the announced sizes: 272-256-256-256-(mean, log-variance) of 32, 288-256-256-256-16."""

    def __init__(self, feature_dim: int = 256) -> None:
        super().__init__()
        self.encoder = _layers(feature_dim + _ACTIONS, 2 * _LATENT)
        self.decoder = _layers(feature_dim + _LATENT, _ACTIONS)

    def forward(self, feature: Tensor, actions: Tensor) -> Tensor:
        """The training loss: reconstruction and Kullback-Leibler divergence."""
        mean, log_variance = self.encoder(torch.cat([feature, actions], 1)).chunk(2, 1)
        latent = mean + torch.randn_like(mean) * torch.exp(log_variance / 2)
        reconstruction = nn.functional.mse_loss(self.decoder(torch.cat([feature, latent], 1)), actions)
        return reconstruction - 0.5 * (1 + log_variance - mean**2 - log_variance.exp()).mean()


def _layers(inputs: int, outputs: int) -> nn.Sequential:
    widths = [inputs, _HIDDEN, _HIDDEN, _HIDDEN]
    hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*hidden, nn.Linear(_HIDDEN, outputs))


class TrainingStep:
    """One design in training: runs a step and keeps the milliseconds of its parts.

    Attributes:
        on_part: called with the name of each part when it is done; the device has done it too.
    """

    def __init__(self, encoder: Encoder, cameras: int, device: torch.device, autocast: torch.dtype | None = None) -> None:
        self.encoder = encoder.to(device).train()
        self.device = device
        self.times: list[dict[str, float]] = []
        self.on_part: Callable[[str], None] = lambda part: None
        self._autocast = autocast
        self._cvae = Cvae().to(device)
        self.optimiser = torch.optim.Adam([*self.encoder.parameters(), *self._cvae.parameters()])
        generator = torch.Generator(device).manual_seed(0)
        self.images = torch.rand(BATCH, 3 * cameras, 84, 84, device=device, generator=generator)
        self.joints = torch.randn(BATCH, _JOINTS, device=device, generator=generator)
        self._actions = torch.randn(BATCH, _ACTIONS, device=device, generator=generator)

    def __call__(self) -> None:
        marks: list[tuple[str, float]] = [('', self._now())]

        def mark(part: str) -> None:
            marks.append((part, self._now()))
            self.on_part(part)

        with self.precision():
            features = self.encoder.image_features(self.images)
            mark('image encoding')
            fused = self.encoder.fusion_fc(torch.cat([*features, self.encoder.joint_fc(self.joints)], 1))
            mark('feature fusion')
            loss = self._cvae(fused, self._actions)
            mark('CVAE forward')
        self.optimiser.zero_grad()
        loss.backward()
        mark('gradients')
        self.optimiser.step()
        mark('optimiser step')
        parts = {part: (now - before) * 1e3 for (_, before), (part, now) in pairwise(marks)}
        self.times.append({**parts, 'total': sum(parts.values())})

    def precision(self) -> torch.autocast:
        """What the forward pass runs in: float32, or what autocast makes of it."""
        return torch.autocast(self.device.type, self._autocast or torch.bfloat16, enabled=self._autocast is not None)

    def _now(self) -> float:
        synchronise(self.device)
        return time.perf_counter()


def run(
    device: torch.device,
    threads: int,
    rounds: int,
    cameras: Sequence[str],
    progress: Callable[[str], None],
    autocast: torch.dtype | None = None,
) -> dict[str, Any]:
    """Measure both designs, interleaved; figures are medians, in the units of `ANNOUNCED`'s names.

    Training and forward passes run in float32, or under autocast in the type given.
    """
    torch.set_num_threads(threads)
    steps = {
        design: TrainingStep(encoder_for(design, cameras), len(cameras), device, autocast) for design in (THREE_STREAM, SINGLE)
    }
    figures: dict[str, dict[str, float]] = {design: {} for design in steps}
    for design, step in steps.items():
        figures[design] |= {f'parameters, M: {part}': count / 1e6 for part, count in _parameters(step.encoder).items()}
    for batch in (1, BATCH):
        progress(f'forward, batch {batch}')
        for design, ms in _forward(steps, batch, rounds, device).items():
            figures[design][f'forward, ms: batch {batch}'] = ms
    progress('training steps')
    interleaved(steps, max(rounds // 4, 1))
    for design, step in steps.items():
        timed = step.times[len(step.times) // 4 :]  # the first ones set things up
        for part in timed[0]:
            figures[design][f'training step at batch {BATCH}, ms: {part}'] = float(np.median([t[part] for t in timed]))
        figures[design] |= {f'memory at batch {BATCH}, MB: {kind}': n / 1e6 for kind, n in _memory(step).items()}
    rows = {
        name: {
            THREE_STREAM: round(figures[THREE_STREAM][name], 3),
            SINGLE: round(figures[SINGLE][name], 3),
            'ratio': round(figures[THREE_STREAM][name] / figures[SINGLE][name], 2),
            'announced': announced if len(cameras) == len(CAMERAS) else None,
            'remark': REMARKS.get(name, ''),
        }
        for name, announced in ANNOUNCED.items()
    }
    about = {'benchmark': 'model', 'cameras': list(cameras)}
    return {**about, 'machine': describe_machine(), 'device': str(device), 'threads': threads, 'rows': rows}


def _parameters(encoder: Encoder) -> dict[str, int]:
    count = {name: sum(p.numel() for p in child.parameters()) for name, child in encoder.named_children()}
    joint, fusion = count.pop('joint_fc'), count.pop('fusion_fc')
    images = sum(count.values())
    return {'ResNet18': images, 'joint FC': joint, 'fusion': fusion, 'total': images + joint + fusion}


def _forward(steps: dict[str, TrainingStep], batch: int, rounds: int, device: torch.device) -> dict[str, float]:
    def call(step: TrainingStep) -> None:
        with torch.inference_mode(), step.precision():
            step.encoder.stacked(step.images[:batch], step.joints[:batch])
        synchronise(device)

    for step in steps.values():
        step.encoder.eval()
    calls = {design: lambda step=step: call(step) for design, step in steps.items()}
    times = interleaved(calls, rounds if batch == 1 else max(rounds // 4, 1))
    for step in steps.values():
        step.encoder.train()
    return {design: float(np.median(values)) for design, values in times.items()}


def _memory(step: TrainingStep) -> dict[str, int]:
    """Bytes; feature maps are the tensors that autograd keeps, each storage once."""
    own = {parameter.untyped_storage().data_ptr() for parameter in step.encoder.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor), step.precision():
        feature = step.encoder.stacked(step.images, step.joints)
    del feature
    parameters = list(step.encoder.parameters())
    parts = {
        'parameters': _bytes(parameters),
        'feature maps': sum(kept.values()),
        'gradients': _bytes([p.grad for p in parameters if p.grad is not None]),
        'optimiser state': _bytes([value for p in parameters for value in step.optimiser.state[p].values()]),
    }
    return {**parts, 'total': sum(parts.values())}


def _bytes(tensors: Sequence[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def as_text(result: dict[str, Any]) -> str:
    """The table for a person: measured, and what was announced."""
    lines = [f'{"":<48}{"original":>10}{"optimised":>11}{"ratio":>7}{"announced":>18}{"ratio":>7}']
    group = ''
    for name, row in result['rows'].items():
        title, part = name.split(': ')
        if title != group:
            group = title
            lines.append(f'\n{title}')
        line = f'  {part:<46}{row[THREE_STREAM]:>10.2f}{row[SINGLE]:>11.2f}{row["ratio"]:>7.2f}'
        if row['announced']:
            original, optimised = row['announced']
            line += f'{f"{original:g} / {optimised:g}":>18}{original / optimised:>7.2f}'
        lines.append(line + (f'   {row["remark"]}' if row['remark'] else ''))
    return '\n'.join(lines)
