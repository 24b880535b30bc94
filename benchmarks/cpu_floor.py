"""What the node costs beyond receiving: its CPU outside inference beside that of a bare rclpy listener, in turn.

    python benchmarks/cpu_floor.py --rounds 5 --duration 15 --out benchmarks/results/cpu_floor.json

The bare listener subscribes to the same topics with the same QoS and does nothing with the messages. Both run beside the
same synthetic robot on real DDS, each in a process of its own; CPU is that of all their threads. The node's is as
`fused-encoder bench node` accounts it.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState

from fused_encoder_ros.bench.measuring import describe_machine
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.ros import bench
from fused_encoder_ros.settings import Settings
from fused_encoder_ros.settings.dds import keep_to_this_host
from fused_encoder_ros.spec import CAMERAS

LISTENER, NODE = 'bare listener', 'node outside inference'
ALL_THREADS = 'all threads'


def listen(account: Path) -> None:
    """Receive and do nothing, but write down after every second of frames what all threads have used since the first."""
    rclpy.init()
    node = rclpy.create_node('listener')
    settings = Settings.from_values({})
    frames, first, start_s = 0, {}, 0.0

    def on_anchor(_message: Image) -> None:
        nonlocal frames, first, start_s
        if not frames:
            first, start_s = bench.thread_cpu_s(), time.monotonic()
        elif frames % 30 == 0:
            account.write_text(json.dumps(_shares(first, time.monotonic() - start_s)))
        frames += 1

    for source, topics in settings.topics.items():
        depth = settings.values['joint_depth' if source == JOINTS else 'image_depth']
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.RELIABLE)
        callback = on_anchor if source == settings.sync.anchor else lambda _message: None
        for topic in topics:
            node.create_subscription(JointState if source == JOINTS else Image, topic, callback, qos)
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        rclpy.try_shutdown()


def _shares(first: dict[int, tuple[str, float]], elapsed_s: float) -> dict[str, float]:
    seconds = dict.fromkeys(('receive', 'DDS threads', ALL_THREADS), 0.0)
    for tid, (name, cpu_s) in bench.thread_cpu_s().items():
        spent = cpu_s - first.get(tid, (name, 0.0))[1]
        seconds['receive' if tid == os.getpid() else 'DDS threads'] += spent
        seconds[ALL_THREADS] += spent
    return {name: round(100 * spent / elapsed_s, 2) for name, spent in seconds.items()}


def measure_listener(duration_s: float, joint_rate_hz: float) -> dict[str, float]:
    """Percent of a core, by what the threads do."""
    parameters = {'duration_s': duration_s, 'joint_rate_hz': joint_rate_hz, 'wait_for_listeners_s': 60.0}
    arguments = [item for name, value in parameters.items() for item in ('-p', f'{name}:={value}')]
    with tempfile.TemporaryDirectory() as folder:
        account = Path(folder) / 'cpu.json'
        listener = subprocess.Popen([sys.executable, __file__, '--listen', str(account)])
        subprocess.run([sys.executable, '-m', 'fused_encoder_ros.ros.rig', '--ros-args', *arguments], check=True)
        listener.send_signal(signal.SIGINT)
        listener.wait(timeout=20)
        return json.loads(account.read_text())


def measure_node(duration_s: float, joint_rate_hz: float, engine: str) -> dict[str, float]:
    """As `measure_listener`, of the node."""
    result = bench.run(1, duration_s, [joint_rate_hz], engine, CAMERAS, lambda _text: None)
    return result['by_joint_rate_hz'][f'{joint_rate_hz:g}']['cpu_percent_of_a_core']


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--duration', type=float, default=15.0)
    parser.add_argument('--joint-rates', type=float, nargs='+', default=[100.0, 500.0, 1000.0])
    parser.add_argument('--engine', default='auto', help="the node's parameter")
    parser.add_argument('--listen', type=Path, help=argparse.SUPPRESS)
    parser.add_argument('--out', type=Path)
    options = parser.parse_args()
    if options.listen:
        listen(options.listen)
        return
    keep_to_this_host()
    runs: dict[float, dict[str, list[dict[str, float]]]] = {rate: {LISTENER: [], NODE: []} for rate in options.joint_rates}
    for number in range(options.rounds):
        for rate, subjects in runs.items():
            print(f'... round {number + 1} of {options.rounds}, joints at {rate:g} Hz', file=sys.stderr)
            subjects[LISTENER].append(measure_listener(options.duration, rate))
            subjects[NODE].append(measure_node(options.duration, rate, options.engine))
    by_rate = {f'{rate:g}': compared(subjects) for rate, subjects in runs.items()}
    result = {
        'benchmark': 'cpu_floor',
        'command': shlex.join(['python', *sys.argv]),
        'load': '3 cameras 640x480 rgb8 at 30 Hz and the joints, from a synthetic robot on the same machine',
        'machine': describe_machine(),
        'cpu_percent_of_a_core_by_joint_rate_hz': by_rate,
    }
    print(as_text(by_rate))
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + '\n')


def compared(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians of each subject, and of the difference within a round."""
    differences = [node['outside inference'] - floor[ALL_THREADS] for floor, node in zip(runs[LISTENER], runs[NODE])]
    medians = {
        name: {part: round(statistics.median(run[part] for run in done), 2) for part in done[0]} for name, done in runs.items()
    }
    return {**medians, 'difference': round(statistics.median(differences), 2), 'runs': runs}


def as_text(by_rate: dict[str, Any]) -> str:
    """The table for a person."""
    lines = ['CPU, % of one core']
    for rate, figures in by_rate.items():
        lines.append(f'\njoints at {rate} Hz')
        for subject in (LISTENER, NODE):
            lines += [f'  {subject + ": " + part:<58}{share:>8.1f}' for part, share in figures[subject].items()]
        lines.append(f'  {"difference":<58}{figures["difference"]:>8.1f}')
    return '\n'.join(lines)


if __name__ == '__main__':
    main()
