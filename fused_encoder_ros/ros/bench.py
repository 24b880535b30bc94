"""CPU of the live node by what it does, and its latency by stage, beside the synthetic robot on the same machine.

Robot and node are two processes on real DDS. CPU is what the kernel accounts to each thread of the node, as a percentage of
one core: `inference` is the worker's thread inside Model.encode and the engine's own threads; all else is outside inference.
"""

from __future__ import annotations

import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String

from fused_encoder_ros.bench.measuring import describe_machine
from fused_encoder_ros.model import Model
from fused_encoder_ros.pipeline.outputs import SETS_TOPIC, STAGES
from fused_encoder_ros.settings import NODE_NAME
from fused_encoder_ros.settings.dds import keep_to_this_host

_TICK_S = 1 / os.sysconf('SC_CLK_TCK')
_START_LIMIT_S = 60.0
_WRITE_EACH = 30


def run(
    rounds: int,
    duration_s: float,
    joint_rates_hz: Sequence[float],
    engine: str,
    cameras: Sequence[str],
    progress: Callable[[str], None],
) -> dict[str, Any]:
    """Measure rounds of every joint rate, interleaved; figures are medians over the rounds."""
    keep_to_this_host()
    runs: dict[float, list[dict[str, Any]]] = {rate: [] for rate in joint_rates_hz}
    for number in range(rounds):
        for rate, done in runs.items():
            progress(f'round {number + 1} of {rounds}, joints at {rate:g} Hz')
            done.append(_measure(duration_s, rate, engine, cameras))
    return {
        'benchmark': 'node',
        'load': f'{len(cameras)} cameras 640x480 rgb8 at 30 Hz and the joints, from a synthetic robot on the same machine',
        'machine': describe_machine(),
        'by_joint_rate_hz': {f'{rate:g}': {**_median(done), 'runs': done} for rate, done in runs.items()},
    }


def as_text(result: dict[str, Any]) -> str:
    """The tables for a person."""
    lines = []
    for rate, figures in result['by_joint_rate_hz'].items():
        cpu = figures['cpu_percent_of_a_core']
        lines.append(
            f'\njoints at {rate} Hz, engine {figures["engine"]}: {figures["sets"]:g} sets, {figures["drops"]:g} drops'
        )
        lines.append(f'  {"latency, ms":<34}{"p50":>8}{"p95":>8}{"p99":>8}')
        lines += [f'  {stage:<34}' + ''.join(f'{v:>8.2f}' for v in p.values()) for stage, p in figures['latency_ms'].items()]
        lines.append('  CPU, % of one core')
        lines += [f'  {name:<34}{share:>8.1f}' for name, share in cpu.items()]
        lines.append(f'  {"CPU ms per set outside inference":<34}{figures["cpu_ms_per_set_outside_inference"]:>8.2f}')
    return '\n'.join(lines)


