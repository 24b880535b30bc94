"""A node in a process of its own, and a person beside it who listens, plays bags and reads the log."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import preloaded
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from preloaded import Program
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image, JointState
from std_msgs.msg import Float32MultiArray, String

PATIENCE_S = 120.0
KINDS = {
    'sensor_msgs/msg/Image': Image,
    'sensor_msgs/msg/CompressedImage': CompressedImage,
    'sensor_msgs/msg/JointState': JointState,
}


def stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * 10**9 + int(message.header.stamp.nanosec)


class LiveProcess:
    """A subprocess whose output is kept; its Python has imported torch already, unless it is fresh."""

    def __init__(self, log: Path, module: str, *arguments: str, fresh: bool = False) -> None:
        self.path = log
        self.process: subprocess.Popen[bytes] | Program
        with log.open('w') as stream:
            if fresh:
                command = [sys.executable, '-X', 'faulthandler', '-m', f'fused_encoder_ros.ros.{module}', *arguments]
                self.process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
            else:
                self.process = preloaded.start(f'fused_encoder_ros.ros.{module}', *arguments, stdout=stream, stderr=stream)

    @property
    def log(self) -> str:
        return self.path.read_text()

    def dump_stacks(self) -> None:
        """Write where each of its threads stands into the log; it ends there."""
        self.process.send_signal(signal.SIGCONT)
        self.process.send_signal(signal.SIGABRT)
        self.process.wait(timeout=60)

    def stop(self, number: int = signal.SIGINT) -> int:
        """Send a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(timeout=60)
        finally:
            self.process.kill()


class Desk:
    """An rclpy node that listens to the encoder's outputs and publishes what a test wants."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.context = rclpy.Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('desk', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.processes: list[LiveProcess] = []
        self.publishers: dict[str, Any] = {}
        self.reports: list[dict[str, Any]] = []
        self.plain: list[Float32MultiArray] = []
        self.stamped: list[Image] = []
        self.diagnostics: list[DiagnosticArray] = []
        self.node.create_subscription(String, '/fused_encoder/sets', lambda m: self.reports.append(json.loads(m.data)), 1000)
        self.node.create_subscription(Float32MultiArray, '/fused_encoder/fused_feature', self.plain.append, 1000)
        self.node.create_subscription(Image, '/fused_encoder/fused_feature_stamped', self.stamped.append, 1000)
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self.diagnostics.append, 100)

    def start(self, module: str = 'main', *, fresh: bool = False, **parameters: object) -> LiveProcess:
        """Start the node (or the rig) with these parameters; `__` in a name stands for a dot.

        Unless a test names an engine the node has the plain one: the search for the fastest is most of its start.
        """
        if module == 'main':
            parameters.setdefault('engine', 'eager')
        arguments = [item for k, v in parameters.items() for item in ('-p', f'{k.replace("__", ".")}:={v}')]
        return self.start_with(*(['--ros-args', *arguments] if arguments else []), module=module, fresh=fresh)

    def start_with(self, *arguments: str, module: str = 'main', fresh: bool = False) -> LiveProcess:
        """Start the node (or the rig) with these arguments."""
        log = self.folder / f'{module}_{len(self.processes)}.log'
        self.processes.append(LiveProcess(log, module, *arguments, fresh=fresh))
        return self.processes[-1]

    def close(self) -> None:
        for live in self.processes:
            live.stop()  # killed processes would leave their shared memory behind
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)

    def spin(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.02)

    def wait(self, condition: Callable[[], object], what: str) -> None:
        """Spin until a condition holds; fail with the logs when it never does."""
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                raise AssertionError(f'waited {PATIENCE_S:g} s for {what}; {self._state()}')
            self.executor.spin_once(timeout_sec=0.02)

    def _state(self) -> str:
        """All that helps to see why something did not come; the processes end with it."""
        diagnosed = [
            f'{s.name}: {s.message} {[(v.key, v.value) for v in s.values]}' for a in self.diagnostics[-1:] for s in a.status
        ]
        for live in self.processes:
            live.dump_stacks()
        logs = '\n'.join(live.log for live in self.processes)
        return '\n'.join(['logs:', logs, f'reports: {self.reports[-3:]}', f'{len(self.diagnostics)} diagnostics:', *diagnosed])

    def wait_for_log(self, live: LiveProcess, text: str) -> None:
        self.wait(lambda: text in live.log, f'{text!r} in the log')

    def advertise(
        self, topics: dict[str, str], reliability: ReliabilityPolicy = ReliabilityPolicy.RELIABLE, depth: int = 50
    ) -> None:
        """Create publishers: topic to type name."""
        qos = QoSProfile(depth=depth, reliability=reliability)
        for topic, kind in topics.items():
            self.publishers[topic] = self.node.create_publisher(KINDS[kind], topic, qos)

    def wait_until_heard(self) -> None:
        """Until every publisher has a subscriber, of its own reliability."""

        def heard(topic: str, publisher: Any) -> bool:
            subscriptions = self.node.get_subscriptions_info_by_topic(topic)
            return any(s.qos_profile.reliability == publisher.qos_profile.reliability for s in subscriptions) and bool(
                publisher.get_subscription_count()
            )

        self.wait(lambda: all(heard(t, p) for t, p in self.publishers.items()), 'subscriptions of the node')
        self.wait_for_outputs()

    def wait_for_outputs(self) -> None:
        """Until this desk hears what the node publishes."""
        self.wait(lambda: self.node.count_publishers('/fused_encoder/sets'), 'outputs of the node')
        self.spin(0.5)  # they are matched in the other direction too

    def sets(self) -> dict[int, dict[str, Any]]:
        return {report['stamp_ns']: report for report in self.reports if 'drop' not in report}

    def drops(self) -> dict[int, str]:
        return {report['stamp_ns']: report['drop'] for report in self.reports if 'drop' in report}

    def features(self) -> dict[int, np.ndarray]:
        return {stamp_ns(message): np.frombuffer(message.data, '<f4') for message in self.stamped}

    def status(self, name: str) -> tuple[int, str, dict[str, str]]:
        """Level, message and values of the last diagnostic status of this name; -1 and empty before the first."""
        return self.statuses(name)[-1] if self.diagnostics else (-1, '', defaultdict(str))

    def statuses(self, name: str) -> list[tuple[int, str, dict[str, str]]]:
        """Every diagnostic status of this name, as in `status`."""
        found = [s for array in self.diagnostics for s in array.status if s.name == f'fused_encoder: {name}']
        return [(s.level[0], s.message, {pair.key: pair.value for pair in s.values}) for s in found]


def call(desk: Desk, kind: type, name: str, request: object) -> object:
    client = desk.node.create_client(kind, name)
    desk.wait(client.service_is_ready, f'service {name}')
    desk.spin(0.3)  # ready says that the request will get there, not the answer back
    future = client.call_async(request)
    desk.wait(future.done, f'an answer of {name}')
    desk.node.destroy_client(client)
    return future.result()


def change(desk: Desk, transition: int) -> bool:
    request = ChangeState.Request(transition=Transition(id=transition))
    return bool(call(desk, ChangeState, '/fused_encoder/change_state', request).success)


def state(desk: Desk) -> str:
    return str(call(desk, GetState, '/fused_encoder/get_state', GetState.Request()).current_state.label)


def set_parameter(desk: Desk, name: str, value: float | str) -> object:
    if isinstance(value, str):
        content = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)
    else:
        content = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    request = SetParameters.Request(parameters=[Parameter(name=name, value=content)])
    return call(desk, SetParameters, '/fused_encoder/set_parameters', request).results[0]
