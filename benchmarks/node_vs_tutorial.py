"""This package's node against the tutorial node, beside the same synthetic robot, in turn.

    python benchmarks/node_vs_tutorial.py --rounds 3 --duration 15 --out benchmarks/results/node_vs_tutorial.json

Runs where ROS's message_filters and cv_bridge are installed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String

from fused_encoder_ros.bench.measuring import describe_machine
from fused_encoder_ros.settings.dds import keep_to_this_host

HERE = Path(__file__).parent
RATES_HZ = (100.0, 500.0, 1000.0)
SUBJECTS: dict[str, list[str]] = {
    'this package': [],
    'tutorial, queue 10, slop 50 ms': ['--queue-size', '10', '--slop', '0.05'],
    'tutorial, queue 100, slop 50 ms': ['--queue-size', '100', '--slop', '0.05'],
    'tutorial, queue 100, slop 50 ms, three-stream': ['--queue-size', '100', '--slop', '0.05', '--design', 'three_stream'],
}


def measure(name: str, rate_hz: float, duration_s: float) -> dict[str, Any]:
    """One subject beside the robot: sets of anchors, latency, skew, joint time error, CPU of its process."""
    keep_to_this_host()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / 'report.json'
        if SUBJECTS[name]:
            command = [sys.executable, str(HERE / 'tutorial_node.py'), *SUBJECTS[name], '--out', str(out)]
        else:
            command = [sys.executable, '-m', 'fused_encoder_ros.ros.main']
        node = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        parameters = {'duration_s': duration_s, 'joint_rate_hz': rate_hz, 'wait_for_listeners_s': 60.0}
        arguments = [item for key, value in parameters.items() for item in ('-p', f'{key}:={value}')]
        rig = subprocess.Popen([sys.executable, '-m', 'fused_encoder_ros.ros.rig', '--ros-args', *arguments])
        if SUBJECTS[name]:
            rig.wait()
            node.send_signal(2)
            node.wait()
            report = json.loads(out.read_text())
        else:
            report = _listen(node, rig)
    report['anchors'] = round(duration_s * 30)
    return report


def _listen(node: subprocess.Popen[bytes], rig: subprocess.Popen[bytes]) -> dict[str, Any]:
    context = rclpy.Context()
    rclpy.init(context=context)
    listener = rclpy.create_node('comparison', context=context)
    reports: list[dict[str, Any]] = []
    cpu: list[tuple[float, float]] = []
    listener.create_subscription(String, '/fused_encoder/sets', lambda m: reports.append(json.loads(m.data)), 1000)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(listener)
    while rig.poll() is None:
        executor.spin_once(timeout_sec=0.2)
        if reports:
            cpu.append((listener.get_clock().now().nanoseconds * 1e-9, _cpu_s(node.pid)))
    node.send_signal(2)
    node.wait()
    executor.shutdown()
    listener.destroy_node()
    rclpy.shutdown(context=context)
    sets = [r for r in reports if 'drop' not in r]
    values = {
        'total': [r['latency_ms']['total'] for r in sets],
        'camera skew': [max(abs(r['skew_ms'][c]) for c in ('left_wrist', 'right_wrist')) for r in sets],
        'joint time error': [abs(r['skew_ms']['joint_states']) for r in sets],
    }
    (first_s, first_cpu), (last_s, last_cpu) = cpu[0], cpu[-1]
    return {
        'sets': len(sets),
        'drops': len(reports) - len(sets),
        'cpu_percent_of_a_core': 100 * (last_cpu - first_cpu) / (last_s - first_s),
        **{f'{k}, ms': dict(zip(('p50', 'p95', 'p99'), np.percentile(v, [50, 95, 99]).tolist())) for k, v in values.items()},
    }


def _cpu_s(pid: int) -> float:
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def median(runs: list[Any]) -> Any:
    """Of each figure; a run without sets has fewer figures."""
    if isinstance(runs[0], dict):
        keys = dict.fromkeys(key for run in runs for key in run)
        return {key: median([run[key] for run in runs if key in run]) for key in keys}
    return round(statistics.median(runs), 2)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--duration', type=float, default=15.0)
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    runs: dict[str, dict[str, list[Any]]] = {f'{rate:g}': {name: [] for name in SUBJECTS} for rate in RATES_HZ}
    for _ in range(options.rounds):
        for rate in RATES_HZ:
            for name in SUBJECTS:
                runs[f'{rate:g}'][name].append(measure(name, rate, options.duration))
    result = {
        'benchmark': 'node_vs_tutorial',
        'command': f'python benchmarks/node_vs_tutorial.py --rounds {options.rounds} --duration {options.duration:g}',
        'load': '3 cameras 640x480 rgb8 at 30 Hz and the joints, from a synthetic robot on the same machine',
        'machine': describe_machine(),
        'by_joint_rate_hz': {rate: {name: median(done) for name, done in subjects.items()} for rate, subjects in runs.items()},
    }
    print(json.dumps(result['by_joint_rate_hz'], indent=2))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + '\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
