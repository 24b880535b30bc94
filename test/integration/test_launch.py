"""The parameter file in config/, and the launch files with the real `ros2 launch`."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from fused_encoder_ros.model import ImageJointEncoder
from fused_encoder_ros.model.packed_checkpoint import write_packed
from fused_encoder_ros.pipeline.data import JOINTS
from fused_encoder_ros.settings import Settings, is_derived, parameters, read_parameter_file
from fused_encoder_ros.spec import CAMERAS, ObservationSpec
from fused_encoder_ros.synthetic import Rig

PACKAGE = 'fused_encoder_ros'
ROOT = Path(__file__).parents[2]
PARAMS_FILE = ROOT / 'config' / 'fused_encoder.yaml'
START_LIMIT_S, STOP_LIMIT_S = 60.0, 30.0

needs_launch = pytest.mark.skipif(
    importlib.util.find_spec('launch_ros') is None,
    reason='launch_ros is not on the Python package index; it comes with a ROS installation',
)


# The parameter file


def _names(node: yaml.MappingNode, prefix: str = '') -> Iterator[str]:
    for key, value in node.value:
        name = f'{prefix}{key.value}'
        if isinstance(value, yaml.MappingNode):
            yield from _names(value, f'{name}.')
        else:
            yield name


def _with_spec() -> str:
    """The file with the observation spec's lines switched on, as a user would."""
    return re.sub(r'^( {4,6})#(?! |$)', r'\1', PARAMS_FILE.read_text(), flags=re.MULTILINE)


def test_parameter_file_names_every_parameter_once() -> None:
    names = sorted(_names(yaml.compose(_with_spec())))
    assert names == sorted(f'/**.ros__parameters.{parameter.name}' for parameter in parameters())


def test_parameter_file_leaves_the_spec_to_the_checkpoint() -> None:
    stated = set(read_parameter_file(PARAMS_FILE))
    assert not stated & {f'topics.{camera}' for camera in CAMERAS} and not any(map(is_derived, stated))


def test_parameter_file_holds_the_defaults(tmp_path: Path) -> None:
    (tmp_path / 'all.yaml').write_text(_with_spec())
    values = read_parameter_file(tmp_path / 'all.yaml')
    assert Settings.from_values(values) == Settings.from_values({})
    # ROS takes the type of a parameter from how its value is written.
    defaults = {parameter.name: parameter.default for parameter in parameters()}
    assert {name: type(value) for name, value in values.items()} == {name: type(defaults[name]) for name in values}


# The launch files as such


@needs_launch
@pytest.mark.parametrize('name', ['fused_encoder', 'demo', 'replay'])
def test_launch_files_explain_their_arguments(name: str) -> None:
    from launch import LaunchContext
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    source = PythonLaunchDescriptionSource(str(ROOT / 'launch' / f'{name}.launch.py'))
    arguments = {argument.name: argument for argument in source.get_launch_description(LaunchContext()).get_launch_arguments()}
    assert {'params_file', 'namespace', 'checkpoint', 'device', 'use_sim_time', *CAMERAS, JOINTS} <= set(arguments)
    assert all(argument.description for argument in arguments.values())
    default = arguments['params_file'].default_value
    assert default is not None and Path(default[0].text).samefile(PARAMS_FILE)


# The launch files at work, as installed


@pytest.fixture
def installed() -> None:
    """Skips where the package cannot be launched by its name."""
    index = pytest.importorskip('ament_index_python', reason='ament_index_python is missing; it comes with a ROS installation')
    try:
        index.get_package_prefix(PACKAGE)
    except index.PackageNotFoundError:
        pytest.skip(f'{PACKAGE} is not in the ament index; build it with colcon and source the workspace')
    if shutil.which('ros2') is None:
        pytest.skip('there is no ros2 command; it comes with a ROS installation')


