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
from fused_encoder_ros.ros.arguments import check_arguments, unused_parameter_files
from fused_encoder_ros.ros.stopping import Stop, ignore_signals, init_with_stop
from fused_encoder_ros.settings import OF_EVERY_NODE, Parameter
from fused_encoder_ros.spec import CAMERAS
from fused_encoder_ros.synthetic import SCENES, Event, Rig, lab_of

_DESCRIPTION = (
    'The synthetic robot: it publishes moving pictures of its cameras and its joint states, so that you can try the node '
    'without a robot. It runs until you press Ctrl-C, or for duration_s.'
)
_EXAMPLES = """
Start it together with the node:
  ros2 launch fused_encoder_ros demo.launch.py
or alone:
  ros2 run fused_encoder_ros rig --ros-args -p duration_s:=10 -p camera_rate_hz:=15
"""
_MOST = 1e9
_RELIABILITIES = {'reliable': ReliabilityPolicy.RELIABLE, 'best_effort': ReliabilityPolicy.BEST_EFFORT}
_PARAMETERS = (
    Parameter('cameras', list(CAMERAS), 'names of the cameras; each publishes NAME/image'),
    Parameter('scene', SCENES[0], 'what the cameras see: plain or lab', choices=SCENES),
    Parameter('seed', 0, 'seed of the motion and of the objects in the lab'),
    Parameter('width', 640, 'width of the images, pixels'),
    Parameter('height', 480, 'height of the images, pixels'),
    Parameter('camera_rate_hz', 30.0, 'frames per second of each camera'),
    Parameter('joint_rate_hz', 100.0, 'joint messages per second'),
    Parameter('jitter_ms', 0.5, 'how irregular the times of the frames are, ms'),
    Parameter('camera_delay_ms', 5.0, 'delay from the stamp of an image to its publication, ms'),
    Parameter('reliability', 'reliable', 'QoS of the cameras: reliable or best_effort', choices=tuple(_RELIABILITIES)),
    Parameter('duration_s', 0.0, 'seconds after which the robot stops; 0: never', 0.0, _MOST),
    Parameter(
        'wait_for_listeners_s', 0.0, 'seconds to wait for subscribers to all topics before the robot starts', 0.0, _MOST
    ),
)


class RigNode(Node):
    """Publishes a `Rig`'s events when they are due, stamped by the ROS clock.

    Raises:
        ConfigError: naming the parameter and the fix.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__('rig', **kwargs)
        values = self._values()
        self._rig = Rig(
            seed=values['seed'],
            width=values['width'],
            height=values['height'],
            camera_rate_hz=values['camera_rate_hz'],
            joint_rate_hz=values['joint_rate_hz'],
            jitter_ms=values['jitter_ms'],
            camera_delay_ms=values['camera_delay_ms'],
            cameras=tuple(values['cameras']),
            lab=lab_of(values['scene'], values['seed']),
        )
        self._duration_s = values['duration_s']
        self._wait_s = values['wait_for_listeners_s']
        qos = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=_RELIABILITIES[values['reliability']])
        self._publishers_by_source = {
            camera: self.create_publisher(Image, f'{camera}/image', qos) for camera in self._rig.cameras
        }
        self._publishers_by_source[JOINTS] = self.create_publisher(JointState, JOINTS, 100)

    def _values(self) -> dict[str, Any]:
        names = [parameter.name for parameter in _PARAMETERS]
        for name in self._parameter_overrides:
            if name not in names and name.split('.')[0] not in OF_EVERY_NODE:
                raise ConfigError(f'{name}: there is no such parameter; use one of {", ".join(names)}')
        # `duration_s:=10` is a whole number, and a lone name no list, which parameters of a fixed type would refuse.
        descriptor = ParameterDescriptor(dynamic_typing=True)
        return {p.name: p.check(self.declare_parameter(p.name, p.default, descriptor).value) for p in _PARAMETERS}

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
    check_arguments(sys.argv, 'rig', _DESCRIPTION, _EXAMPLES, _PARAMETERS)
    try:
        stop = init_with_stop(sys.argv)
        node = RigNode()
        for warning in unused_parameter_files(sys.argv, node.get_fully_qualified_name()):
            node.get_logger().warning(warning)
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
