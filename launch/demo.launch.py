"""Start the synthetic robot and the encoder node: the whole chain on real DDS, with no robot.

    ros2 launch fused_encoder_ros demo.launch.py
    ros2 launch fused_encoder_ros demo.launch.py viewer:=rqt
    ros2 launch fused_encoder_ros demo.launch.py cameras:='[front, wrist]'
    ros2 topic hz /fused_encoder/fused_feature

The arguments of fused_encoder.launch.py count here too.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    IncludeLaunchDescription,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

HERE = Path(__file__).resolve().parent
PACKAGE = 'fused_encoder_ros'

# Each viewer's package, whose program has the same name, and the Debian package that brings it.
VIEWERS = {
    'foxglove': ('foxglove_bridge', 'foxglove-bridge'),
    'rqt': ('rqt_image_view', 'rqt-image-view'),
    'plotjuggler': ('plotjuggler', 'plotjuggler-ros'),
}


def generate_launch_description() -> LaunchDescription:
    """Robot and node, ending together, and a viewer."""
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                'viewer',
                default_value='none',
                choices=['none', *VIEWERS],
                description='what to watch the node with: the bridge of Foxglove, rqt_image_view or PlotJuggler',
            ),
            # First, since launch leaves running what it has started when a viewer is not installed.
            OpaqueFunction(function=_viewer),
            # A robot without its encoder, or the other way round, shows nothing.
            RegisterEventHandler(OnProcessExit(target_action=_is_ours, on_exit=[Shutdown(reason='robot or encoder ended')])),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / 'fused_encoder.launch.py'))),
            # After the include, which declares the namespace and sets up Fast DDS.
            OpaqueFunction(function=_rig),
        ]
    )


def _rig(context: LaunchContext) -> list[Node]:
    cameras = LaunchConfiguration('cameras')
    parameters = [{'cameras': ParameterValue(cameras)}] if cameras.perform(context) else []
    namespace = LaunchConfiguration('namespace')
    return [Node(package=PACKAGE, executable='rig', namespace=namespace, parameters=parameters, output='screen')]


def _is_ours(action: Action) -> bool:
    return isinstance(action, Node) and action.node_package == PACKAGE


def _viewer(context: LaunchContext) -> list[Node]:
    viewer = LaunchConfiguration('viewer').perform(context)
    if viewer == 'none':
        return []
    package, debian = VIEWERS[viewer]
    try:
        get_package_prefix(package)
    except PackageNotFoundError:
        fix = f'sudo apt install ros-$ROS_DISTRO-{debian}'
        raise RuntimeError(f'viewer:={viewer} needs the package {package}: {fix}') from None
    picture = posixpath.join('/', context.launch_configurations.get('namespace', ''), 'fused_encoder/observation')
    return [Node(package=package, executable=package, arguments=[picture] if viewer == 'rqt' else [], output='screen')]
