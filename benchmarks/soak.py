"""The node for a long time beside a synthetic robot: does its memory grow, does its latency, does it lose count?

    python benchmarks/soak.py --minutes 30 --out benchmarks/results/soak.json

Robot and node are two processes on real DDS. Memory is the node's own (RssAnon), without the shared memory of DDS and the
files that it maps. Its slope is the median over all pairs of minutes after warm-up (Theil, Sen): a single step, as of a pool
that grows once in a burst, is no slope; steps that go on are. Exit code: 0 when the verdict is steady, 1 otherwise.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String

from fused_encoder_ros.bench.measuring import describe_machine
from fused_encoder_ros.pipeline.outputs import STAGES
from fused_encoder_ros.settings.dds import keep_to_this_host

WARM_UP_S = 60.0  # the windows of latencies and skews, 1000 sets each, are full after 33 s
STEADY_KIB_A_MINUTE = 20.0  # 28 MiB a day
JOINT_RATE_HZ = 500.0
SETTLE_S = 3.0


class Witness:
    """Hears what the node says, and looks at its memory every second."""

    def __init__(self, pid: int) -> None:
        self.memory: list[tuple[float, int]] = []
        self.latencies: dict[str, list[tuple[float, float]]] = {stage: [] for stage in STAGES}
        self.reports = 0
        self.account: dict[str, str] = {}
        self._status = Path(f'/proc/{pid}/status')
        self._start = 0.0

    @property
    def elapsed_s(self) -> float:
        """Since the first report; 0 before."""
        return time.monotonic() - self._start if self._start else 0.0

    def on_set(self, message: Any) -> None:
        """A report of one anchor frame."""
        self._start = self._start or time.monotonic()
        self.reports += 1
        report = json.loads(message.data)
        for stage, latency_ms in report.get('latency_ms', {}).items():
            self.latencies[stage].append((self.elapsed_s, latency_ms))

    def on_diagnostics(self, message: Any) -> None:
        """The encoder's last account."""
        for status in message.status:
            if status.name.endswith(': encoder'):
                self.account = {pair.key: pair.value for pair in status.values}

    def look(self) -> None:
        """Sample the memory, KiB."""
        lines = dict(line.split(':', 1) for line in self._status.read_text().splitlines())
        self.memory.append((self.elapsed_s, int(lines['RssAnon'].split()[0])))

    def watch(self, rig: subprocess.Popen[bytes], node: subprocess.Popen[bytes]) -> None:
        """Until the robot has ended or the node has died, and a little longer for what is under way."""
        context = rclpy.Context()
        rclpy.init(context=context)
        listener = rclpy.create_node('soak', context=context)
        listener.create_subscription(String, '/fused_encoder/sets', self.on_set, 1000)
        listener.create_subscription(DiagnosticArray, '/diagnostics', self.on_diagnostics, 10)
        executor = SingleThreadedExecutor(context=context)
        executor.add_node(listener)
        next_look = next_word = time.monotonic()
        end = float('inf')
        while (now := time.monotonic()) < end and node.poll() is None:
            executor.spin_once(timeout_sec=0.2)
            if end == float('inf') and rig.poll() is not None:
                end = now + SETTLE_S
            if self.reports and now >= next_look and end == float('inf'):
                next_look = now + 1.0
                self.look()
            if self.memory and now >= next_word:
                next_word = now + 60.0
                print(f'{self.elapsed_s:6.0f} s  {self.memory[-1][1]} KiB  {self.reports} reports', flush=True)
        executor.shutdown()
        listener.destroy_node()
        rclpy.shutdown(context=context)


