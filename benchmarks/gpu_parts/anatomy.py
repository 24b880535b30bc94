"""Where the time of a single set goes, how far that is from the floor, and what other ways of feeding the graph cost."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, product
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from fused_encoder_ros.bench.measuring import peak_gflops
from fused_encoder_ros.model.engines.eager import exact_float32
from fused_encoder_ros.model.engines.engine import Features, Images, Joints
from fused_encoder_ros.model.engines.network import Network
from fused_encoder_ros.model.options import SINGLE, THREE_STREAM
from gpu_parts.context import Context, attempt
from gpu_parts.recorded import record
from gpu_parts.subjects import CPU, DTYPES, build, fast_engines, network_of, same_bits, sets_of, spec_of
from gpu_parts.timing import device_us, hot, kernels, paced, percentiles

WAITS = ('synchronise', 'ask the stream', 'ask an event', 'sleep on an event')


def run(context: Context) -> dict[str, Any]:
    """Each engine and precision of the single design, and the fastest of the other; the variants for the fastest."""
    exact_float32()
    result: dict[str, Any] = {}
    engines = fast_engines(context.device)
    subjects = [(SINGLE, *engine) for engine in engines]
    for design, engine, precision in subjects if context.reduced else [*subjects, (THREE_STREAM, *engines[0])]:
        fast: Any = build(engine, precision, design, context.device)
        images, joints = sets_of(spec_of(), 1)

        def call() -> Features:
            return fast.encode(images, joints)  # noqa: B023  # called at once

        times = percentiles(hot(call, context.pick(1000, 5)))
        ran = kernels(call, context.device, context.pick(20, 2))
        row: dict[str, Any] = {'engine': times}
        result[f'{design} {engine} {precision}'] = row
        network = fast._network(1) if context.on_cuda else fast._network
        row['parts'] = attempt(_parts, context, network)
        row['floor'] = attempt(_floor, context, network, design, precision, ran)
        if 'us' in row['floor']:
            row['floor']['times the floor'] = round(times['p50_ms'] * 1e3 / row['floor']['us'], 2)
        if (design, engine, precision) == subjects[0]:
            row['variants'] = attempt(_variants, context, network, call())
        row['kernels'] = {'us a set': round(sum(one['us_a_set'] for one in ran), 2), 'longest': ran[: context.pick(40, 10)]}
        context.keep(result)
    return result


@dataclass(frozen=True)
class Way:
    """How a set reaches the graph and its feature comes back."""

    one_buffer: bool = False
    copies_recorded: bool = False
    wait: str = WAITS[0]

    def __str__(self) -> str:
        buffers = 'one buffer' if self.one_buffer else 'two buffers'
        return f'{buffers}, copies {"in" if self.copies_recorded else "beside"} the graph, {self.wait}'


class Route:
    """Host array to host array like an engine of CUDA, in one of several ways; every step can be timed."""

    @torch.inference_mode()
    def __init__(self, network: Network, device: torch.device, way: Way) -> None:
        self._device, self._way = device, way
        self._network = network
        self._host, self._host_parts = _buffers(CPU, way.one_buffer, pinned=True)
        self._given, parts = _buffers(device, way.one_buffer)
        self._host_feature = torch.zeros((1, 256), pin_memory=True)
        if way.copies_recorded:

            def call() -> Tensor:
                self.upload()
                self._feature = self._network(*parts)
                self.download()
                return self._feature
        else:

            def call() -> Tensor:
                return self._network(*parts)

        self.replay, self._feature = record(call, device)
        self._stream, self._event = torch.cuda.Stream(device), torch.cuda.Event(blocking=way.wait == WAITS[3])

    def fill(self, images: Images, joints: Joints) -> None:
        """The caller's arrays into pinned memory."""
        for part, rows in zip(self._host_parts, (images, joints)):
            part.copy_(torch.from_numpy(rows))

    def upload(self) -> None:
        """From pinned memory to the device, not waiting."""
        for given, host in zip(self._given, self._host):
            given.copy_(host, non_blocking=True)

    def download(self) -> None:
        """The feature to pinned memory, not waiting."""
        self._host_feature.copy_(self._feature, non_blocking=True)

    def wait(self) -> None:
        """Until all is done."""
        if self._way.wait == WAITS[0]:
            self._stream.synchronize()
        elif self._way.wait == WAITS[1]:
            while not self._stream.query():
                pass
        else:
            self._event.record(self._stream)
            if self._way.wait == WAITS[3]:
                self._event.synchronize()
            while not self._event.query():
                pass

    def take(self) -> Features:
        """A copy of the feature."""
        return np.array(self._host_feature.numpy())

    @torch.inference_mode()
    def encode(self, images: Images, joints: Joints, mark: Callable[[str], None] | None = None) -> Features:
        """A set; `mark` is called with the name of each step when the host is done with it."""
        note = mark or _nothing
        self.fill(images, joints)
        note('into pinned memory')
        with torch.cuda.stream(self._stream):
            if not self._way.copies_recorded:
                self.upload()
                note('order the upload')
            self.replay()
            note('order the replay')
            if not self._way.copies_recorded:
                self.download()
                note('order the download')
        self.wait()
        note('wait')
        feature = self.take()
        note('out of pinned memory')
        return feature

    @torch.inference_mode()
    def on_device(self, repeats: int) -> dict[str, float]:
        """Microseconds of each step on the device, by its own clock; medians."""
        steps = (('upload', self.upload), ('replay', self.replay), ('download', self.download))
        rows = []
        for _ in range(repeats):
            events = [torch.cuda.Event(enable_timing=True) for _ in range(len(steps) + 1)]
            with torch.cuda.stream(self._stream):
                events[0].record()
                for (_, step), event in zip(steps, events[1:]):
                    step()
                    event.record()
            self._stream.synchronize()
            rows.append([a.elapsed_time(b) * 1e3 for a, b in pairwise(events)])
        return {name: round(float(us), 2) for (name, _), us in zip(steps, np.median(rows, axis=0))}