class Watcher:
    """A node that looks at another one from outside."""

    def __init__(self, rclpy: Any) -> None:
        self.node = rclpy.create_node('watcher')
        self._executor = rclpy.executors.SingleThreadedExecutor()
        self._executor.add_node(self.node)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()

    def wait_for(self, condition: Callable[[], Any]) -> None:
        end = time.monotonic() + START_LIMIT_S
        while not condition():
            assert time.monotonic() < end, 'timed out'
            self._executor.spin_once(timeout_sec=0.1)

    def call(self, service: str, kind: Any, request: Any) -> Any:
        client = self.node.create_client(kind, service)
        self.wait_for(client.service_is_ready)
        future = client.call_async(request)
        self.wait_for(future.done)
        self.node.destroy_client(client)
        return future.result()

    def wait_until_active(self, name: str) -> None:
        from lifecycle_msgs.srv import GetState

        self.wait_for(lambda: self.call(f'{name}/get_state', GetState, GetState.Request()).current_state.label == 'active')

    def wait_for_features(self, name: str) -> list[Any]:
        from std_msgs.msg import Float32MultiArray

        features: list[Any] = []
        self.node.create_subscription(Float32MultiArray, f'{name}/fused_feature', features.append, 10)
        self.wait_for(lambda: len(features) >= 3)
        return features


@pytest.fixture
def watcher() -> Iterator[Watcher]:
    rclpy = pytest.importorskip('rclpy')
    rclpy.init()
    watcher = Watcher(rclpy)
    yield watcher
    watcher.close()
    rclpy.shutdown()


