"""Start the synthetic robot and the encoder node: the whole chain on real DDS, with no robot.

    ros2 launch fused_encoder_ros demo.launch.py
    ros2 topic hz /fused_encoder/fused_feature

The arguments of fused_encoder.launch.py count here too.
"""

from __future__ import annotations

from pathlib import Path

from launch import LaunchDescription
from launch.actions import (
    IncludeLaunchDescription,
    RegisterEventHandler,
    Shutdown,
)
from launch.event_handlers import OnProcessExit
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

HERE = Path(__file__).resolve().parent


def generate_launch_description() -> LaunchDescription:
    """Robot and node, ending together."""
    return LaunchDescription(
        [
            # A robot without its encoder, or the other way round, shows nothing.
            RegisterEventHandler(OnProcessExit(on_exit=[Shutdown(reason='robot or encoder ended')])),
            IncludeLaunchDescription(PythonLaunchDescriptionSource(str(HERE / 'fused_encoder.launch.py'))),
            # After the include, which declares the namespace and sets up Fast DDS.
            Node(package='fused_encoder_ros', executable='rig', namespace=LaunchConfiguration('namespace'), output='screen'),
        ]
    )