def _nothing(step: str) -> None:
    pass


def _buffers(device: torch.device, one: bool, pinned: bool = False) -> tuple[list[Tensor], tuple[Tensor, Tensor]]:
    """What is copied, and in it the images and joints of a set."""
    spec = spec_of()
    shape, joints = (1, spec.image_size, spec.image_size, spec.channels), (1, len(spec.joint_names))
    if not one:
        parts = (
            torch.zeros(shape, dtype=torch.uint8, device=device, pin_memory=pinned),
            torch.zeros(joints, device=device, pin_memory=pinned),
        )
        return list(parts), parts
    first = 4 * joints[1]
    whole = torch.zeros(first + int(np.prod(shape)), dtype=torch.uint8, device=device, pin_memory=pinned)
    return [whole], (whole[first:].view(shape), whole[:first].view(torch.float32).view(joints))


def _parts(context: Context, network: Network) -> dict[str, Any]:
    """Microseconds, medians: what the host does, what the device does meanwhile."""
    context.need_cuda('a recorded graph')
    route, (images, joints) = Route(network, context.device, Way()), sets_of(spec_of(), 1)
    times: dict[str, list[float]] = {}
    before = [0.0]

    def mark(step: str) -> None:
        now = time.perf_counter()
        times.setdefault(step, []).append((now - before[0]) * 1e6)
        before[0] = time.perf_counter()

    for _ in range(context.pick(1000, 5)):
        before[0] = time.perf_counter()
        route.encode(images, joints, mark)
    host = {step: round(float(np.median(us)), 2) for step, us in times.items()}
    without_wait = round(sum(us for step, us in host.items() if step != 'wait'), 2)
    return {'host, us': host, 'host without the wait, us': without_wait, 'device, us': route.on_device(context.pick(500, 5))}


def _floor(context: Context, network: Network, design: str, precision: str, ran: list[dict[str, Any]]) -> dict[str, Any]:
    """The least that this network can take here: its kernels one after the other, each as long as an empty one; or its weights
    read once; or its arithmetic at the rate of a large matrix product; and the copies."""
    context.need_cuda('the floor of a recorded graph')
    device, dtype = context.device, DTYPES[precision]
    with torch.inference_mode():
        one = torch.zeros(1, device=device)

        def empty() -> Tensor:
            for _ in range(100):
                one.add_(1)
            return one

        replay_empty, _ = record(empty, device)
        weights = sum(parameter.numel() * parameter.element_size() for parameter in network.parameters())
        flat = torch.zeros(weights // 4, device=device)
        replay_read, _ = record(lambda: flat.sum(), device)
    count = round(sum(kernel['times_a_set'] for kernel in ran if not kernel['name'].lower().startswith('mem')))
    per_kernel = device_us(replay_empty, device, 50) / 100
    read = device_us(replay_read, device, 200)
    arithmetic = _gflop(design) / peak_gflops(dtype, device) * 1e6
    moved = Route(network, device, Way()).on_device(200)
    copies = moved['upload'] + moved['download']
    return {
        'kernels': count,
        'us of an empty kernel in a graph': round(per_kernel, 3),
        'us of all kernels empty': round(count * per_kernel, 1),
        'weights, MB': round(weights / 1e6, 1),
        'us to read the weights again and again': read,
        'us of the arithmetic': round(arithmetic, 1),
        'us of the copies': round(copies, 1),
        'us': round(copies + max(count * per_kernel, read, arithmetic), 1),
    }


def _gflop(design: str) -> float:
    """Arithmetic of a set, a multiply and an add counted as two."""
    images, joints = sets_of(spec_of(), 1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network_of(design, 'fp32', CPU)(torch.from_numpy(images), torch.from_numpy(joints))
    return float(counter.get_total_flops()) / 1e9


def _variants(context: Context, network: Network, expected: Features) -> dict[str, Any]:
    """Every way of feeding the graph, with the same bits as the engine; paced ones for the way of the engine and the best."""
    context.need_cuda('other ways of feeding a graph')
    images, joints = sets_of(spec_of(), 1)
    routes = {str(way): Route(network, context.device, way) for way in _ways()}
    rows: dict[str, Any] = {}
    for name, route in routes.items():
        same_bits(route.encode(images, joints), expected)
        rows[name] = percentiles(hot(lambda: route.encode(images, joints), context.pick(1000, 5)))  # noqa: B023
    best = min(rows, key=lambda name: rows[name]['p50_ms'])
    for name in dict.fromkeys([*(str(Way(wait=wait)) for wait in WAITS), best]):
        route = routes[name]
        rows[name]['paced at 30 Hz'] = percentiles(paced(lambda: route.encode(images, joints), context.pick(30, 3)))  # noqa: B023
    return {'best': best, **rows}


def _ways() -> list[Way]:
    return [Way(one, recorded, wait) for one, recorded, wait in product((False, True), (False, True), WAITS)]
