"""The node that one would write from the tutorials, for comparison; it needs ROS's message_filters and cv_bridge.

Stock ApproximateTimeSynchronizer, cv_bridge, torchvision transforms in the callback, eager torch, one callback for everything.
It is written in good faith, with settings that work: queue and slop are arguments.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
import torch
from cv_bridge import CvBridge
from message_filters import ApproximateTimeSynchronizer, Subscriber
from rclpy.node import Node
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float32MultiArray

from fused_encoder_ros.model import ImageJointEncoder, ThreeStreamEncoder
from fused_encoder_ros.model._torchvision import import_torchvision

import_torchvision()
from torchvision import transforms  # noqa: E402

CAMERAS = ('left_wrist', 'right_wrist', 'global')


def seconds(message: Any) -> float:
    return message.header.stamp.sec + message.header.stamp.nanosec * 1e-9


class TutorialNode(Node):
    """Publishes a feature for each set, and keeps what there is to know about it."""

    def __init__(self, design: str, queue_size: int, slop: float) -> None:
        super().__init__('tutorial_encoder')
        self.encoder = (ImageJointEncoder if design == 'single' else ThreeStreamEncoder)().eval()
        self.bridge = CvBridge()
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Resize((84, 84), antialias=True)])
        self.publisher = self.create_publisher(Float32MultiArray, 'fused_feature', 10)
        self.sets: list[dict[str, float]] = []
        inputs = [Subscriber(self, Image, f'/{camera}/image') for camera in CAMERAS]
        inputs.append(Subscriber(self, JointState, '/joint_states'))
        self.synchroniser = ApproximateTimeSynchronizer(inputs, queue_size=queue_size, slop=slop)
        self.synchroniser.registerCallback(self.on_set)
        self.cpu_s, self.start_s = 0.0, 0.0

    def on_set(self, left: Image, right: Image, middle: Image, joints: JointState) -> None:
        if not self.sets:
            self.cpu_s, self.start_s = cpu_s(), time.monotonic()
        images = [self.transform(self.bridge.imgmsg_to_cv2(m, 'rgb8')).unsqueeze(0) for m in (left, right, middle)]
        positions = torch.tensor([joints.position], dtype=torch.float32)
        with torch.no_grad():
            feature = self.encoder(*images, positions)[0]
        self.publisher.publish(Float32MultiArray(data=feature.tolist()))
        now_s = self.get_clock().now().nanoseconds * 1e-9
        stamp_s = seconds(middle)
        self.sets.append(
            {
                'total': (now_s - stamp_s) * 1e3,
                'camera skew': max(abs(seconds(left) - stamp_s), abs(seconds(right) - stamp_s)) * 1e3,
                'joint time error': abs(seconds(joints) - stamp_s) * 1e3,
            }
        )

    def report(self) -> dict[str, Any]:
        if not self.sets:
            return {'sets': 0}
        elapsed_s = time.monotonic() - self.start_s
        figures = {name: np.array([s[name] for s in self.sets]) for name in self.sets[0]}
        return {
            'sets': len(self.sets),
            'cpu_percent_of_a_core': 100 * (cpu_s() - self.cpu_s) / elapsed_s,
            **{
                f'{name}, ms': dict(zip(('p50', 'p95', 'p99'), np.percentile(values, [50, 95, 99]).tolist()))
                for name, values in figures.items()
            },
        }


def cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--design', choices=('single', 'three_stream'), default='single')
    parser.add_argument('--queue-size', type=int, default=10)
    parser.add_argument('--slop', type=float, default=0.05)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--out', type=Path, required=True)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rclpy.init()
    node = TutorialNode(options.design, options.queue_size, options.slop)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
        rclpy.spin(node)
    options.out.write_text(json.dumps(node.report()))
    return 0


if __name__ == '__main__':
    sys.exit(main())
