"""Camera images over Fast DDS with and without config/fastdds_large_images.xml: how many arrive, and how late.

    python benchmarks/large_images.py --rounds 5 --out benchmarks/results/large_images.json

A camera and a listener, each in a process of its own, on one host. The profile is given to neither, to the listener
alone (as when only the encoder is started with it), to the camera alone, or to both.
"""

from __future__ import annotations

import argparse
import array
import itertools
import json
import os
import shlex
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from fused_encoder_ros.bench.measuring import describe_machine
from fused_encoder_ros.settings.dds import keep_to_this_host

PROFILE = Path(__file__).parent.parent / 'config' / 'fastdds_large_images.xml'
PROFILE_VARIABLES = ('FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE')
RELIABILITIES = {'best effort': ReliabilityPolicy.BEST_EFFORT, 'reliable': ReliabilityPolicy.RELIABLE}
GIVEN_TO = {'neither': (), 'listener': ('listen',), 'camera': ('publish',), 'both': ('listen', 'publish')}
WIDTH, HEIGHT, RATE_HZ, COUNT = 640, 480, 30.0, 90
TOPIC = '/large_images/image'


def publish(reliability: ReliabilityPolicy) -> None:
    """A camera: VGA rgb8 at 30 Hz, stamped as it is handed to DDS."""
    rclpy.init()
    node = rclpy.create_node('camera')
    publisher = node.create_publisher(Image, TOPIC, QoSProfile(depth=5, reliability=reliability))
    message = Image(height=HEIGHT, width=WIDTH, encoding='rgb8', step=3 * WIDTH)
    message.data = array.array('B', bytes(3 * WIDTH * HEIGHT))
    while not publisher.get_subscription_count():
        time.sleep(0.05)
    time.sleep(1.0)  # they are matched in the other direction too
    for number in range(COUNT):
        due = time.monotonic() + 1 / RATE_HZ
        message.header.stamp = node.get_clock().now().to_msg()
        message.header.frame_id = str(number)
        publisher.publish(message)
        time.sleep(max(due - time.monotonic(), 0))
    time.sleep(1.0)
    node.destroy_node()
    rclpy.shutdown()


def listen(reliability: ReliabilityPolicy) -> None:
    """Prints the latency of every image that came, ms."""
    rclpy.init()
    node = rclpy.create_node('listener')
    latencies_ms: list[float] = []
    last_s = [time.monotonic() + 10.0]

    def on_image(message: Image) -> None:
        stamp_ns = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
        latencies_ms.append((node.get_clock().now().nanoseconds - stamp_ns) / 1e6)
        last_s[0] = time.monotonic() + 3.0

    node.create_subscription(Image, TOPIC, on_image, QoSProfile(depth=5, reliability=reliability))
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    while time.monotonic() < last_s[0]:
        executor.spin_once(timeout_sec=0.1)
    print(json.dumps(latencies_ms))
    node.destroy_node()
    rclpy.shutdown()


def measure(reliability: str, given_to: str) -> dict[str, Any]:
    """One camera and one listener."""

    def start(role: str) -> subprocess.Popen[str]:
        environment = {name: value for name, value in os.environ.items() if name not in PROFILE_VARIABLES}
        if role in GIVEN_TO[given_to]:
            environment |= dict.fromkeys(PROFILE_VARIABLES, str(PROFILE))
        command = [sys.executable, __file__, '--role', role, '--reliability', reliability]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    listener, camera = start('listen'), start('publish')
    camera.wait()
    latencies_ms = json.loads(listener.communicate()[0])
    return {'arrived': len(latencies_ms), 'latency_ms': statistics.median(latencies_ms) if latencies_ms else None}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--out', type=Path)
    parser.add_argument('--role', choices=['publish', 'listen'], help=argparse.SUPPRESS)
    parser.add_argument('--reliability', choices=list(RELIABILITIES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        return (publish if options.role == 'publish' else listen)(RELIABILITIES[options.reliability])
    keep_to_this_host()
    cases = list(itertools.product(RELIABILITIES, GIVEN_TO))
    found: dict[tuple[str, str], list[dict[str, Any]]] = {case: [] for case in cases}
    for number in range(options.rounds):
        for case in cases:
            found[case].append(measure(*case))
            print(f'round {number + 1}, {case[0]}, profile given to {case[1]}: {found[case][-1]}', file=sys.stderr)
    rows = [
        {
            'reliability': reliability,
            'profile_given_to': given_to,
            'sent': COUNT,
            'arrived_median': statistics.median(one['arrived'] for one in rounds),
            'arrived_rounds': [one['arrived'] for one in rounds],
            'latency_ms_median': statistics.median(
                [one['latency_ms'] for one in rounds if one['latency_ms']] or [float('nan')]
            ),
        }
        for (reliability, given_to), rounds in found.items()
    ]
    result = {
        'command': shlex.join(['python', *sys.argv]),
        'machine': describe_machine() | {'middleware': rclpy.get_rmw_implementation_identifier()},
        'image': f'{WIDTH}×{HEIGHT} rgb8, {RATE_HZ:g} Hz, {COUNT} images',
        'rows': rows,
    }
    text = json.dumps(result, indent=2, ensure_ascii=False)
    print(text)
    if options.out:
        options.out.write_text(text + '\n')
    return None


if __name__ == '__main__':
    main()