@contextmanager
def launched(log: Path, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`ros2 launch` of this package; at the end SIGINT must have ended it and all that it started."""
    with log.open('wb') as output:
        process = subprocess.Popen(
            ['ros2', 'launch', PACKAGE, *arguments], stdout=output, stderr=output, start_new_session=True
        )
    try:
        yield process
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        assert process.wait(STOP_LIMIT_S) == 0, log.read_text()
        assert not _is_alive(process.pid), 'something that it started is still running'
    finally:
        print(log.read_text())
        if _is_alive(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@needs_launch
def test_demo_publishes_features(installed: None, watcher: Watcher, tmp_path: Path) -> None:
    with launched(tmp_path / 'log', 'demo.launch.py', 'namespace:=robot1'):
        watcher.wait_until_active('/robot1/fused_encoder')
        assert all(len(feature.data) == 256 for feature in watcher.wait_for_features('/robot1/fused_encoder'))


@needs_launch
def test_arguments_override_the_parameter_file_and_absent_ones_do_not(
    installed: None, watcher: Watcher, tmp_path: Path
) -> None:
    from rcl_interfaces.srv import GetParameters

    topics = {'left_wrist': 'file/left', 'global': 'file/global'}
    ours = {'seed': 7, 'topics': topics, 'use_sim_time': True}
    # The file's own name for the node is as special as can be; an argument counts all the same.
    (tmp_path / 'robot.yaml').write_text(yaml.safe_dump({'/arm/fused_encoder': {'ros__parameters': ours}}))
    arguments = [f'params_file:={tmp_path / "robot.yaml"}', 'namespace:=arm', 'global:=/head/image', 'joint_states:=[/l, /r]']
    with launched(tmp_path / 'log', 'fused_encoder.launch.py', *arguments):
        watcher.wait_until_active('/arm/fused_encoder')
        sources = ('joint_states', *CAMERAS)
        request = GetParameters.Request(names=['seed', 'use_sim_time', *(f'topics.{source}' for source in sources)])
        values = watcher.call('/arm/fused_encoder/get_parameters', GetParameters, request).values
    assert (values[0].integer_value, values[1].bool_value) == (7, True)
    assert values[2].string_array_value == ['/l', '/r']
    assert [value.string_value for value in values[3:]] == ['file/left', 'right_wrist/image', '/head/image']


@needs_launch
def test_demo_with_other_cameras(installed: None, watcher: Watcher, tmp_path: Path) -> None:
    """Robot and node have them both."""
    with launched(tmp_path / 'log', 'demo.launch.py', 'namespace:=robot2', 'cameras:=[front, hand]'):
        watcher.wait_for_features('/robot2/fused_encoder')
    assert 'listening to /robot2/front/image, /robot2/hand/image, /robot2/joint_states' in (tmp_path / 'log').read_text()


@needs_launch
@pytest.mark.parametrize('told_by', ['argument', 'parameter file', 'checkpoint'])
def test_any_camera_is_an_argument(installed: None, watcher: Watcher, tmp_path: Path, told_by: str) -> None:
    cameras = ['front', 'hand']
    arguments = ['front:=/front/color', 'hand:=/hand/color']
    if told_by == 'argument':
        arguments.append('cameras:=[front, hand]')
    elif told_by == 'parameter file':
        content = {'fused_encoder': {'ros__parameters': {'cameras': cameras, 'topics': {'hand': '/not/this/one'}}}}
        (tmp_path / 'robot.yaml').write_text(yaml.safe_dump(content))
        arguments.append(f'params_file:={tmp_path / "robot.yaml"}')
    else:
        write_packed(
            tmp_path / 'run.safetensors', ImageJointEncoder(camera_count=2).eval(), ObservationSpec(cameras=tuple(cameras))
        )
        arguments.append(f'checkpoint:={tmp_path / "run.safetensors"}')
    with launched(tmp_path / 'log', 'fused_encoder.launch.py', *arguments):
        watcher.wait_until_active('/fused_encoder')
    assert 'anchor front; listening to /front/color, /hand/color, /joint_states' in (tmp_path / 'log').read_text()


@needs_launch
def test_an_argument_for_a_camera_that_is_not_there_is_refused(installed: None, tmp_path: Path) -> None:
    with launched(tmp_path / 'log', 'fused_encoder.launch.py', 'cameras:=[front]', 'global:=/head') as process:
        process.wait(START_LIMIT_S)
    assert 'topics.global: there is no camera global (the cameras are front' in (tmp_path / 'log').read_text()


@needs_launch
def test_unusable_checkpoint_ends_the_launch_with_a_sentence(installed: None, tmp_path: Path) -> None:
    with launched(tmp_path / 'log', 'demo.launch.py', 'checkpoint:=/no/such.pth') as process:
        process.wait(START_LIMIT_S)
    log = (tmp_path / 'log').read_text()
    assert '/no/such.pth is not a file' in log and 'exit code 1' in log


@needs_launch
@pytest.mark.skipif(importlib.util.find_spec('rosbag2_py') is None, reason='rosbag2 is not installed')
def test_replay_publishes_features_and_ends_with_the_bag(installed: None, watcher: Watcher, tmp_path: Path) -> None:
    pytest.importorskip('rosbags')
    from fused_encoder_ros.offline.rig_bag import write_rig_bag

    write_rig_bag(tmp_path / 'bag', Rig(), 5.0, storage='sqlite3')
    with launched(tmp_path / 'log', 'replay.launch.py', f'bag:={tmp_path / "bag"}') as process:
        watcher.wait_for_features('/fused_encoder')
        process.wait(START_LIMIT_S)


@needs_launch
@pytest.mark.skipif(importlib.util.find_spec('foxglove_bridge') is not None, reason='foxglove_bridge is installed')
def test_a_viewer_that_is_not_installed_is_told_before_anything_starts(installed: None, tmp_path: Path) -> None:
    log = tmp_path / 'log'
    with log.open('wb') as output:
        command = ['ros2', 'launch', PACKAGE, 'demo.launch.py', 'viewer:=foxglove']
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    assert process.wait(START_LIMIT_S) == 1
    assert not _is_alive(process.pid)
    assert 'viewer:=foxglove needs the package foxglove_bridge: sudo apt install ros-' in log.read_text()


@needs_launch
@pytest.mark.parametrize(
    ('viewer', 'package', 'shows'),
    [
        ('rqt', 'rqt_image_view', '/robot1/fused_encoder/observation'),
        ('foxglove', 'foxglove_bridge', '--ros-args'),
        ('plotjuggler', 'plotjuggler', '--ros-args'),
    ],
)
def test_the_demo_starts_a_viewer_and_goes_on_when_it_is_closed(
    viewer: str,
    package: str,
    shows: str,
    installed: None,
    watcher: Watcher,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # In place of the viewer, which needs a screen: a program that is closed once it knows what to show.
    prefix, shown = tmp_path / 'prefix', tmp_path / 'shown'
    program = prefix / 'lib' / package / package
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$1" > {shown}\n')
    program.chmod(0o755)
    index = prefix / 'share' / 'ament_index' / 'resource_index' / 'packages' / package
    index.parent.mkdir(parents=True)
    index.touch()
    monkeypatch.setenv('AMENT_PREFIX_PATH', f'{prefix}:{os.environ["AMENT_PREFIX_PATH"]}')

    with launched(tmp_path / 'log', 'demo.launch.py', f'viewer:={viewer}', 'namespace:=robot1'):
        watcher.wait_for_features('/robot1/fused_encoder')
        assert 'process has finished cleanly' in (tmp_path / 'log').read_text()
        assert shown.read_text().strip() == shows
        topics = [name for name, _ in watcher.node.get_topic_names_and_types()]
        assert '/robot1/fused_encoder/observation' in topics