def soak(minutes: float) -> dict[str, Any]:
    """Run robot and node for so long."""
    keep_to_this_host()
    node = subprocess.Popen([sys.executable, '-m', 'fused_encoder_ros.ros.main'], stderr=subprocess.DEVNULL)
    rates = {'duration_s': minutes * 60, 'joint_rate_hz': JOINT_RATE_HZ, 'wait_for_listeners_s': 60.0}
    arguments = [item for name, value in rates.items() for item in ('-p', f'{name}:={value}')]
    rig = subprocess.Popen([sys.executable, '-m', 'fused_encoder_ros.ros.rig', '--ros-args', *arguments])
    witness = Witness(node.pid)
    try:
        witness.watch(rig, node)
    finally:
        for process in (rig, node):
            process.send_signal(signal.SIGINT)
            process.wait(timeout=30)
    if not witness.memory or not witness.account:
        sys.exit(f'no set came out; the node ended with {node.returncode}')
    return {**figures(witness), 'exit_code': node.returncode}


def figures(witness: Witness) -> dict[str, Any]:
    """Memory, latency by stage and minute, and the account."""
    account = {name: int(witness.account.get(name, 0)) for name in ('anchors', 'sets', 'waiting')}
    account['drops'] = {k.removeprefix('dropped: '): int(v) for k, v in witness.account.items() if k.startswith('dropped: ')}
    return {
        'memory': _memory(witness.memory),
        'latency_ms_by_minute': {
            stage: {f'p{share}': [round(float(np.percentile(v, share)), 2) for v in _by_minute(samples)] for share in (50, 99)}
            for stage, samples in witness.latencies.items()
        },
        'account': {**account, 'reports_heard': witness.reports},
        'missing': account['anchors'] - account['sets'] - account['waiting'] - sum(account['drops'].values()),
    }


def _by_minute(samples: Sequence[tuple[float, float]]) -> list[list[float]]:
    """Values of each minute; a last one of less than half belongs to the one before."""
    minutes: list[list[float]] = []
    last_s = samples[-1][0] if samples else 0.0
    count = max(1, int(last_s / 60 + 0.5))
    for elapsed_s, value in samples:
        number = min(int(elapsed_s / 60), count - 1)
        while len(minutes) <= number:
            minutes.append([])
        minutes[number].append(value)
    return [values for values in minutes if values]


def _memory(samples: Sequence[tuple[float, int]]) -> dict[str, Any]:
    last_s = samples[-1][0]
    warm = np.array([sample for sample in samples if sample[0] >= min(WARM_UP_S, last_s / 2)])
    by_minute = np.array([np.median(values) for values in _by_minute([(s, kib) for s, kib in warm.tolist()])])
    earlier, later = np.triu_indices(by_minute.size, 1)
    slopes = (by_minute[later] - by_minute[earlier]) / (later - earlier)
    return {
        'slope_kib_a_minute': round(float(np.median(slopes)), 2) if slopes.size else 0.0,
        'first_kib': int(warm[0, 1]),
        'last_kib': int(warm[-1, 1]),
        'largest_kib': int(warm[:, 1].max()),
        'minutes_after_warm_up': round(float(warm[-1, 0] - warm[0, 0]) / 60, 1),
        'by_minute_kib': [round(kib) for kib in by_minute.tolist()],
    }


def judge(result: dict[str, Any]) -> str:
    """`steady`, or what is not."""
    faults = []
    if result['memory']['slope_kib_a_minute'] > STEADY_KIB_A_MINUTE:
        faults.append('memory grows')
    if result['missing']:
        faults.append(f'{result["missing"]} anchor frames are not accounted for')
    if result['exit_code']:
        faults.append(f'the node ended with {result["exit_code"]}')
    return '; '.join(faults) or 'steady'


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--minutes', type=float, default=30.0)
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    measured = soak(options.minutes)
    result = {
        'benchmark': 'soak',
        'command': f'python benchmarks/soak.py --minutes {options.minutes:g}',
        'load': f'3 cameras 640x480 rgb8 at 30 Hz, joints at {JOINT_RATE_HZ:g} Hz, from a synthetic robot on the same machine',
        'machine': describe_machine(),
        'verdict': judge(measured),
        **measured,
    }
    print(json.dumps(measured, indent=2))
    memory = measured['memory']
    print(f'memory: {memory["slope_kib_a_minute"]:+g} KiB a minute; verdict: {result["verdict"]}')
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + '\n')
    return 0 if result['verdict'] == 'steady' else 1


if __name__ == '__main__':
    sys.exit(main())
