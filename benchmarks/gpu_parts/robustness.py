"""The same bits whatever else happens, and failures that are named and survived."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from unittest import mock

import torch

from fused_encoder_ros.errors import ConfigError, EngineError
from fused_encoder_ros.model.engines import Engine, choose_device
from fused_encoder_ros.model.engines.network import Network
from fused_encoder_ros.model.model import Model, load_model
from fused_encoder_ros.model.options import SINGLE, THREE_STREAM, ModelOptions
from gpu_parts.context import Checks, Context, Skipped
from gpu_parts.process import run_part
from gpu_parts.subjects import build, fast_engines, same_bits, sets_of, spec_of
from gpu_parts.timing import hot, percentiles


def run(context: Context) -> dict[str, Any]:
    """Determinism, threads, failures, device selection, memory, and a second process on the card."""
    checks = Checks(context)
    for design, engine, precision in _subjects(context):
        checks.run(f'repeats, {design}, {engine} {precision}', _repeats, context, design, engine, precision)
    checks.run('another process gives the same bits', _another_process, context)
    checks.run('after work on other streams', _other_streams, context)
    checks.run('encode on another thread than the builder', _other_thread, context)
    checks.run('built on a thread that has ended', _ended_thread, context)
    checks.run('built while another thread uses the device', _busy_thread, context)
    checks.run('two engines on two threads', _two_engines, context)
    checks.run('rebuild after a forced failure', _rebuild, context)
    checks.run('a failure while the graph is recorded', _failed_recording, context)
    checks.run('device selection', _device_selection, context)
    checks.run('out of memory', _out_of_memory, context)
    checks.run('a second process on the device', _second_process, context)
    return checks.rows


def features_of_all(context: Context) -> dict[str, Any]:
    """A hash of the features of each engine, for comparison between processes."""
    return {
        f'{design} {engine} {precision}': _digest(build(engine, precision, design, context.device))
        for design, engine, precision in _subjects(context)
    }


def occupy(context: Context) -> dict[str, Any]:
    """Encode until time is up; whether the bits stayed the same."""
    engine, images, joints = _shared_engine(context.device), *sets_of(spec_of(), 1)
    expected, calls = engine.encode(images, joints), 0
    until = time.monotonic() + context.pick(2.0, 1.0)
    while time.monotonic() < until:
        same_bits(engine.encode(images, joints), expected)
        calls += 1
    return {'calls': calls, 'from': time.time() - context.pick(2.0, 1.0), 'to': time.time()}


def _subjects(context: Context) -> list[tuple[str, str, str]]:
    """Design, engine and precision: all of the single design, and the first of the other."""
    engines = fast_engines(context.device)
    subjects = [(SINGLE, *engine) for engine in engines]
    return subjects if context.reduced else [*subjects, (THREE_STREAM, *engines[0])]


def _digest(engine: Engine) -> str:
    digest = hashlib.sha256()
    for batch in (1, 3):
        digest.update(engine.encode(*sets_of(spec_of(), batch)).tobytes())
    return digest.hexdigest()


def _some_engine(context: Context) -> Engine:
    engine, precision = fast_engines(context.device)[0]
    return build(engine, precision, SINGLE, context.device)


@functools.cache
def _shared_engine(device: torch.device) -> Engine:
    """For checks that do not care when it was built."""
    engine, precision = fast_engines(device)[0]
    return build(engine, precision, SINGLE, device)


def _some_model(context: Context) -> Model:
    engine, precision = fast_engines(context.device)[0]
    threads = torch.get_num_threads()
    options = ModelOptions(device=str(context.device), engine=engine, precision=precision, threads=threads)
    return load_model(options, spec_of())


def _repeats(context: Context, design: str, engine: str, precision: str) -> dict[str, Any]:
    """The same set again and again, others in between, and in an engine built anew."""
    repeats, fast = context.pick(1000, 10), build(engine, precision, design, context.device)
    images, joints = sets_of(spec_of(), 1)
    batch = sets_of(spec_of(), 7)
    expected, expected_batch = fast.encode(images, joints), fast.encode(*batch)
    for number in range(repeats):
        same_bits(fast.encode(images, joints), expected)
        if number % 10 == 0:
            same_bits(fast.encode(*batch), expected_batch)
    same_bits(build(engine, precision, design, context.device).encode(images, joints), expected)
    return {'repeats': repeats}


def _another_process(context: Context) -> dict[str, Any]:
    own = features_of_all(context)
    _same_in(_in_process('features', context), own)
    return {'engines': len(own)}


def _same_in(other: dict[str, Any], own: dict[str, Any]) -> None:
    if different := [name for name in own if other[name] != own[name]]:
        raise AssertionError(f'other bits in another process: {different}')


def _in_process(part: str, context: Context) -> dict[str, Any]:
    arguments = ['--device', str(context.device), *(['--reduced'] if context.reduced else [])]
    record = run_part(part, arguments, max(min(context.left_s, 60.0), 10.0))
    if record['status'] != 'done':
        raise RuntimeError(f'{part}: {record.get("traceback", record["status"])}')
    result: dict[str, Any] = record['result']
    return result


def _other_streams(context: Context) -> dict[str, Any]:
    context.need_cuda('work on other streams')
    engine, images, joints = _shared_engine(context.device), *sets_of(spec_of(), 1)
    expected = engine.encode(images, joints)
    streams = [torch.cuda.Stream(context.device) for _ in range(4)]
    matrix = torch.rand(4096, 4096, device=context.device)
    torch.cuda.synchronize(context.device)
    for _ in range(50):
        for stream in streams:
            with torch.cuda.stream(stream):
                torch.relu(matrix @ matrix)
        same_bits(engine.encode(images, joints), expected)
    torch.cuda.synchronize(context.device)
    return {'sets': 50, 'streams': len(streams)}


def _other_thread(context: Context) -> None:
    engine, images, joints = _shared_engine(context.device), *sets_of(spec_of(), 1)
    expected = engine.encode(images, joints)
    with ThreadPoolExecutor(1) as other:
        same_bits(other.submit(engine.encode, images, joints).result(), expected)
        batch = sets_of(spec_of(), 5)
        same_bits(other.submit(engine.encode, *batch).result(), engine.encode(*batch))  # it is built there


def _ended_thread(context: Context) -> None:
    """Others then take the handles of cuBLAS and cuDNN that the thread had."""
    images, joints = sets_of(spec_of(), 1)
    expected = _shared_engine(context.device).encode(images, joints)
    engine = _on_thread_that_ends(lambda: _some_engine(context))
    same_bits(engine.encode(images, joints), expected)
    for _ in range(context.pick(5, 1)):
        later = _on_thread_that_ends(lambda: _some_engine(context))
        same_bits(later.encode(images, joints), expected)
        same_bits(engine.encode(images, joints), expected)


def _on_thread_that_ends(call: Callable[[], Engine]) -> Engine:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def _busy_thread(context: Context) -> dict[str, Any]:
    """It allocates, computes and waits, as another model in the process would."""
    images, joints = sets_of(spec_of(), 1)
    expected = _shared_engine(context.device).encode(images, joints)
    with _busy(context.device) as rounds:
        for _ in range(context.pick(5, 1)):
            engine = _some_engine(context)
            same_bits(engine.encode(images, joints), expected)
    return {'rounds of the other thread': len(rounds)}


@contextlib.contextmanager
def _busy(device: torch.device) -> Iterator[list[int]]:
    done, rounds, stop = [], [], threading.Event()  # type: ignore[var-annotated]

    def work() -> None:
        try:
            while not stop.is_set():
                size = 512 + 64 * (len(rounds) % 32)
                matrix = torch.full((size, size), 0.5, device=device)  # random numbers would go into the recording
                (matrix @ matrix).sum().item()
                rounds.append(size)
        except Exception as error:
            done.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield rounds
    finally:
        stop.set()
        thread.join()
    if done:
        raise done[0]


def _two_engines(context: Context) -> dict[str, Any]:
    images, joints = sets_of(spec_of(), 1)
    engines = [build(engine, precision, SINGLE, context.device) for engine, precision in fast_engines(context.device)[:2]]
    expected = [engine.encode(images, joints) for engine in engines]
    repeats = context.pick(500, 10)

    def encode(number: int) -> None:
        for _ in range(repeats):
            same_bits(engines[number].encode(images, joints), expected[number])

    with ThreadPoolExecutor(len(engines)) as threads:
        list(threads.map(encode, range(len(engines))))
    return {'engines': len(engines), 'repeats': repeats}


def _rebuild(context: Context) -> None:
    model, images, joints = _some_model(context), *sets_of(spec_of(), 1)
    expected = model.encode(images, joints)
    engine: Any = model.engine
    with mock.patch.object(engine._single, '_run', _fail):
        _raised(EngineError, lambda: model.encode(images, joints), 'forced')
    model.rebuild()
    if model.engine is engine:
        raise AssertionError('it is the old engine')
    same_bits(model.encode(images, joints), expected)


def _fail() -> None:
    raise RuntimeError('forced')


def _failed_recording(context: Context) -> None:
    context.need_cuda('a recorded graph')
    model, images, joints = _some_model(context), *sets_of(spec_of(), 1)
    expected = model.encode(images, joints)
    forward, calls = Network.forward, []

    def fail_in_the_fourth(self: Network, *inputs: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        features = forward(self, *inputs)
        if len(calls) == 4:  # three warm up
            _fail()
        return features

    with mock.patch.object(Network, 'forward', fail_in_the_fourth):
        _raised(EngineError, model.rebuild, 'forced')
    same_bits(model.encode(images, joints), expected)
    model.rebuild()
    same_bits(model.encode(images, joints), expected)
    same_bits(_some_model(context).encode(images, joints), expected)


def _raised(kind: type[Exception], call: Callable[[], object], says: str) -> str:
    """The text of the error, without what it refers to: that would hold memory."""
    try:
        call()
    except kind as error:
        if says not in str(error):
            raise AssertionError(f'{kind.__name__} does not say {says!r}: {error}') from error
        return str(error)
    raise AssertionError(f'no {kind.__name__}')


def _device_selection(context: Context) -> dict[str, Any]:
    has_cuda = torch.cuda.is_available()
    count = torch.cuda.device_count() if has_cuda else 0
    if choose_device('auto').type != ('cuda' if has_cuda else 'cpu'):
        raise AssertionError('auto is another device')
    _raised(ConfigError, lambda: choose_device(f'cuda:{count}'), 'does not exist' if has_cuda else 'was asked for')
    _raised(ConfigError, lambda: choose_device('gpu'), 'unknown')
    images, joints = sets_of(spec_of(), 1)
    expected = _shared_engine(context.device).encode(images, joints)
    name, precision = fast_engines(context.device)[0]
    for index in range(count if context.on_cuda else 0):
        engine = build(name, precision, SINGLE, torch.device('cuda', index))
        with torch.cuda.device((index + 1) % count):  # the caller's current device is none of the engine's business
            features = engine.encode(images, joints)
        if torch.cuda.get_device_name(index) == torch.cuda.get_device_name(context.device):
            same_bits(features, expected)
    return {'devices': count}


def _out_of_memory(context: Context) -> dict[str, Any]:
    """A full card: a built engine goes on, larger batches and other models are refused, and all comes back."""
    context.need_cuda('filling the card')
    model, images, joints = _some_model(context), *sets_of(spec_of(), 1)
    expected = model.encode(images, joints)
    hoard = _fill(context.device)
    try:
        same_bits(model.encode(images, joints), expected)
        said = {
            'batch of 512': _raised(EngineError, lambda: model.encode(*sets_of(spec_of(), 512)), 'out of memory'),
            'another model': _raised(ConfigError, lambda: _some_model(context), 'memory'),
        }
        same_bits(model.encode(images, joints), expected)
        held = sum(block.numel() for block in hoard)
    finally:
        hoard.clear()
        torch.cuda.empty_cache()
    model.rebuild()
    same_bits(model.encode(images, joints), expected)
    model.encode(*sets_of(spec_of(), 512))
    return {'filled_gib': round(held / 2**30, 1), 'said': {name: text[:200] for name, text in said.items()}}


def _fill(device: torch.device) -> list[torch.Tensor]:
    hoard = []
    for size in (2**30, 2**26, 2**21, 2**16):
        with contextlib.suppress(torch.cuda.OutOfMemoryError):
            while True:
                hoard.append(torch.empty(size, dtype=torch.uint8, device=device))
    return hoard


def _second_process(context: Context) -> dict[str, Any]:
    engine, images, joints = _shared_engine(context.device), *sets_of(spec_of(), 1)
    expected = engine.encode(images, joints)
    alone = hot(lambda: engine.encode(images, joints), context.pick(1000, 10))
    shared: list[float] = []
    with ThreadPoolExecutor(1) as waiting:
        other = waiting.submit(_in_process, 'occupy', context)
        while not other.done():
            start, start_s = time.time(), time.perf_counter()
            same_bits(engine.encode(images, joints), expected)
            shared.append((time.perf_counter() - start_s) * 1e3)
            last = start
    span = other.result()
    if not span['calls'] or span['from'] > last:
        raise Skipped('the two processes did not meet')
    return {
        'alone': percentiles(alone),
        'while the other started and ran': percentiles(shared),
        'calls of the other': span['calls'],
    }