def _measure(duration_s: float, joint_rate_hz: float, engine: str, cameras: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        account, named = Path(folder) / 'cpu.json', f'[{", ".join(cameras)}]'
        node = subprocess.Popen(
            [sys.executable, '-m', __spec__.name, str(account), *_parameters(engine=engine, cameras=named)]
        )
        load = {'duration_s': duration_s, 'joint_rate_hz': joint_rate_hz, 'wait_for_listeners_s': _START_LIMIT_S}
        rig = subprocess.Popen([sys.executable, '-m', 'fused_encoder_ros.ros.rig', *_parameters(**load, cameras=named)])
        try:
            reports = _listen_while(rig)
        finally:
            for process in (node, rig):
                process.send_signal(signal.SIGINT)
                process.wait(timeout=20)
        cpu = json.loads(account.read_text())
    latencies = [report['latency_ms'] for report in reports if 'latency_ms' in report]
    return {
        **cpu,
        'sets': len(latencies),
        'drops': sum('drop' in report for report in reports),
        'latency_ms': {stage: _percentiles([latency[stage] for latency in latencies]) for stage in STAGES},
    }


def _parameters(**values: object) -> list[str]:
    return ['--ros-args', *(item for name, value in values.items() for item in ('-p', f'{name}:={value}'))]


def _listen_while(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []

    def on_set(message: Any) -> None:
        reports.append(json.loads(message.data))

    context = rclpy.Context()
    rclpy.init(context=context)
    listener = rclpy.create_node('bench', context=context)
    listener.create_subscription(String, f'/{NODE_NAME}/{SETS_TOPIC}', on_set, 1000)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(listener)
    while process.poll() is None:
        executor.spin_once(timeout_sec=0.2)
    executor.shutdown()
    listener.destroy_node()
    rclpy.shutdown(context=context)
    return reports


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    return dict(zip(('p50', 'p95', 'p99'), np.percentile(values, [50, 95, 99]).round(2).tolist()))


def _median(runs: Sequence[Any]) -> Any:
    """Of each figure over runs of the same shape."""
    if isinstance(runs[0], dict):
        return {key: _median([run[key] for run in runs]) for key in runs[0]}
    return runs[0] if isinstance(runs[0], str) else round(statistics.median(runs), 2)


class _CpuAccount:
    """What the node's threads have used since its first set, written to a file every second or so."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encode = Model.encode
        self._first: dict[int, tuple[str, float]] = {}
        self._start_s = 0.0
        self._inside_s = 0.0
        self._sets = 0

    def encode(self, model: Model, images: Any, joints: Any) -> Any:
        """In the place of Model.encode."""
        if threading.current_thread().name != 'encode':  # the checks at start
            return self._encode(model, images, joints)
        if not self._first:
            self._first, self._start_s = thread_cpu_s(), time.monotonic()
        start = time.thread_time()
        features = self._encode(model, images, joints)
        self._inside_s += time.thread_time() - start
        self._sets += 1
        if self._sets % _WRITE_EACH == 0:
            self._path.write_text(json.dumps(self._shares(model)))
        return features

    def _shares(self, model: Model) -> dict[str, Any]:
        seconds = dict.fromkeys(('receive, decode, synchronise', 'worker outside encode', 'DDS threads', 'inference'), 0.0)
        for tid, (name, cpu_s) in thread_cpu_s().items():
            spent = cpu_s - self._first.get(tid, (name, 0.0))[1]
            if tid == os.getpid():
                seconds['receive, decode, synchronise'] += spent
            elif tid == threading.get_native_id():
                seconds['worker outside encode'] += max(spent - self._inside_s, 0.0)
            elif name.startswith('dds'):
                seconds['DDS threads'] += spent
            else:
                seconds['inference'] += spent
        seconds['inference'] += self._inside_s
        elapsed_s = time.monotonic() - self._start_s
        outside_s = sum(spent for name, spent in seconds.items() if name != 'inference')
        seconds['outside inference'] = outside_s
        return {
            'engine': f'{model.engine.name} {model.engine.precision} on {model.engine.device}',
            'cpu_percent_of_a_core': {name: round(100 * spent / elapsed_s, 2) for name, spent in seconds.items()},
            'cpu_ms_per_set_outside_inference': round(outside_s / self._sets * 1e3, 2),
        }


def thread_cpu_s() -> dict[int, tuple[str, float]]:
    """Name and CPU seconds of each thread of this process."""
    found = {}
    for task in Path('/proc/self/task').iterdir():
        name, _, rest = (task / 'stat').read_text().partition('(')[2].rpartition(')')
        fields = rest.split()
        found[int(task.name)] = name, (int(fields[11]) + int(fields[12])) * _TICK_S
    return found


def _node_main() -> int:
    from fused_encoder_ros.ros import node

    account = _CpuAccount(Path(sys.argv.pop(1)))
    setattr(Model, 'encode', lambda model, images, joints: account.encode(model, images, joints))  # noqa: B010
    return node.run(sys.argv)


if __name__ == '__main__':
    sys.exit(_node_main())
