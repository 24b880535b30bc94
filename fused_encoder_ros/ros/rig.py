"""The synthetic robot, live: publishes the cameras and the joints on real DDS."""

from __future__ import annotations

import array
import sys
import time
from typing import Any

import rclpy
from builtin_interfaces.msg import Time
from rcl_interfaces.msg import ParameterDescriptor
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

from fused_encoder_ros.errors import ConfigError
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.ros.stopping import Stop, ignore_signals, init_with_stop
from fused_encoder_ros.spec import CAMERAS
from fused_encoder_ros.synthetic import SCENES, Event, Rig, lab_of


class RigNode(Node):
    """Publishes a `Rig`'s events when they are due, stamped by the ROS clock."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('rig', **kwargs)

        def number(name: str, default: float) -> Any:
            # `duration_s:=10` is a whole number, which a parameter of fixed type double refuses.
            value = self.declare_parameter(name, default, ParameterDescriptor(dynamic_typing=True)).value
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                raise ConfigError(f'{name}: {value!r} is not a number')
            return value

        seed = int(number('seed', 0))
        self._rig = Rig(
            seed=seed,
            width=int(number('width', 640)),
            height=int(number('height', 480)),
            camera_rate_hz=number('camera_rate_hz', 30.0),
            joint_rate_hz=number('joint_rate_hz', 100.0),
            jitter_ms=number('jitter_ms', 0.5),
            camera_delay_ms=number('camera_delay_ms', 5.0),
            cameras=self._cameras(),
            lab=lab_of(self.declare_parameter('scene', SCENES[0]).value, seed),
        )
        self._duration_s = number('duration_s', 0.0)
        self._wait_s = number('wait_for_listeners_s', 0.0)
        choices = {'reliable': ReliabilityPolicy.RELIABLE, 'best_effort': ReliabilityPolicy.BEST_EFFORT}
        reliability = choices.get(self.declare_parameter('reliability', 'reliable').value)
        if reliability is None:
            raise ConfigError(f'reliability: use one of {list(choices)}')
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=reliability)
        self._publishers_by_source = {
            camera: self.create_publisher(Image, f'{camera}/image', qos) for camera in self._rig.cameras
        }
        self._publishers_by_source[JOINTS] = self.create_publisher(JointState, JOINTS, 100)

    def _cameras(self) -> tuple[str, ...]:
        # A lone name on the command line is a string and no list.
        value: Any = self.declare_parameter('cameras', list(CAMERAS), ParameterDescriptor(dynamic_typing=True)).value
        return (value,) if isinstance(value, str) else tuple(value)

    def publish_all(self, executor: SingleThreadedExecutor, stop: Stop) -> None:
        """Publish until the duration is over (0 goes on for a year) or `stop` is set."""
        self._wait_for_listeners(executor, stop)
        start_ns = self.get_clock().now().nanoseconds
        start = time.monotonic_ns()
        for event in self._rig.events(self._duration_s or 365 * 86400.0):
            due_s = (event.publish_ns - (time.monotonic_ns() - start)) / 1e9
            if stop.wait(max(due_s, 0)):
                return
            self._publishers_by_source[event.source].publish(self._message(event, start_ns))
            executor.spin_once(timeout_sec=0)

    def _wait_for_listeners(self, executor: SingleThreadedExecutor, stop: Stop) -> None:
        deadline = time.monotonic() + self._wait_s
        while time.monotonic() < deadline and not stop.is_set():
            if all(publisher.get_subscription_count() for publisher in self._publishers_by_source.values()):
                return
            executor.spin_once(timeout_sec=0.05)

    def _message(self, event: Event, start_ns: int) -> Image | JointState:
        sec, nanosec = divmod(start_ns + self._rig.header_stamp_ns(event), 1_000_000_000)
        header = Header(stamp=Time(sec=sec, nanosec=nanosec), frame_id=event.source)
        if event.source == JOINTS:
            names, positions = self._rig.message_joint_names, self._rig.message_positions(event.stamp_ns)
            return JointState(header=header, name=names, position=positions)
        pixels = self._rig.image(event.source, event.stamp_ns, event.number)
        height, width, channels = pixels.shape
        data = array.array('B', pixels.tobytes())
        return Image(header=header, height=height, width=width, encoding='rgb8', step=width * channels, data=data)


def main() -> int:
    """Run the rig until its duration is over, SIGINT or SIGTERM; returns the exit code."""
    try:
        stop = init_with_stop(sys.argv)
        node = RigNode()
    except Exception as error:
        # rclpy's errors of arguments, parameter files and names have no base class of their own.
        print(f'rig cannot start: {error}', file=sys.stderr)
        rclpy.try_shutdown()
        return 1
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        node.publish_all(executor, stop)
    finally:
        ignore_signals()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    sys.exit(main())
