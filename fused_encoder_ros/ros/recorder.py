"""Runs robot and node as two processes, and records what the node publishes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image
from std_msgs.msg import String

from fused_encoder_ros.pipeline.data import stamp_to_ns
from fused_encoder_ros.pipeline.outputs import OBSERVATION_TOPIC, SETS_TOPIC, STAMPED_TOPIC
from fused_encoder_ros.settings import NODE_NAME

_START_LIMIT_S = 30.0


class Recording:
    """What the node published."""

    def __init__(self) -> None:
        self.sets: dict[int, dict[str, Any]] = {}
        self.drops: dict[int, dict[str, Any]] = {}
        self.features: dict[int, np.ndarray] = {}
        self.montages: dict[int, np.ndarray] = {}

    def add_set(self, message: Any) -> None:
        """Take a message of the sets topic."""
        report = json.loads(message.data)
        (self.drops if 'drop' in report else self.sets)[report['stamp_ns']] = report

    def add_feature(self, message: Any) -> None:
        """Take a stamped feature."""
        self.features[stamp_to_ns(message.header.stamp)] = np.frombuffer(message.data, '<f4')

    def add_montage(self, message: Any) -> None:
        """Take a picture of an observation, as images uint8 [S,S,3*cameras]."""
        size = message.height
        pixels = np.frombuffer(message.data, np.uint8).reshape(size, -1, size, 3)
        self.montages[stamp_to_ns(message.header.stamp)] = pixels.transpose(0, 2, 1, 3).reshape(size, size, -1)


def record_demo(duration_s: float, cameras: Sequence[str]) -> Recording:
    """Run the node and, for so many seconds, a synthetic robot with these cameras, as two processes."""
    recording = Recording()
    rclpy.init()
    recorder = rclpy.create_node('demo_recorder')
    recorder.create_subscription(String, f'/{NODE_NAME}/{SETS_TOPIC}', recording.add_set, 100)
    recorder.create_subscription(Image, f'/{NODE_NAME}/{STAMPED_TOPIC}', recording.add_feature, 100)
    recorder.create_subscription(Image, f'/{NODE_NAME}/{OBSERVATION_TOPIC}', recording.add_montage, 100)
    executor = SingleThreadedExecutor()
    executor.add_node(recorder)
    named = f'cameras:=[{", ".join(cameras)}]'
    node = subprocess.Popen([sys.executable, '-m', 'fused_encoder_ros.ros.main', '--ros-args', '-p', named])
    timing = ['-p', f'duration_s:={duration_s}', '-p', f'wait_for_listeners_s:={_START_LIMIT_S}']
    rig = subprocess.Popen([sys.executable, '-m', 'fused_encoder_ros.ros.rig', '--ros-args', '-p', named, *timing])
    print(f'starting robot and node, which then run for {duration_s:g} s ...', flush=True)
    try:
        while rig.poll() is None and node.poll() is None:
            executor.spin_once(timeout_sec=0.1)
        settled = time.monotonic() + 1.0
        while time.monotonic() < settled:
            executor.spin_once(timeout_sec=0.1)
    finally:
        for process in (node, rig):
            process.send_signal(signal.SIGINT)
            process.wait(timeout=10)
        executor.shutdown()
        recorder.destroy_node()
        rclpy.try_shutdown()
    return recording
