"""CPU of the live node by what it does, and its latency, beside the synthetic robot on the same machine.

    python benchmarks/node_cpu.py --runs 3 --duration 20 --out benchmarks/results/node_cpu.json

Robot and node are two processes on DDS with config/fastdds_large_images.xml. CPU is what the kernel accounts to each
thread of the node, as a percentage of one core. `inference` is the worker's thread inside Model.encode and torch's own
threads; all else is outside inference.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe_machine

from fused_encoder_ros.pipeline.outputs import STAGES

ROOT = Path(__file__).parent.parent
TICK_S = 1 / os.sysconf('SC_CLK_TCK')


def thread_cpu_s() -> dict[int, tuple[str, float]]:
    """Name and CPU seconds of each thread of this process."""
    found = {}
    for task in Path('/proc/self/task').iterdir():
        name, _, rest = (task / 'stat').read_text().partition('(')[2].rpartition(')')
        fields = rest.split()
        found[int(task.name)] = name, (int(fields[11]) + int(fields[12])) * TICK_S
    return found


def run_node(out: Path) -> int:
    """The node, with its encoder's CPU time counted; writes the account once the robot has gone."""
    from fused_encoder_ros.model import Model
    from fused_encoder_ros.ros import node

    account: dict[str, Any] = {'inside_s': 0.0, 'sets': 0, 'first': None}
    encode = Model.encode

    def counted(self: Model, images: np.ndarray, joints: np.ndarray) -> np.ndarray:
        if threading.current_thread().name == 'encode' and account['first'] is None:
            account.update(first=thread_cpu_s(), start=time.monotonic(), worker=threading.get_native_id())
        start = time.thread_time()
        features = encode(self, images, joints)
        if account['first'] is not None:
            account['inside_s'] += time.thread_time() - start
            account['sets'] += 1
            account.update(last=thread_cpu_s() if account['sets'] % 30 == 0 else account.get('last'), end=time.monotonic())
            if account['sets'] % 30 == 0:
                out.write_text(json.dumps(shares(account)))
        return features

    Model.encode = counted  # type: ignore[method-assign]
    return node.run(sys.argv[:1])


def shares(account: dict[str, Any]) -> dict[str, float]:
    """Percent of one core, by what the threads do."""
    seconds = {'receive, decode, synchronise': 0.0, 'worker outside encode': 0.0, 'DDS threads': 0.0, 'inference': 0.0}
    for tid, (name, cpu) in account['last'].items():
        spent = cpu - account['first'].get(tid, (name, 0.0))[1]
        if tid == os.getpid():
            seconds['receive, decode, synchronise'] += spent
        elif tid == account['worker']:
            seconds['worker outside encode'] += max(spent - account['inside_s'], 0.0)
        elif name.startswith('dds'):
            seconds['DDS threads'] += spent
        else:
            seconds['inference'] += spent
    seconds['inference'] += account['inside_s']
    elapsed = account['end'] - account['start']
    answer = {name: 100 * value / elapsed for name, value in seconds.items()}
    answer['outside inference'] = sum(v for name, v in answer.items() if name != 'inference')
    answer['CPU ms per set outside inference'] = answer['outside inference'] / 100 * elapsed / account['sets'] * 1e3
    return answer


def measure(duration_s: float, joint_rate_hz: float) -> dict[str, Any]:
    """One run of robot and node."""
    import rclpy
    from std_msgs.msg import String

    os.environ['ROS_DOMAIN_ID'] = str(random.randint(1, 100))
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'cpu.json'
        node = subprocess.Popen([sys.executable, __file__, '--node', str(out)])
        rig_parameters = {'duration_s': duration_s, 'joint_rate_hz': joint_rate_hz, 'wait_for_listeners_s': 30.0}
        arguments = [item for key, value in rig_parameters.items() for item in ('-p', f'{key}:={value}')]
        rig = subprocess.Popen([sys.executable, '-m', 'fused_encoder_ros.ros.rig', '--ros-args', *arguments])
        context = rclpy.Context()
        rclpy.init(context=context)
        listener = rclpy.create_node('benchmark', context=context)
        reports: list[dict[str, Any]] = []
        listener.create_subscription(String, '/fused_encoder/sets', lambda m: reports.append(json.loads(m.data)), 1000)
        executor = rclpy.executors.SingleThreadedExecutor(context=context)
        executor.add_node(listener)
        while rig.poll() is None:
            executor.spin_once(timeout_sec=0.2)
        node.send_signal(2)
        node.wait()
        executor.shutdown()
        listener.destroy_node()
        rclpy.shutdown(context=context)
        sets = [report['latency_ms'] for report in reports if 'latency_ms' in report]
        return {
            'cpu_percent_of_a_core': json.loads(out.read_text()),
            'sets': len(sets),
            'drops': sum('drop' in report for report in reports),
            'latency_ms': {
                stage: dict(
                    zip(('p50', 'p95', 'p99'), np.percentile([s[stage] for s in sets], [50, 95, 99]).round(2).tolist())
                )
                for stage in STAGES
            },
        }


def median(runs: list[Any]) -> Any:
    """Median of each figure over runs of the same shape."""
    if isinstance(runs[0], dict):
        return {key: median([run[key] for run in runs]) for key in runs[0]}
    return round(statistics.median(runs), 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--runs', type=int, default=3)
    parser.add_argument('--duration', type=float, default=20.0)
    parser.add_argument('--joint-rate', type=float, default=100.0)
    parser.add_argument('--out', type=Path)
    parser.add_argument('--node', type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.node:
        return run_node(options.node)
    os.environ['FASTRTPS_DEFAULT_PROFILES_FILE'] = str(ROOT / 'config' / 'fastdds_large_images.xml')
    os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
    runs = [measure(options.duration, options.joint_rate) for _ in range(options.runs)]
    result = {
        'benchmark': 'node_cpu',
        'command': f'python benchmarks/node_cpu.py --runs {options.runs} --duration {options.duration:g} '
        f'--joint-rate {options.joint_rate:g}',
        'load': f'3 cameras 640x480 rgb8 at 30 Hz, joints at {options.joint_rate:g} Hz, robot on the same machine',
        'machine': describe_machine(),
        'median': median(runs),
        'runs': runs,
    }
    text = json.dumps(result, indent=2)
    if options.out:
        options.out.write_text(text + '\n')
    print(text)
    return 0


if __name__ == '__main__':
    sys.exit(main())
